//! The journal's bytes: records framed, and read back whatever happened to them. Sans I/O.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Change, State};

/// The format version that this code reads and writes.
pub(super) const VERSION: u32 = 1;

/// What a journal's bytes came to.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// All readable records applied, in order.
    pub(crate) state: State,
    /// Bytes up to the end of the last line; what follows is an unfinished record.
    pub(crate) whole_len: usize,
    /// Bytes of the unfinished record at the end.
    pub(crate) torn_len: usize,
    /// Records applied (the header not counted).
    pub(crate) records: usize,
    /// Unreadable stretches before `whole_len`.
    pub(crate) damaged: Vec<Range<usize>>,
    /// No readable header (`damaged` may or may not show where it was).
    pub(crate) headless: bool,
    /// Written in another format version: nothing was read.
    pub(crate) foreign_version: Option<u32>,
}

impl Recovery {
    /// Whether more is missing than the unfinished record that a crash leaves.
    pub(super) fn is_damaged(&self) -> bool {
        self.headless || !self.damaged.is_empty() || self.foreign_version.is_some()
    }
}

/// Appends a record holding all of `changes` and `more` to `out`. Returns its length.
pub(crate) fn encode_record(changes: &[Change], more: &[Change], out: &mut Vec<u8>) -> usize {
    encode(&Concat(changes, more), out)
}

/// Appends the header to `out`. Returns its length.
pub(crate) fn encode_header(out: &mut Vec<u8>) -> usize {
    encode(&Header { everyline: "checkpoint".to_owned(), version: VERSION }, out)
}

/// Reads a journal back. Takes any bytes at all.
pub(crate) fn recover(bytes: &[u8]) -> Recovery {
    let mut recovery = Recovery::default();
    let mut at = 0;
    match record_at(bytes, 0).map(|(json, end)| (serde_json::from_slice::<Header>(json), end)) {
        Some((Ok(header), end)) if end < bytes.len() => {
            if header.version != VERSION {
                recovery.foreign_version = Some(header.version);
                return recovery;
            }
            at = after(bytes, end, &mut recovery);
        }
        _ => recovery.headless = true,
    }
    recovery.whole_len = at;
    let mut names = Names::default();
    while at < bytes.len() {
        at = step(bytes, at, &mut names, &mut recovery);
    }
    recovery.torn_len = bytes.len() - recovery.whole_len;
    recovery
}

/// Reads the record at `at`, or finds out that there is none. Returns where to go on.
fn step(bytes: &[u8], at: usize, names: &mut Names, recovery: &mut Recovery) -> usize {
    if let Some((json, end)) = record_at(bytes, at)
        && end < bytes.len()
    {
        // Where it ends is known also of one that says what nobody understands.
        let Ok(changes) = serde_json::from_slice::<Vec<Change>>(json) else {
            recovery.damaged.push(at..end + 1);
            recovery.whole_len = end + 1;
            return recovery.whole_len;
        };
        for mut change in changes {
            names.share(&mut change);
            recovery.state.apply(change);
        }
        recovery.records += 1;
        recovery.whole_len = after(bytes, end, recovery);
    } else if let Some(newline) = memchr::memchr(b'\n', &bytes[at..]) {
        recovery.damaged.push(at..at + newline + 1);
        recovery.whole_len = at + newline + 1;
    } else {
        return bytes.len();
    }
    recovery.whole_len
}

/// Where to go on behind a record that ends at `end`: what stands in its LF's place costs nothing else.
fn after(bytes: &[u8], end: usize, recovery: &mut Recovery) -> usize {
    if bytes.get(end) != Some(&b'\n') {
        recovery.damaged.push(end..end + 1);
    }
    end + 1
}

/// The sinks' names as they were read first: there are few, and each is in every file's entry.
#[derive(Default)]
struct Names(BTreeSet<Arc<str>>);

impl Names {
    fn share(&mut self, change: &mut Change) {
        match change {
            Change::File(entry) => entry.sinks.names_mut().for_each(|sink| self.share_name(sink)),
            Change::Offset { sink, .. } | Change::Position { sink, .. } => self.share_name(sink),
            Change::Cuts { .. }
            | Change::Prefixes { .. }
            | Change::Copy { .. }
            | Change::Forget(_)
            | Change::Counted(_)
            | Change::Total { .. } => {}
        }
    }

    fn share_name(&mut self, name: &mut Arc<str>) {
        match self.0.get(name) {
            Some(known) => name.clone_from(known),
            None => drop(self.0.insert(Arc::clone(name))),
        }
    }
}

/// The JSON of the record that begins at `at` and where it ends (its LF is not looked at), if
/// length and CRC are right.
fn record_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    // A length of at most twelve digits: far beyond any journal, far from overflow.
    const HEAD_MAX: usize = 8 + 1 + 12 + 1;
    let head = &bytes[at..bytes.len().min(at + HEAD_MAX)];
    let (crc, rest) = head.split_at_checked(8)?;
    let rest = rest.strip_prefix(b" ")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if rest.get(digits) != Some(&b' ') {
        return None;
    }
    let length: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let start = at + 8 + 1 + digits + 1;
    let json = bytes.get(start..start.checked_add(length)?)?;
    (crc == hex(crc32c::crc32c(json))).then_some((json, start + length))
}

#[derive(Serialize, Deserialize)]
struct Header {
    everyline: String,
    version: u32,
}

struct Concat<'a>(&'a [Change], &'a [Change]);

impl Serialize for Concat<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().chain(self.1))
    }
}

fn encode(content: &impl Serialize, out: &mut Vec<u8>) -> usize {
    // Room for the head, which is known only once the JSON is.
    const HEAD_MAX: usize = 8 + 1 + 20 + 1;
    let begin = out.len();
    out.resize(begin + HEAD_MAX, b' ');
    serde_json::to_writer(&mut *out, content)
        .expect("strings, numbers and string-keyed maps always have a JSON form");
    let json = begin + HEAD_MAX;
    let length = out.len() - json;
    let mut head = [b' '; HEAD_MAX];
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(length).as_bytes();
    head[..8].copy_from_slice(&hex(crc32c::crc32c(&out[json..])));
    head[9..9 + digits.len()].copy_from_slice(digits);
    let head_len = 9 + digits.len() + 1;
    out.splice(begin..json, head[..head_len].iter().copied());
    out.push(b'\n');
    out.len() - begin
}

fn hex(crc: u32) -> [u8; 8] {
    std::array::from_fn(|index| {
        let nibble = (crc >> (28 - 4 * index)) & 0xf;
        b"0123456789abcdef"[nibble as usize]
    })
}
