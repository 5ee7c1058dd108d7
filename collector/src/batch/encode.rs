//! Records as JSON: one object a record, one record a line.
//!
//! The layout is flat and its names are OpenTelemetry's (ARCHITECTURE.md lists them). A source's
//! attributes are escaped once, when its [`SourceEncoding`] is made; a record costs its timestamp,
//! its id and its body. Nothing is allocated but room in `out`.

use std::ops::Range;

use base64::{Engine, encoded_len, engine::general_purpose::STANDARD};

use super::{Framing, escape};
use crate::{
    identity::FileId,
    ledger::copies::Copies,
    record::{Body, Marks, Origin, Record, Stream},
    source::Source,
};

/// What ends every record of one source, by stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEncoding {
    /// From the quote that closes the body to the newline; stdout, stderr.
    endings: [Box<[u8]>; 2],
}

impl SourceEncoding {
    /// Encodes a source's attributes.
    pub fn new(source: &Source, framing: Framing) -> Self {
        let ending = |stream: &[u8]| {
            let mut out = stream.to_vec();
            for (key, value) in source.attributes() {
                out.extend_from_slice(b",\"");
                escape::append_str(&mut out, key);
                out.extend_from_slice(b"\":\"");
                escape::append_str(&mut out, value);
                out.push(b'"');
            }
            out.extend_from_slice(match framing {
                Framing::Lines => b"}\n",
                Framing::Array => b"},\n",
            });
            out.into_boxed_slice()
        };
        Self { endings: [ending(STDOUT), ending(STDERR)] }
    }

    /// Bytes that a record is longer than its escaped body, at most, leaving out marks.
    pub fn overhead(&self) -> usize {
        HEAD + self.endings[0].len()
    }

    #[inline]
    fn ending(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Stdout => &self.endings[0],
            Stream::Stderr => &self.endings[1],
            // The quote that closes the stream's name does as well for the body.
            Stream::None => &self.endings[0][STDOUT.len() - 1..],
        }
    }
}

/// What stands between a record's timestamp and the offset in its id, made once per file.
#[derive(Debug)]
pub struct UidPrefix {
    file: FileId,
    /// It is that of records that begin in here.
    range: Range<u64>,
    text: [u8; UID_PREFIX],
    /// Their records are named after others.
    copies: Copies,
}

const UID: &[u8; 20] = b"\",\"log.record.uid\":\"";
const UID_PREFIX: usize = UID.len() + 17;

impl UidPrefix {
    /// Of no file's records yet.
    pub fn new(copies: Copies) -> Self {
        let mut text = [b'-'; UID_PREFIX];
        text[..UID.len()].copy_from_slice(UID);
        Self { file: FileId(0), range: 0..0, text, copies }
    }

    /// Whose records it is of is asked again.
    pub(super) fn forget(&mut self) {
        self.range = 0..0;
    }

    /// The prefix of a record that begins there.
    #[inline]
    fn of(&mut self, origin: Origin) -> &[u8; UID_PREFIX] {
        if self.file != origin.file || !self.range.contains(&origin.offset) {
            self.turn_to(origin);
        }
        &self.text
    }

    #[cold]
    fn turn_to(&mut self, Origin { file, offset }: Origin) {
        let (life, range) = self.copies.life_at(file, offset);
        self.text[UID.len()..UID_PREFIX - 1].copy_from_slice(&hex(life.0));
        (self.file, self.range) = (file, range);
    }
}

impl Default for UidPrefix {
    fn default() -> Self {
        Self::new(Copies::default())
    }
}

/// Begins a payload.
pub fn begin(out: &mut Vec<u8>, framing: Framing) {
    if framing == Framing::Array {
        out.extend_from_slice(b"[\n");
    }
}

/// Ends a payload: takes back the last record's comma.
pub fn end(out: &mut Vec<u8>, framing: Framing) {
    if framing == Framing::Array {
        if out.ends_with(b",\n") {
            out.truncate(out.len() - 2);
            out.push(b'\n');
        }
        out.extend_from_slice(b"]\n");
    }
}

/// Appends one record. `observed` (RFC 3339) is when it was read, for a record that does not say
/// when it was written; `uid` is kept from record to record.
#[inline]
pub fn append(
    out: &mut Vec<u8>,
    source: &SourceEncoding,
    uid: &mut UidPrefix,
    record: &Record<'_>,
    observed: &[u8],
) {
    let ending = source.ending(record.stream);
    append_head(out, record.timestamp, observed, uid.of(record.origin), record.origin.offset);
    let lossy = match record.body {
        Body::Raw(bytes) => {
            let text = escape::append(out, bytes);
            (text == escape::Text::Lossy).then_some(bytes)
        }
        Body::Json(literal) => {
            out.extend_from_slice(literal);
            None
        }
    };
    if lossy.is_some() || record.marks != Marks::default() {
        out.push(b'"');
        append_unusual(out, lossy, record.marks);
        out.extend_from_slice(&ending[1..]);
    } else {
        out.extend_from_slice(ending);
    }
}

/// `{"timestamp":"…","log.record.uid":"…","body":"`.
#[inline]
fn append_head(
    out: &mut Vec<u8>,
    timestamp: Option<&[u8]>,
    observed: &[u8],
    uid: &[u8; UID_PREFIX],
    offset: u64,
) {
    match timestamp {
        Some(timestamp) => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            out.extend_from_slice(timestamp);
        }
        None => {
            out.extend_from_slice(b"{\"observed_timestamp\":\"");
            out.extend_from_slice(observed);
        }
    }
    out.extend_from_slice(uid);
    append_hex(out, offset);
    out.extend_from_slice(b"\",\"body\":\"");
}

/// Appends a number without leading zeros: all its digits are, the first significant one in front.
#[inline]
fn append_hex(out: &mut Vec<u8>, value: u64) {
    if let Ok(value) = u32::try_from(value) {
        let zeros = (value | 1).leading_zeros() / 4;
        out.extend_from_slice(&eight_digits(value << (zeros * 4)));
        out.truncate(out.len() - zeros as usize);
    } else {
        let zeros = value.leading_zeros() / 4;
        out.extend_from_slice(&hex(value << (zeros * 4)));
        out.truncate(out.len() - zeros as usize);
    }
}

/// `,"everyline.…":…` for everything that is not as usual.
#[cold]
fn append_unusual(out: &mut Vec<u8>, exact: Option<&[u8]>, marks: Marks) {
    if let Some(bytes) = exact {
        out.extend_from_slice(b",\"everyline.body_base64\":\"");
        let start = out.len();
        let len = encoded_len(bytes.len(), true).expect("a message is far shorter than memory");
        out.resize(start + len, 0);
        STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room is made to measure");
        out.push(b'"');
    }
    let Marks { unparsed, partial, split, split_last, cut } = marks;
    let mut number = itoa::Buffer::new();
    if unparsed {
        out.extend_from_slice(b",\"everyline.unparsed\":true");
    }
    if partial {
        out.extend_from_slice(b",\"everyline.partial\":true");
    }
    if split > 0 {
        out.extend_from_slice(b",\"everyline.split\":");
        out.extend_from_slice(number.format(split).as_bytes());
    }
    if split_last {
        out.extend_from_slice(b",\"everyline.split_last\":true");
    }
    if cut > 0 {
        out.extend_from_slice(b",\"everyline.cut_bytes\":");
        out.extend_from_slice(number.format(cut).as_bytes());
    }
}

/// Sixteen hexadecimal digits.
fn hex(value: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&eight_digits((value >> 32) as u32));
    digits[8..].copy_from_slice(&eight_digits(value as u32));
    digits
}

/// Eight hexadecimal digits at once: each nibble in a byte of its own, then the distance to its
/// letter added where it is above nine.
#[inline]
fn eight_digits(value: u32) -> [u8; 8] {
    let mut nibbles = u64::from(value);
    nibbles = (nibbles | nibbles << 16) & 0x0000_FFFF_0000_FFFF;
    nibbles = (nibbles | nibbles << 8) & 0x00FF_00FF_00FF_00FF;
    nibbles = (nibbles | nibbles << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// What stands between the body and the source's attributes.
const STDOUT: &[u8; 25] = b"\",\"log.iostream\":\"stdout\"";
const STDERR: &[u8; 25] = b"\",\"log.iostream\":\"stderr\"";

/// Everything before the body, at its longest.
const HEAD: usize =
    b"{\"observed_timestamp\":\"\",\"log.record.uid\":\"\",\"body\":\"".len() + 35 + 33;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{record::Origin, source::Format};

    fn source(attributes: &[(String, String)]) -> Source {
        Source {
            attributes: attributes.iter().cloned().collect(),
            ..Source::anonymous("/var/log/pods/a_b_c/d/0.log", Format::Cri)
        }
    }

    fn example() -> SourceEncoding {
        let attributes = [("k8s.pod.name".to_owned(), "a \"b\"".to_owned())];
        SourceEncoding::new(&source(&attributes), Framing::Lines)
    }

    fn record(body: Body<'_>) -> Record<'_> {
        Record {
            origin: Origin { file: FileId(0xab_cdef), offset: 0x1f },
            timestamp: Some(b"2026-11-22T01:42:33Z"),
            stream: Stream::Stdout,
            body,
            marks: Marks::default(),
        }
    }

    fn encode(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        append(&mut out, &example(), &mut UidPrefix::default(), record, b"2026-01-01T00:00:00Z");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_layout() {
        assert_eq!(
            encode(&record(Body::Raw(b"say \"hi\"\t"))),
            "{\"timestamp\":\"2026-11-22T01:42:33Z\",\"log.record.uid\":\"0000000000abcdef-1f\",\
             \"body\":\"say \\\"hi\\\"\\t\",\"log.iostream\":\"stdout\",\
             \"k8s.pod.name\":\"a \\\"b\\\"\"}\n"
        );
        assert_eq!(
            encode(&Record {
                timestamp: None,
                stream: Stream::None,
                origin: Origin { file: FileId(u64::MAX), offset: 0 },
                ..record(Body::Json(b"\\u003c"))
            }),
            "{\"observed_timestamp\":\"2026-01-01T00:00:00Z\",\
             \"log.record.uid\":\"ffffffffffffffff-0\",\"body\":\"\\u003c\",\
             \"k8s.pod.name\":\"a \\\"b\\\"\"}\n"
        );
        for marks in [Marks::default(), Marks { partial: true, ..Marks::default() }] {
            let stdout = record(Body::Raw(b"stdout"));
            let stderr = Record { stream: Stream::Stderr, ..stdout };
            let [stdout, stderr] = [stdout, stderr].map(|it| encode(&Record { marks, ..it }));
            assert_eq!(stderr, stdout.replace("m\":\"stdout", "m\":\"stderr"));
            assert_ne!(stderr, stdout);
        }
    }

    #[test]
    fn marks_stand_behind_the_body() {
        let marks = Marks { unparsed: true, partial: true, split: 2, split_last: true, cut: 123 };
        assert!(encode(&Record { marks, ..record(Body::Raw(b"x")) }).contains(
            "\"body\":\"x\",\"everyline.unparsed\":true,\"everyline.partial\":true,\
             \"everyline.split\":2,\"everyline.split_last\":true,\"everyline.cut_bytes\":123,\
             \"log.iostream\""
        ));
    }

    #[test]
    fn what_is_not_utf8_is_there_twice() {
        assert!(encode(&record(Body::Raw(b"a\xff\"b"))).contains(
            "\"body\":\"a\u{FFFD}\\\"b\",\"everyline.body_base64\":\"Yf8iYg==\",\"log.iostream\""
        ));
    }

    #[test]
    fn an_array_is_one_json_document() {
        for count in 0..4 {
            let source = SourceEncoding::new(&source(&[]), Framing::Array);
            let mut out = Vec::new();
            begin(&mut out, Framing::Array);
            for _ in 0..count {
                append(
                    &mut out,
                    &source,
                    &mut UidPrefix::default(),
                    &record(Body::Raw(b",\n")),
                    b"",
                );
            }
            end(&mut out, Framing::Array);
            let array: Vec<Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(array.len(), count);
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), count + 2);
            assert!(out.starts_with(b"[\n") && out.ends_with(b"\n]\n"));
        }
    }

    fn marks() -> impl Strategy<Value = Marks> {
        (any::<bool>(), any::<bool>(), 0_u32..3, any::<bool>(), 0_u64..3).prop_map(
            |(unparsed, partial, split, split_last, cut)| Marks {
                unparsed,
                partial,
                split,
                split_last,
                cut,
            },
        )
    }

    proptest! {
        #[test]
        fn reads_back_as_what_it_was(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            text in "\\PC{0,40}",
            is_text in any::<bool>(),
            marks in marks(),
            (file, offset) in (any::<u64>(), any::<u64>()),
            keys in proptest::collection::btree_map("[a-z\"\\\\.]{1,9}", "(\\PC|[\0-\x1f]){0,20}", 0..4),
        ) {
            let body = if is_text { text.into_bytes() } else { body };
            let attributes: Vec<_> = keys.into_iter().map(|(key, value)| (format!("a.{key}"), value)).collect();
            let encoding = SourceEncoding::new(&source(&attributes), Framing::Lines);
            let origin = Origin { file: FileId(file), offset };
            let record = Record { origin, marks, ..record(Body::Raw(&body)) };
            let mut out = Vec::new();
            append(&mut out, &encoding, &mut UidPrefix::default(), &record, b"");
            prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
            let read: serde_json::Map<String, Value> = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&read["body"], &*String::from_utf8_lossy(&body));
            prop_assert_eq!(&read["log.record.uid"], &format!("{file:016x}-{offset:x}"));
            match std::str::from_utf8(&body) {
                Ok(_) => prop_assert!(!read.contains_key("everyline.body_base64")),
                Err(_) => {
                    let exact = read["everyline.body_base64"].as_str().unwrap();
                    prop_assert_eq!(&STANDARD.decode(exact).unwrap(), &body);
                }
            }
            prop_assert_eq!(read.get("everyline.unparsed").is_some(), marks.unparsed);
            prop_assert_eq!(read.get("everyline.partial").is_some(), marks.partial);
            prop_assert_eq!(read.get("everyline.split").and_then(Value::as_u64).unwrap_or(0), u64::from(marks.split));
            prop_assert_eq!(read.get("everyline.cut_bytes").and_then(Value::as_u64).unwrap_or(0), marks.cut);
            for (key, value) in &attributes {
                prop_assert_eq!(&read[key], value);
            }
            if body.is_ascii() && marks == Marks::default() {
                let escaped = 6 * body.iter().filter(|b| **b < 0x20 || matches!(b, b'"' | b'\\')).count();
                prop_assert!(out.len() <= encoding.overhead() + body.len() + escaped);
            }
        }
    }
}
