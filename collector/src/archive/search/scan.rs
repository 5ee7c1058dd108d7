//! Scan: the wanted lines of one decompressed block. Sans I/O, one thread.

use super::{
    query::{Checks, Query},
    record::{Record, Text},
    show::Show,
};

/// Appends every wanted line of `block` to `out` as `show` has it; how many there are.
pub fn scan(query: &Query, checks: Checks, block: &[u8], show: &Show, out: &mut Vec<u8>) -> u64 {
    let mut found = 0;
    let mut look_at = |line: &[u8]| {
        if let Some((record, body)) = wanted(query, checks, line) {
            found += 1;
            show.line(line, record, body, query, out);
        }
    };
    let pattern = query.pattern.as_ref().filter(|_| !query.invert);
    let Some(mut candidates) = pattern.and_then(|pattern| pattern.candidates(block)) else {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            look_at(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        return found;
    };
    let mut from = 0;
    while let Some(hit) = candidates.next_from(from) {
        let start = memchr::memrchr(b'\n', &block[from..hit]).map_or(from, |at| from + at + 1);
        let end = memchr::memchr(b'\n', &block[hit..]).map_or(block.len(), |at| hit + at);
        look_at(&block[start..end]);
        from = end + 1;
        if from >= block.len() {
            break;
        }
    }
    found
}

/// A line's fields and its body, if it is wanted. A line that has no body is one.
fn wanted<'a>(query: &Query, checks: Checks, line: &'a [u8]) -> Option<(Record<'a>, Text<'a>)> {
    if line.is_empty() {
        return None;
    }
    let mut record = Record::head(line);
    let body = record.body.unwrap_or(Text { raw: line, escaped: false });
    // The body first: nearly every line that is not wanted fails here.
    if let Some(pattern) = &query.pattern
        && pattern.is_match(&body.value()) == query.invert
    {
        return None;
    }
    if query.needs_attributes(checks) {
        record = record.complete(line);
    }
    query.line(&record, checks).then_some((record, body))
}
