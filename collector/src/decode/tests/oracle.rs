//! The formats once more, naively: whole files in memory, a byte at a time, every byte remembering
//! where it came from. Shares nothing with the decoders but the timestamps' check, which has jiff
//! for an oracle of its own.

use super::{Owned, Setup};
use crate::{
    config::LongLines,
    record::{Marks, Stream, timestamp::Recognizer},
    source::Format,
};

/// All records of a source's files, the last of which is its end.
pub(super) fn records(setup: Setup, files: &[Vec<u8>]) -> Vec<Owned> {
    let mut oracle = Oracle { setup, open: Vec::new(), records: Vec::new() };
    for (file, bytes) in files.iter().enumerate() {
        let mut start = 0;
        while start < bytes.len() {
            let newline = bytes[start..].iter().position(|byte| *byte == b'\n');
            let len = newline.unwrap_or(bytes.len() - start);
            let end = start + len + usize::from(newline.is_some());
            let nuls = bytes[start..start + len].iter().take_while(|byte| **byte == 0).count();
            let least = if setup.format == Format::Plain { 16 } else { 1 };
            if nuls >= least {
                start += nuls;
                if start == bytes.len() {
                    break;
                }
                continue;
            }
            oracle.line(&bytes[start..start + len], Place { file, start, end });
            start = end;
        }
    }
    let (file, end) = (files.len() - 1, files[files.len() - 1].len());
    while !oracle.open.is_empty() {
        let message = oracle.open.remove(0);
        oracle.finish(message, (file, end), true);
    }
    oracle.records
}

struct Oracle {
    setup: Setup,
    /// Oldest first.
    open: Vec<Message>,
    records: Vec<Owned>,
}

#[derive(Clone, Copy)]
struct Place {
    file: usize,
    start: usize,
    /// Behind the newline.
    end: usize,
}

struct Message {
    stream: Stream,
    timestamp: Option<Vec<u8>>,
    unparsed: bool,
    origin: (usize, usize),
    pieces: u32,
    cut: u64,
    full: bool,
    /// The line of each byte, and the byte.
    bytes: Vec<((usize, usize), u8)>,
}

/// What a line says: stream, timestamp, whether it ends the message, message, its place in the line.
type Parsed = (Stream, Option<Vec<u8>>, bool, Vec<u8>, usize);

impl Oracle {
    fn line(&mut self, line: &[u8], place: Place) {
        let parsed = match self.setup.format {
            Format::Cri => cri(line),
            Format::DockerJson if line.len() > self.setup.bound + 2048 => None,
            Format::DockerJson => docker(line),
            Format::Plain | Format::Encoded(_) => {
                Some((Stream::None, None, true, line.to_vec(), 0))
            }
        };
        let unparsed = parsed.is_none();
        let decoded = self.setup.format == Format::DockerJson && !unparsed;
        let (stream, timestamp, last, text, header) =
            parsed.unwrap_or((Stream::None, None, true, line.to_vec(), 0));
        let Place { file, start, end } = place;
        let found = self.open.iter().position(|m| m.stream == stream && m.unparsed == unparsed);
        // It keeps its place in the order of age unless it ends.
        let at = found.unwrap_or_else(|| {
            self.open.push(Message {
                stream,
                timestamp,
                unparsed,
                origin: (file, start),
                pieces: 0,
                cut: 0,
                full: false,
                bytes: Vec::new(),
            });
            self.open.len() - 1
        });
        let mut pieces_of_line = 0;
        for (index, byte) in text.iter().enumerate() {
            let message = &mut self.open[at];
            if message.full {
                message.cut += 1;
                continue;
            }
            message.bytes.push(((file, start), *byte));
            if message.bytes.len() <= self.setup.bound {
                continue;
            }
            let keep = keep(&message.bytes);
            let rest = message.bytes.split_off(keep);
            match self.setup.long_lines {
                LongLines::Cut => {
                    message.full = true;
                    message.cut = rest.len() as u64;
                }
                LongLines::Split => {
                    pieces_of_line += 1;
                    let next = if decoded {
                        start + pieces_of_line
                    } else {
                        start + header + index + 1 - rest.len()
                    };
                    message.pieces += 1;
                    let marks = Marks {
                        unparsed: message.unparsed,
                        split: message.pieces,
                        ..Marks::default()
                    };
                    let piece = std::mem::replace(&mut message.bytes, rest);
                    self.records.push(Owned {
                        origin: message.origin,
                        end: (file, next),
                        timestamp: message.timestamp.clone(),
                        stream,
                        body: piece.into_iter().map(|(_, byte)| byte).collect(),
                        marks,
                    });
                    message.origin = (file, next);
                }
            }
        }
        if last {
            let message = self.open.remove(at);
            let terminated = end - start > line.len();
            self.finish(message, (file, end), !terminated);
        }
    }

    fn finish(&mut self, message: Message, end: (usize, usize), partial: bool) {
        let split = message.pieces > 0;
        self.records.push(Owned {
            origin: message.origin,
            end,
            timestamp: message.timestamp,
            stream: message.stream,
            body: message.bytes.into_iter().map(|(_, byte)| byte).collect(),
            marks: Marks {
                unparsed: message.unparsed,
                partial,
                split: if split { message.pieces + 1 } else { 0 },
                split_last: split,
                cut: message.cut,
            },
        });
    }
}

/// How much of one byte too many to keep: all but the last, or less if that breaks a character that
/// stands in one line.
fn keep(bytes: &[((usize, usize), u8)]) -> usize {
    let room = bytes.len() - 1;
    let continues = |at: usize| (0x80..0xC0).contains(&bytes[at].1);
    let mut at = room;
    while continues(at) {
        if at == 0 || room - at == 3 || bytes[at - 1].0 != bytes[room].0 {
            return room;
        }
        at -= 1;
    }
    if at == 0 || bytes[at].1 < 0xC0 { room } else { at }
}

fn cri(line: &[u8]) -> Option<Parsed> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
    let message = match fields.next() {
        None if matches!(tags, b"F" | b"P") => b"",
        message => message?,
    };
    if Recognizer::default().prefix(time) != Some(time.len()) || tags.len() >= 192 {
        return None;
    }
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let last = match tags.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some((stream, Some(time.to_vec()), last, message.to_vec(), line.len() - message.len()))
}

fn docker(line: &[u8]) -> Option<Parsed> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let stream = match object.get("stream").map(|value| value.as_str()) {
        None => Stream::None,
        Some(Some("stdout")) => Stream::Stdout,
        Some(Some("stderr")) => Stream::Stderr,
        Some(_) => return None,
    };
    let time = match object.get("time").map(|value| value.as_str()) {
        None => None,
        Some(Some(time)) if Recognizer::default().prefix(time.as_bytes()) == Some(time.len()) => {
            Some(time.as_bytes().to_vec())
        }
        Some(_) => return None,
    };
    let log = object.get("log")?.as_str()?;
    let message = log.strip_suffix('\n');
    Some((stream, time, message.is_some(), message.unwrap_or(log).as_bytes().to_vec(), 0))
}
