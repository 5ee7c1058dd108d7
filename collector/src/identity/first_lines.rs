//! Lengths and CRC-32s of a file's beginning up to the end of each of its first lines.
//!
//! `copytruncate` copies whole lines, of a short life perhaps only the first one, and more may be read of
//! the life before it ends. Guards at parts of what was read are all behind such a copy's end then.

use super::checksum::Checksum;

/// So many lines.
const LINES: usize = 8;
/// Their ends are looked for in so many first bytes.
const WITHIN: u64 = 64 << 10;

/// What a file of which these lines were read begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FirstLines {
    ends: [u32; LINES],
    crcs: [u32; LINES],
    count: u8,
    /// So many bytes were looked at …
    read: u32,
    /// … and have this CRC-32.
    crc: u32,
}

impl FirstLines {
    /// Takes the ends of lines in bytes that were read, from `from` on. They have to go on where those
    /// before ended; others are left alone.
    pub(super) fn note(&mut self, from: u64, bytes: &[u8]) {
        if from != u64::from(self.read) {
            return;
        }
        let within = usize::try_from(WITHIN.saturating_sub(from)).unwrap_or(bytes.len());
        let mut rest = &bytes[..bytes.len().min(within)];
        while usize::from(self.count) < LINES && !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
            let mut crc = crc32fast::Hasher::new_with_initial_len(self.crc, u64::from(self.read));
            crc.update(line);
            (self.crc, self.read) = (crc.finalize(), self.read + line.len() as u32);
            if end.is_some() {
                self.push(Checksum { crc: self.crc, length: self.read });
            }
            rest = behind;
        }
    }

    /// Adds one that is longer than those before, if there is room.
    pub(super) fn push(&mut self, prefix: Checksum) {
        let count = usize::from(self.count);
        if count < LINES && self.all().next_back().is_none_or(|last| last.length < prefix.length) {
            (self.ends[count], self.crcs[count]) = (prefix.length, prefix.crc);
            self.count += 1;
        }
    }

    /// Whether a content of this checksum, which ends with a line, is what the file began with. None: so much is
    /// not known.
    pub(super) fn tell(&self, content: Checksum) -> Option<bool> {
        let last = self.all().next_back().map_or(0, |last| last.length);
        let is_full = usize::from(self.count) == LINES;
        let known = if is_full { last } else { self.read.max(last) };
        let is_beginning = self.all().any(|prefix| prefix == content);
        (is_beginning || content.length <= known).then_some(is_beginning)
    }

    /// Whether the first lines of a content are these, as far as it goes, and it has one at least.
    pub(super) fn are_in(&self, content: &[u8]) -> bool {
        let mut within =
            self.all().take_while(|line| line.length as usize <= content.len()).peekable();
        let is_there = |line: Checksum| Checksum::of(&content[..line.length as usize]) == line;
        within.peek().is_some() && within.all(is_there)
    }

    /// Those that are known, ascending.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = Checksum> + '_ {
        let count = usize::from(self.count);
        let known = self.ends[..count].iter().zip(&self.crcs[..count]);
        known.map(|(&length, &crc)| Checksum { crc, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checksum(bytes: &[u8]) -> Checksum {
        Checksum { crc: crc32fast::hash(bytes), length: bytes.len() as u32 }
    }

    proptest! {
        #[test]
        fn they_are_the_same_in_whatever_pieces_they_are_read(
            text in "([a-z]{0,12}\n?){0,14}",
            ends in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let text = text.as_bytes();
            let mut ends: Vec<usize> = ends.into_iter().map(|end| end.min(text.len())).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let (mut lines, mut from) = (FirstLines::default(), 0);
            for end in ends {
                lines.note(from as u64, &text[from..end]);
                from = end;
            }
            let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let expected: Vec<_> =
                newlines.take(LINES).map(|(at, _)| checksum(&text[..=at])).collect();
            prop_assert_eq!(lines.all().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_does_not_go_on_where_it_ended_says_nothing() {
        let mut lines = FirstLines::default();
        lines.note(3, b"b\nc\n");
        assert_eq!(lines.all().count(), 0);
        lines.note(0, b"a\nb");
        lines.note(0, b"a\nb");
        lines.note(3, b"\n");
        let expected = [checksum(b"a\n"), checksum(b"a\nb\n")];
        assert_eq!(lines.all().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_beginning_is_told_as_far_as_lines_are_known() {
        let mut lines = FirstLines::default();
        lines.note(0, b"a\nbb\nccc");
        let tell = |bytes: &[u8]| lines.tell(checksum(bytes));
        assert_eq!((tell(b"a\n"), tell(b"a\nbb\n")), (Some(true), Some(true)));
        assert_eq!(
            (tell(b"b\n"), tell(b"a\nbc\n"), tell(b"a\nb\n")),
            (Some(false), Some(false), Some(false))
        );
        assert_eq!(tell(b"a\nbb\ncccc\n"), None);
        let mut full = FirstLines::default();
        full.note(0, "a\n".repeat(LINES + 2).as_bytes());
        assert_eq!(full.tell(checksum("a\n".repeat(LINES).as_bytes())), Some(true));
        assert_eq!(full.tell(checksum("a\n".repeat(LINES + 1).as_bytes())), None);
    }

    #[test]
    fn a_line_that_ends_far_away_is_not_looked_for() {
        let mut lines = FirstLines::default();
        let long = [vec![b'a'; WITHIN as usize], b"\nb\n".to_vec()].concat();
        lines.note(0, &long);
        assert_eq!(lines.all().count(), 0);
        let mut lines = FirstLines::default();
        lines.note(0, &long[1..]);
        assert_eq!(lines.all().collect::<Vec<_>>(), [checksum(&long[1..=WITHIN as usize])]);
    }
}
