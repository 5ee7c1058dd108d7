//! The careful way to read a json-file line: all of JSON, through simd-json.
//!
//! Decides what a line means wherever the scanner is not sure: other keys, other order, white
//! space, escapes in odd places. Of a key given twice the last counts, as for Docker itself.

use simd_json::{Buffers, Node, Tape};

use super::Entry;
use crate::record::{
    Stream,
    timestamp::{Recognizer, Stamp},
};

/// Parses lines, keeping its buffers between them.
#[derive(Default)]
pub(super) struct Parser {
    /// simd-json unescapes in place.
    scratch: Vec<u8>,
    buffers: Option<Box<Buffers>>,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").finish_non_exhaustive()
    }
}

impl Parser {
    /// Reads a line (without its newline). `text` becomes the message, without its newline. None if
    /// the line is not an object with a string `log`, or holds a stream or time that is not one:
    /// such a line must be passed on whole, or that would be lost.
    pub(super) fn parse(
        &mut self,
        times: &mut Recognizer,
        line: &[u8],
        text: &mut Vec<u8>,
    ) -> Option<Entry> {
        self.scratch.clear();
        self.scratch.shrink_to(KEPT);
        self.scratch.extend_from_slice(line);
        let buffers = self.buffers.get_or_insert_default();
        let entry = simd_json::to_tape_with_buffers(&mut self.scratch, buffers)
            .ok()
            .and_then(|tape| read(&tape, times, text));
        if line.len() > KEPT {
            self.buffers = None;
        }
        entry
    }
}

fn read(tape: &Tape<'_>, times: &mut Recognizer, text: &mut Vec<u8>) -> Option<Entry> {
    let (mut log, mut stream, mut time) = (None, None, None);
    let Some(Node::Object { len, .. }) = tape.0.first() else { return None };
    let mut at = 1;
    for _ in 0..*len {
        let (Node::String(key), value) = (tape.0.get(at)?, tape.0.get(at + 1)?) else {
            return None;
        };
        match *key {
            "log" => log = Some(value),
            "stream" => stream = Some(value),
            "time" => time = Some(value),
            _ => {}
        }
        at += 1 + match value {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            Node::String(_) | Node::Static(_) => 1,
        };
    }
    let Node::String(log) = log? else { return None };
    let stream = match stream {
        None => Stream::None,
        Some(Node::String("stdout")) => Stream::Stdout,
        Some(Node::String("stderr")) => Stream::Stderr,
        Some(_) => return None,
    };
    let stamp = match time {
        None => Stamp::new(None),
        Some(Node::String(time)) if times.prefix(time.as_bytes()) == Some(time.len()) => {
            Stamp::new(Some(time.as_bytes()))
        }
        Some(_) => return None,
    };
    let message = log.strip_suffix('\n');
    text.clear();
    text.extend_from_slice(message.unwrap_or(log).as_bytes());
    Some(Entry { stream, stamp, complete: message.is_some() })
}

/// Buffers up to this size are kept for the next line.
const KEPT: usize = 256 * 1024;
