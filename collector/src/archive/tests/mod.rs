//! Tests of the archive as a whole: what is written is what is read and found, whatever happens in
//! between. Formats and single steps are tested beside their code.

mod crash;
mod find;
mod sink;

use std::path::Path;

use bytes::Bytes;

use super::{
    read::{self, Frames, Next},
    segment::{Header, Label},
    write::Writer,
};
use crate::{
    batch::TimeBounds,
    config::{self, ByteSize},
};

/// A frame of these lines, all of one container and one second.
fn frame(lines: &[impl AsRef<str>], pod: &str, second: i64) -> (Header, Bytes) {
    let mut raw = String::new();
    for line in lines {
        raw.push_str(line.as_ref());
        raw.push('\n');
    }
    let payload = packed(&raw);
    let label = Label {
        namespace: Some("shop".into()),
        pod: Some(pod.into()),
        container: Some("app".into()),
    };
    let times = TimeBounds { from: second, to: second };
    let lines = u32::try_from(lines.len()).unwrap();
    (Header::new(&payload, raw.len(), lines, times, vec![label]), payload.into())
}

/// Compressed as the sink's batches are: with zstd's own checksum.
fn packed(raw: &str) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(raw.as_bytes()).unwrap()
}

/// A line whose body is its number.
fn line(number: usize) -> String {
    format!(
        r#"{{"timestamp":"2026-01-31T10:11:12.5Z","log.record.uid":"1-{number:x}","body":"number {number}"}}"#
    )
}

fn config(segment_bytes: u64) -> config::Archive {
    config::Archive { segment_bytes: ByteSize(segment_bytes), ..config::Archive::default() }
}

fn open(dir: &Path, segment_bytes: u64, committed: Option<&str>) -> Writer {
    Writer::open(dir, &config(segment_bytes), committed).unwrap()
}

/// Every line of every believable frame, in order, and how many places were damaged.
fn read_all(dir: &Path) -> (Vec<String>, usize) {
    let (mut lines, mut damaged) = (Vec::new(), 0);
    for segment in read::segments(dir).unwrap() {
        let mut frames = Frames::open(&segment.path).unwrap();
        while let Some(next) = frames.advance().unwrap() {
            let Next::Frame(frame) = next else {
                damaged += 1;
                continue;
            };
            let mut payload = Vec::new();
            if !frame.payload(&mut payload).unwrap() {
                damaged += 1;
                continue;
            }
            let raw = zstd::bulk::decompress(&payload, frame.header.raw_len).unwrap();
            lines.extend(String::from_utf8(raw).unwrap().lines().map(str::to_owned));
        }
    }
    (lines, damaged)
}
