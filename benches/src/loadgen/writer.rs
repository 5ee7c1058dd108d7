//! One log: messages framed, buffered, written and rotated.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

use anyhow::{Context, Result};
use rand::Rng;

use super::{Options, hostile::Hostile, manifest::Written, messages::Messages, rotate::Rotator};
use crate::{
    framing::{self, Clock, Format},
    tag::{Stream, Writer},
};

/// The writer of one log.
#[derive(Debug)]
pub(super) struct LogWriter {
    format: Format,
    stderr: u32,
    partials: u32,
    hostile: u32,
    lines: u64,
    bytes: u64,
    rotate_bytes: u64,
    rotator: Rotator,
    file: File,
    /// Bytes in `file`.
    size: u64,
    buffer: Vec<u8>,
    clock: Clock,
    messages: Messages,
    scratch: Vec<u8>,
    written: Written,
}

impl LogWriter {
    pub(super) fn create(options: &Options, number: u32) -> Result<Self> {
        let writer = Writer(number);
        let path = live_path(options, writer);
        let dir = path.parent().expect("a log lies in a directory");
        fs::create_dir_all(dir).with_context(|| format!("Creating {}", dir.display()))?;
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            format: options.format,
            stderr: options.stderr,
            partials: options.partials,
            hostile: options.hostile,
            lines: options.lines,
            bytes: options.bytes,
            rotate_bytes: options.rotate_bytes,
            rotator: Rotator::new(path.clone(), options.format, options.keep, options.compress),
            file,
            size,
            buffer: Vec::new(),
            clock: Clock::now(),
            messages: Messages::new(writer, options.seed),
            scratch: Vec::new(),
            written: Written::new(writer, path.display().to_string()),
        })
    }

    /// Whether its bounds are reached.
    pub(super) fn is_done(&self) -> bool {
        self.left() == 0
            || (self.bytes > 0 && self.written.bytes + self.buffer.len() as u64 >= self.bytes)
    }

    /// Writes `bytes` or a little more, or as much as the bounds allow.
    pub(super) fn fill(&mut self, bytes: usize) -> Result<()> {
        self.clock.catch_up();
        while self.buffer.len() < bytes && !self.is_done() {
            self.write_one()?;
        }
        self.flush()
    }

    /// Frames one message, or two whose pieces interleave. It reaches the file at the next flush.
    pub(super) fn write_one(&mut self) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        if self.messages.chance(self.hostile) {
            return self.write_hostile();
        }
        if self.messages.chance(self.partials) && self.left() >= 2 {
            return self.write_interleaved();
        }
        let stream = self.messages.stream(self.stderr);
        let mut message = std::mem::take(&mut self.scratch);
        self.messages.next(stream, &mut message);
        self.write_pieces(stream, &framing::pieces(&message, self.format))?;
        self.scratch = message;
        Ok(())
    }

    /// Everything framed so far goes to the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            let what = || format!("Writing {}", self.written.path);
            self.file.write_all(&self.buffer).with_context(what)?;
            self.size += self.buffer.len() as u64;
            self.written.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        self.written.messages = self.messages.counts();
        self.clock.catch_up();
        Ok(())
    }

    /// The last flush.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()
    }

    /// What was written, as of the last flush.
    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    /// Messages until the bound.
    fn left(&self) -> u64 {
        let messages = self.messages.counts().iter().sum::<u64>() + self.written.untagged;
        if self.lines > 0 { self.lines.saturating_sub(messages) } else { u64::MAX }
    }

    fn write_pieces(&mut self, stream: Stream, pieces: &[&[u8]]) -> Result<()> {
        for (index, piece) in pieces.iter().enumerate() {
            self.line(stream, piece, index + 1 == pieces.len())?;
        }
        Ok(())
    }

    /// A message on each stream, both in small pieces, in a random order of pieces.
    fn write_interleaved(&mut self) -> Result<()> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        self.messages.next(Stream::Stdout, &mut out);
        self.messages.next(Stream::Stderr, &mut err);
        let mut queues = [self.cut(&out), self.cut(&err)];
        while queues.iter().any(|queue| !queue.is_empty()) {
            let mut side = usize::from(self.messages.chance(500));
            if queues[side].is_empty() {
                side = 1 - side;
            }
            let piece = queues[side].remove(0);
            let stream = [Stream::Stdout, Stream::Stderr][side];
            let last = queues[side].is_empty();
            self.line(stream, piece, last)?;
        }
        Ok(())
    }

    /// Cuts a message into up to four random pieces (at character boundaries).
    fn cut<'a>(&mut self, message: &'a [u8]) -> Vec<&'a [u8]> {
        let (mut pieces, mut rest) = (Vec::new(), message);
        for _ in 0..self.messages.rng.random_range(1..4) {
            let mut at = self.messages.rng.random_range(0..=rest.len().min(framing::PIECE));
            while at < rest.len() && rest[at] & 0xc0 == 0x80 {
                at -= 1;
            }
            let (piece, tail) = rest.split_at(at);
            pieces.push(piece);
            rest = tail;
        }
        pieces.extend(framing::pieces(rest, self.format));
        pieces
    }

    fn write_hostile(&mut self) -> Result<()> {
        let mut message = std::mem::take(&mut self.scratch);
        match self.messages.hostile(self.format, &mut message) {
            Hostile::Bare => {
                self.buffer.extend_from_slice(&message);
                self.buffer.push(b'\n');
            }
            Hostile::HugeLine => self.line(Stream::Stdout, &message, true)?,
            kind => {
                self.written.untagged += u64::from(kind == Hostile::Empty);
                self.write_pieces(Stream::Stdout, &framing::pieces(&message, self.format))?;
            }
        }
        self.scratch = message;
        Ok(())
    }

    fn line(&mut self, stream: Stream, piece: &[u8], last: bool) -> Result<()> {
        let held = self.size + self.buffer.len() as u64;
        if self.rotate_bytes > 0 && held >= self.rotate_bytes {
            self.flush()?;
            self.rotator.rotate()?;
            self.file = open(self.rotator.live())?;
            self.size = 0;
            self.written.rotations += 1;
        }
        framing::line(&mut self.buffer, self.format, &mut self.clock, stream, piece, last);
        Ok(())
    }
}

fn live_path(options: &Options, writer: Writer) -> PathBuf {
    match options.format {
        Format::Cri => {
            let pod = format!("{}_{}_{}", writer.namespace(), writer.pod(), writer.uid());
            options.root.join(pod).join(writer.container()).join("0.log")
        }
        Format::Docker => {
            let id = writer.container_id();
            options.root.join(&id).join(format!("{id}-json.log"))
        }
    }
}

fn open(path: &std::path::Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("Opening {}", path.display()))
}
