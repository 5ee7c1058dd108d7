//! Segment: the format of the archive's files. Sans I/O.
//!
//! A frame, all numbers little-endian:
//!
//! ```text
//! u32 0x184D2A5E   zstd skippable frame: every zstd decoder passes over it
//! u32 length       of the content, which is:
//!   [4] "evl1"     format and version
//!   u32 crc32c     of the content after this field
//!   u64 offset     of this frame in its file: bytes that only look like a header (inside damaged
//!                  data) cannot pass for one
//!   u32 crc32c     of the payload
//!   u32 length     of the payload
//!   u32 raw length of the payload, decompressed
//!   u32 lines
//!   i64 from, i64 to   seconds; contain every record's time
//!   u16 labels     0xFFFF: not known, anything may be in it
//!   labels × (namespace, pod, container), each: u16 length (0xFFFF: none), UTF-8
//! payload          one zstd frame of NDJSON
//! ```
//!
//! Says nothing about where segments lie or who may write them; see `write` and `read`.

use std::collections::BTreeSet;

use crate::{
    batch::{Batch, TimeBounds},
    source::Source,
};

/// Decompressed bytes a frame may claim to have; a larger claim is treated as damage.
pub const MAX_RAW_LEN: usize = 256 << 20;

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = 0x184D_2A5E_u32.to_le_bytes();

const TAG: [u8; 4] = *b"evl1";
const PREFIX: usize = 8;
const FIXED: usize = 50;
const MAX_CONTENT: usize = 64 << 10;
const NONE: u16 = u16::MAX;
const ANY: u16 = u16::MAX;

/// Whose lines: one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Kubernetes namespace, if known.
    pub namespace: Option<Box<str>>,
    /// Pod name, if known.
    pub pod: Option<Box<str>>,
    /// Container name, if known.
    pub container: Option<Box<str>>,
}

/// Whose lines a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// These and no others.
    Known(Vec<Label>),
    /// Too many to list.
    Any,
}

/// What a frame's payload covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Of the payload as stored.
    pub payload_crc: u32,
    /// Bytes of the payload as stored.
    pub payload_len: usize,
    /// Bytes of the payload, decompressed.
    pub raw_len: usize,
    /// How many records the frame holds.
    pub lines: u32,
    /// Contains every record's time.
    pub times: TimeBounds,
    /// Whose they are.
    pub labels: Labels,
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header; the payload begins this many bytes later.
    Header(Header, usize),
    /// Perhaps a header, but its end is not there: at least this many bytes are needed.
    Incomplete(usize),
    /// Not a header.
    Invalid,
}

impl Label {
    /// A source's label.
    pub fn of(source: &Source) -> Self {
        Self {
            namespace: source.namespace().map(Box::from),
            pod: source.pod().map(Box::from),
            container: source.container().map(Box::from),
        }
    }
}

impl Header {
    /// The header of a batch.
    pub fn of(batch: &Batch) -> Self {
        let labels: BTreeSet<Label> =
            batch.sources.iter().map(|source| Label::of(source)).collect();
        Self::new(
            &batch.payload,
            batch.raw_len,
            batch.lines,
            batch.times,
            labels.into_iter().collect(),
        )
    }

    /// The header of a payload that is `raw_len` bytes decompressed.
    pub fn new(
        payload: &[u8],
        raw_len: usize,
        lines: u32,
        times: TimeBounds,
        labels: Vec<Label>,
    ) -> Self {
        Self {
            payload_crc: crc32c::crc32c(payload),
            payload_len: payload.len(),
            raw_len,
            lines,
            times,
            labels: Labels::Known(labels),
        }
    }

    /// The header as it stands at `offset` in a segment.
    pub fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX + FIXED + 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&TAG);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        for number in [self.payload_len, self.raw_len] {
            // Batches are bounded far below; a larger one reads as damaged, it does not wrap.
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.lines.to_le_bytes());
        out.extend_from_slice(&self.times.from.to_le_bytes());
        out.extend_from_slice(&self.times.to.to_le_bytes());
        encode_labels(&self.labels, &mut out);
        let length = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
        out[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&out[PREFIX + 8..]);
        out[PREFIX + 4..PREFIX + 8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header that begins `bytes`, which stand at `offset` in a segment.
    pub fn parse(bytes: &[u8], offset: u64) -> Parsed {
        let start = bytes.len().min(MAGIC.len());
        if bytes[..start] != MAGIC[..start] {
            return Parsed::Invalid;
        }
        let Some(&length) = bytes.get(4..).and_then(<[u8]>::first_chunk::<4>) else {
            return Parsed::Incomplete(PREFIX);
        };
        let length = u32::from_le_bytes(length) as usize;
        if !(FIXED..=MAX_CONTENT).contains(&length) {
            return Parsed::Invalid;
        }
        let total = PREFIX + length;
        let Some(content) = bytes.get(PREFIX..total) else {
            return Parsed::Incomplete(total);
        };
        match parse_content(content, offset) {
            Some(header) => Parsed::Header(header, total),
            None => Parsed::Invalid,
        }
    }

    /// Whether `payload` is what the header was written for.
    pub fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_len && crc32c::crc32c(payload) == self.payload_crc
    }
}

fn encode_labels(labels: &Labels, out: &mut Vec<u8>) {
    let count_at = out.len();
    out.extend_from_slice(&ANY.to_le_bytes());
    let Labels::Known(labels) = labels else { return };
    for label in labels {
        for text in [&label.namespace, &label.pod, &label.container] {
            let text = text.as_deref();
            let length = text.map_or(Some(NONE), |text| u16::try_from(text.len()).ok());
            let room = out.len() + 2 + text.map_or(0, str::len) <= PREFIX + MAX_CONTENT;
            let Some(length) = length.filter(|length| room && (*length != NONE || text.is_none()))
            else {
                // They do not fit: say so instead of listing some of them.
                out.truncate(count_at + 2);
                return;
            };
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
    }
    let count = u16::try_from(labels.len()).unwrap_or(ANY);
    if count == ANY {
        out.truncate(count_at + 2);
    }
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
}

fn parse_content(content: &[u8], offset: u64) -> Option<Header> {
    let mut fields = Fields(content);
    if fields.take::<4>()? != TAG {
        return None;
    }
    let crc = u32::from_le_bytes(fields.take()?);
    if crc32c::crc32c(fields.0) != crc || u64::from_le_bytes(fields.take()?) != offset {
        return None;
    }
    let payload_crc = u32::from_le_bytes(fields.take()?);
    let payload_len = u32::from_le_bytes(fields.take()?) as usize;
    let raw_len = u32::from_le_bytes(fields.take()?) as usize;
    let lines = u32::from_le_bytes(fields.take()?);
    let from = i64::from_le_bytes(fields.take()?);
    let to = i64::from_le_bytes(fields.take()?);
    let labels = match u16::from_le_bytes(fields.take()?) {
        ANY => Labels::Any,
        count => Labels::Known((0..count).map(|_| fields.label()).collect::<Option<_>>()?),
    };
    let times = TimeBounds { from, to };
    (raw_len <= MAX_RAW_LEN).then_some(Header {
        payload_crc,
        payload_len,
        raw_len,
        lines,
        times,
        labels,
    })
}

/// What is left to read of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn label(&mut self) -> Option<Label> {
        Some(Label { namespace: self.text()?, pod: self.text()?, container: self.text()? })
    }

    fn text(&mut self) -> Option<Option<Box<str>>> {
        let length = u16::from_le_bytes(self.take()?);
        if length == NONE {
            return Some(None);
        }
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(text).ok()?.into()))
    }
}

/// A segment's file name: sorts by sequence. `created` is in seconds since the epoch.
pub fn file_name(sequence: u64, created: i64) -> String {
    format!("{sequence:010}-{created}.zst")
}

/// The sequence number in a segment's file name; `None`: not a segment.
pub fn sequence_of(name: &str) -> Option<u64> {
    let (sequence, created) = name.strip_suffix(".zst")?.split_once('-')?;
    let _created: i64 = created.parse().ok()?;
    (sequence.len() >= 10).then(|| sequence.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label() -> impl Strategy<Value = Label> {
        let text = || proptest::option::of("\\PC{0,12}".prop_map(Box::from));
        (text(), text(), text()).prop_map(|(namespace, pod, container)| Label {
            namespace,
            pod,
            container,
        })
    }

    fn header() -> impl Strategy<Value = Header> {
        let labels = proptest::collection::vec(label(), 0..5);
        (any::<Vec<u8>>(), 0..MAX_RAW_LEN, any::<u32>(), any::<(i64, i64)>(), labels).prop_map(
            |(payload, raw_len, lines, (from, to), labels)| {
                Header::new(&payload, raw_len, lines, TimeBounds { from, to }, labels)
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_reads_back(header in header(), offset: u64) {
            let bytes = header.encode(offset);
            prop_assert_eq!(Header::parse(&bytes, offset), Parsed::Header(header, bytes.len()));
            for cut in 0..bytes.len() {
                let needed = if cut < PREFIX { PREFIX } else { bytes.len() };
                prop_assert_eq!(Header::parse(&bytes[..cut], offset), Parsed::Incomplete(needed));
            }
        }

        #[test]
        fn a_changed_or_moved_header_is_none(header in header(), at: prop::sample::Index, bit in 0_u8..8) {
            let mut bytes = header.encode(7);
            prop_assert_eq!(Header::parse(&bytes, 8), Parsed::Invalid);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(!matches!(Header::parse(&bytes, 7), Parsed::Header(..)));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes: Vec<u8>) {
            let _any = Header::parse(&bytes, 0);
            bytes.splice(0..0, MAGIC);
            let _any = Header::parse(&bytes, 0);
        }
    }

    #[test]
    fn too_many_labels_become_any() {
        let times = TimeBounds { from: 0, to: 0 };
        let label = Label { namespace: None, pod: Some("p".repeat(100).into()), container: None };
        let header = Header::new(b"", 0, 0, times, vec![label; 1_000]);
        let Parsed::Header(read, _) = Header::parse(&header.encode(0), 0) else { panic!() };
        assert_eq!(read.labels, Labels::Any);
    }

    #[test]
    fn names_sort_by_sequence_and_strangers_are_none() {
        assert!(file_name(9, 99) < file_name(10, 1));
        assert_eq!(sequence_of(&file_name(12_345_678_901, 5)), Some(12_345_678_901));
        for name in ["x.zst", "1-2.zst", "0000000001-2.zst.tmp", "0000000001-x.zst", "archive.id"] {
            assert_eq!(sequence_of(name), None, "{name}");
        }
    }
}
