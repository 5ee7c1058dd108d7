//! Runs of NULs: what a hole reads as, and what a power cut leaves where data was not written yet.
//! Whether a writer is about to fill them, `reader/doubt.rs` finds out.
//!
//! A run of at least [`RUN`] ends the line before it, as the end of a file would, and is skipped; the
//! line behind it begins there. Shorter ones are text, but for those at the start of a line, which
//! decoders know. A run that reaches to the end of what is there is left alone: a writer that
//! allocates ahead may still fill it. Where a run ends is asked of the filesystem, which steps over
//! a hole at once; one that knows no holes costs the time to read them, and gives the same records.

use std::{io, ops::Range};

use super::content::Content;
use crate::identity::holes::{RUN, data_from, text_len};

/// Bytes looked through at once beyond a chunk.
const STEP: usize = 64 << 10;
/// Of a file that knows no holes, so much is looked through in one turn.
const AT_ONCE: u64 = 16 << 20;

/// What a chunk begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Bytes without a run, and without NULs at their end that may become one.
    pub(super) text: usize,
    /// What follows them.
    pub(super) then: Then,
}

impl Segment {
    /// The same in whole code units of `unit` bytes, where the chunk of `len` bytes begins at `offset`: a
    /// NUL may be half of the character before a run, or of the one behind it.
    pub(super) fn in_units(self, offset: u64, unit: u64, len: usize) -> Self {
        if unit == 1 {
            return self;
        }
        let half = |at: usize| ((offset + at as u64) % unit) as usize;
        // What is left out of a text is NULs.
        let text = (self.text + half(self.text)).min(len);
        let then = match self.then {
            Then::Run(run) => {
                let end = self.text + run;
                Then::Run(end - half(end) - text)
            }
            then => then,
        };
        Self { text, then }
    }
}

/// What follows a chunk's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The chunk's end, or less than a run before it.
    End,
    /// A run of this length, and other bytes behind it.
    Run(usize),
    /// A run up to the chunk's end.
    Open,
}

/// NULs in a chunk that other bytes stand behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zeros {
    /// Where the first of them are.
    pub(super) run: Range<usize>,
    /// Where those other bytes end.
    pub(super) data: usize,
}

/// What lies behind a run that reached to the end of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Other bytes, from this offset on.
    Data(u64),
    /// Nothing: the file ends here.
    Nothing(u64),
    /// Looked through up to here; there is more to look through.
    NotYet(u64),
}

/// Finds the first run. One byte in [`RUN`] is looked at where there is none.
#[inline]
pub(super) fn segment(bytes: &[u8]) -> Segment {
    let mut at = RUN - 1;
    while let Some(byte) = bytes.get(at) {
        if *byte == 0 {
            let (start, end) = around(bytes, at);
            if end == bytes.len() {
                break;
            }
            if end - start >= RUN {
                return Segment { text: start, then: Then::Run(end - start) };
            }
        }
        at += RUN;
    }
    let text = text_len(bytes);
    let then = if bytes.len() - text >= RUN { Then::Open } else { Then::End };
    Segment { text, then }
}

/// The run of NULs that the one at `at` belongs to.
#[cold]
fn around(bytes: &[u8], at: usize) -> (usize, usize) {
    let behind = bytes[at..].iter().position(|byte| *byte != 0);
    (text_len(&bytes[..at]), behind.map_or(bytes.len(), |len| at + len))
}

/// Up to where a chunk at `offset` is there for certain: all but a run at its end, in whole code units.
pub(super) fn certain(bytes: &[u8], offset: u64, unit: usize) -> u64 {
    let (text, end) = (text_len(bytes), offset + bytes.len() as u64);
    if bytes.len() - text < RUN {
        return end;
    }
    (offset + text as u64).next_multiple_of(unit as u64).min(end)
}

/// The first NULs of a chunk, from its byte `from` on, that other bytes stand behind. The chunk begins at
/// `offset`; half a code unit of `unit` bytes is no NUL.
pub(super) fn before_data(bytes: &[u8], from: u64, offset: u64, unit: usize) -> Option<Zeros> {
    let data = text_len(bytes);
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let text = bytes.get(from..data)?;
    let start = from
        + match unit {
            1 => memchr::memchr(0, text)?,
            _ => {
                let at = offset + from as u64;
                let first = (at.next_multiple_of(unit as u64) - at) as usize;
                let mut units = text.get(first..)?.chunks_exact(unit);
                first + unit * units.position(|unit| unit.iter().all(|byte| *byte == 0))?
            }
        };
    let len = bytes[start..data].iter().position(|byte| *byte != 0)?;
    Some(Zeros { run: start..start + len, data })
}

/// How far a file holds other bytes than NULs: up to `known` at least, and as far beyond that as looks at a
/// few places tell, each twice as far as the one before, and at its end.
pub(super) fn data_end(content: &Content, known: u64) -> io::Result<u64> {
    let Some(file) = content.plain() else { return Ok(known) };
    let size = file.metadata()?.len();
    let (mut end, mut at, mut step) = (known, known, RUN as u64);
    let mut place = [0; RUN];
    while at < size {
        at = at.saturating_add(step).min(size);
        let start = at.saturating_sub(RUN as u64);
        let piece = content.read_at(&mut place, start)?;
        let text = text_len(&place[..piece.bytes]);
        if text > 0 {
            end = end.max(start + text as u64);
        }
        step *= 2;
    }
    Ok(end)
}

/// Where the run ends that has reached `from`.
pub(super) fn behind(content: &Content, from: u64) -> io::Result<Behind> {
    let mut buffer = vec![0; STEP];
    let (mut at, mut read) = (from, 0);
    while read < AT_ONCE {
        if let Some(file) = content.plain() {
            match data_from(file, at)? {
                Some(data) => at = data,
                None => return Ok(Behind::Nothing(file.metadata()?.len().max(at))),
            }
        }
        let piece = content.read_at(&mut buffer, at)?;
        if let Some(data) = buffer[..piece.bytes].iter().position(|byte| *byte != 0) {
            return Ok(Behind::Data(at + data as u64));
        }
        (at, read) = (at + piece.bytes as u64, read + piece.bytes as u64);
        if piece.at_end {
            return Ok(Behind::Nothing(at));
        }
        if piece.bytes == 0 {
            // What is compressed there unpacks to nothing, so far.
            break;
        }
    }
    Ok(Behind::NotYet(at))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use proptest::prelude::*;

    use super::*;
    use crate::identity::holes::length;

    /// A byte at a time.
    fn naive(bytes: &[u8]) -> Segment {
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == 0 {
                run += 1;
                continue;
            }
            if run >= RUN {
                return Segment { text: at - run, then: Then::Run(run) };
            }
            run = 0;
        }
        let then = if run >= RUN { Then::Open } else { Then::End };
        Segment { text: bytes.len() - run, then }
    }

    fn stretches() -> impl Strategy<Value = Vec<u8>> {
        let stretch = prop_oneof![
            (1_usize..3 * RUN).prop_map(|len| vec![0; len]),
            (RUN - 2..RUN + 3).prop_map(|len| vec![0; len]),
            (1_usize..3 * RUN).prop_map(|len| vec![b'x'; len]),
            Just(b"\n".to_vec()),
        ];
        prop::collection::vec(stretch, 0..6).prop_map(|stretches| stretches.concat())
    }

    proptest! {
        #[test]
        fn no_run_is_overlooked_and_none_made_up(bytes in stretches()) {
            prop_assert_eq!(segment(&bytes), naive(&bytes));
            let open = naive(&bytes).then == Then::Open;
            let trailing = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            let certain = certain(&bytes, 7, 1) - 7;
            prop_assert!(!open || certain == (bytes.len() - trailing) as u64);
            prop_assert!(trailing >= RUN || certain == bytes.len() as u64);
        }
    }

    #[test]
    fn halves_of_code_units_are_no_part_of_a_run() {
        let zeros = |len| vec![0; len];
        let segment_of = |bytes: &[u8], offset| segment(bytes).in_units(offset, 2, bytes.len());
        // "a" and a newline, their zeros last, before a run and at the end.
        let text = b"a\0\n\0";
        let run = [&text[..], &zeros(600), b"b\0"].concat();
        assert_eq!(segment_of(&run, 10), Segment { text: 4, then: Then::Run(600) });
        assert_eq!(segment_of(text, 10), Segment { text: 4, then: Then::End });
        let open = [&text[..], &zeros(600)].concat();
        assert_eq!(segment_of(&open, 10), Segment { text: 4, then: Then::Open });
        // The same with zeros first.
        let run = [&b"\0a\0\n"[..], &zeros(600), b"\0b"].concat();
        assert_eq!(segment_of(&run, 10), Segment { text: 4, then: Then::Run(600) });
        assert_eq!(segment_of(b"\0a\0\n\0", 10), Segment { text: 4, then: Then::End });
        // Code units begin at even offsets, wherever the chunk does.
        assert_eq!(segment_of(b"\0\n\0", 11), Segment { text: 3, then: Then::End });
        assert_eq!(segment_of(b"\na\0\n", 11), Segment { text: 4, then: Then::End });
    }

    #[test]
    fn zeros_are_found_that_other_bytes_stand_behind() {
        let find = |bytes: &[u8], from| {
            before_data(bytes, from, 10, 1).map(|zeros| (zeros.run, zeros.data))
        };
        assert_eq!(find(b"a\0\0b\0", 0), Some((1..3, 4)));
        assert_eq!(find(b"a\0\0b\0c", 3), Some((4..5, 6)));
        assert_eq!(find(b"a\0\0b\0\0", 3), None, "nothing stands behind the last ones");
        assert_eq!((find(b"ab", 0), find(b"", 0), find(b"\0b", 7)), (None, None, None));
        // Of UTF-16, at even offsets.
        let find = |bytes: &[u8], offset| {
            before_data(bytes, 0, offset, 2).map(|zeros| (zeros.run, zeros.data))
        };
        assert_eq!(find(b"a\0b\0", 10), None);
        assert_eq!(find(b"a\0\0\0b\0", 10), Some((2..4, 5)));
        assert_eq!(find(b"\0a\0\0\0\0b\0", 11), Some((3..6, 7)));
    }

    #[test]
    fn the_end_of_what_was_written_is_found_at_few_places() {
        let text = vec![b'x'; 100_000];
        let (_dir, content) = sparse(&[(0, &text)], 100_000);
        assert_eq!(data_end(&content, 10).unwrap(), 100_000);
        let (_dir, content) = sparse(&[(0, &text)], 1 << 40);
        let end = data_end(&content, 10).unwrap();
        assert!((50_000..=100_000).contains(&end), "{end}");
        let (_dir, content) = sparse(&[(0, b"a"), (1 << 20, b"b")], (1 << 20) + 1);
        assert_eq!(data_end(&content, 1).unwrap(), (1 << 20) + 1);
        assert_eq!(data_end(&content, 1 << 30).unwrap(), 1 << 30);
    }

    fn sparse(parts: &[(u64, &[u8])], size: u64) -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(dir.path().join("a.log"))
            .unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        file.set_len(size).unwrap();
        (dir, Content::Plain(file.into()))
    }

    #[test]
    fn a_hole_of_a_tebibyte_is_stepped_over_at_once() {
        let size = 1 << 40;
        let (_dir, content) = sparse(&[(0, b"a\n"), (size - 2, b"b\n")], size);
        let began = std::time::Instant::now();
        assert_eq!(behind(&content, 2).unwrap(), Behind::Data(size - 2));
        assert_eq!(length(content.plain().unwrap(), 0).unwrap(), size);
        assert!(began.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_hole_at_the_end_is_not_counted_and_nothing_lies_behind_it() {
        let size = 1 << 40;
        let (_dir, content) = sparse(&[(0, b"a\n"), (1 << 30, b"b\n")], size);
        let file = content.plain().unwrap();
        assert_eq!(behind(&content, (1 << 30) + 2).unwrap(), Behind::Nothing(size));
        assert_eq!(length(file, 2).unwrap(), (1 << 30) + 2);
        assert_eq!(length(file, (1 << 30) + 2).unwrap(), (1 << 30) + 2);
    }

    #[test]
    fn zeros_that_were_written_are_read_through() {
        let (_dir, content) =
            sparse(&[(0, b"a\n"), (2, &[0; 300_000]), (300_002, b"b\n")], 300_004);
        assert_eq!(behind(&content, 2).unwrap(), Behind::Data(300_002));
        let (_dir, content) = sparse(&[(0, b"a\n"), (2, &[0; 30_000])], 30_002);
        assert_eq!(behind(&content, 2).unwrap(), Behind::Nothing(30_002));
        assert_eq!(length(content.plain().unwrap(), 0).unwrap(), 2);
        let (_dir, content) = sparse(&[(0, b"a\n"), (2, &vec![0; 20 << 20])], (20 << 20) + 2);
        assert!(matches!(behind(&content, 2).unwrap(), Behind::NotYet(at) if at > 16 << 20));
    }

    #[test]
    fn few_zeros_at_the_end_are_bytes_like_others() {
        let (_dir, content) = sparse(&[(0, b"a\n"), (2, &[0; RUN - 1])], 2 + RUN as u64 - 1);
        assert_eq!(length(content.plain().unwrap(), 0).unwrap(), 2 + RUN as u64 - 1);
    }
}
