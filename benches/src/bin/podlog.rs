//! `podlog`: what a container of a test prints, numbered, and what it says elsewhere of how much that was.
//!
//! Every message has the same length, so that whoever knows how many are missing knows how many bytes that
//! is. Before it prints, it notes in a file how far it is about to be, and afterwards that it is: the file
//! outlives the container and is never a log.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use benches::tag::{Stream, Tag, Writer, seal};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(version, about)]
enum Command {
    /// Wait for ever: what a sandbox does.
    Pause,
    /// Print.
    Write(Printing),
}

#[derive(Debug, clap::Args)]
struct Printing {
    /// The writer's number; makes its tags, and the name of its file in `truth`.
    #[arg(long)]
    writer: u32,
    /// Where it notes what it has printed. What is noted there already goes on.
    #[arg(long)]
    truth: PathBuf,
    /// Bytes of a message.
    #[arg(long, default_value_t = 200)]
    length: usize,
    /// Messages this time; 0: no bound.
    #[arg(long, default_value_t = 0)]
    lines: u64,
    /// Messages a second; 0: flat out.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Ends when this file is in `truth`.
    #[arg(long)]
    until: Option<String>,
    /// After that, waits for this file in `truth` and prints so many messages more.
    #[arg(long, requires = "until")]
    resume: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 0)]
    resume_lines: u64,
    /// The last message has no newline.
    #[arg(long)]
    unfinished: bool,
    /// Waits for ever in the end.
    #[arg(long)]
    stay: bool,
    /// Ends with this exit status.
    #[arg(long, default_value_t = 0)]
    status: i32,
}

/// Messages per stream: about to be printed, and printed.
#[derive(Debug, Default, Clone, Copy)]
struct Truth {
    intended: [u64; 2],
    printed: [u64; 2],
}

struct Printer {
    writer: Writer,
    length: usize,
    truth: Truth,
    file: File,
    buffers: [Vec<u8>; 2],
}

const TICK: Duration = Duration::from_millis(10);
/// Messages in a write at most.
const BATCH: u64 = 100;

fn main() -> Result<()> {
    match Command::parse() {
        Command::Pause => loop {
            std::thread::park();
        },
        Command::Write(options) => {
            let mut printer = Printer::new(&options)?;
            printer.run(&options)?;
            if options.stay {
                loop {
                    std::thread::park();
                }
            }
            std::process::exit(options.status);
        }
    }
}

impl Printer {
    fn new(options: &Printing) -> Result<Self> {
        let path = options.truth.join(options.writer.to_string());
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.with_context(|| format!("Opening {}", path.display()))?;
        let mut bytes = [0; 32];
        let truth = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Truth::parse(&bytes),
            Err(_) => Truth::default(),
        };
        let (writer, length) = (Writer(options.writer), options.length);
        Ok(Self { writer, length, truth, file, buffers: Default::default() })
    }

    fn run(&mut self, options: &Printing) -> Result<()> {
        let until = options.until.as_ref().map(|name| options.truth.join(name));
        let lines = if options.lines > 0 { options.lines } else { u64::MAX };
        let (start, mut printed) = (Instant::now(), 0);
        while printed < lines && !until.as_ref().is_some_and(|until| until.exists()) {
            let due = match options.rate {
                0 => lines,
                rate => (start.elapsed().as_secs_f64() * rate as f64) as u64 + 1,
            };
            let mut left = due.min(lines) - printed.min(due);
            while left > 0 {
                let count = left.min(BATCH);
                printed += count;
                left -= count;
                self.print(count, options.unfinished && printed == lines)?;
            }
            if options.rate > 0 {
                std::thread::sleep(TICK);
            }
        }
        if let Some(resume) = &options.resume {
            while !options.truth.join(resume).exists() {
                std::thread::sleep(Duration::from_millis(100));
            }
            self.print(options.resume_lines, false)?;
        }
        Ok(())
    }

    /// Prints `count` messages, one in eight to standard error.
    fn print(&mut self, count: u64, unfinished: bool) -> Result<()> {
        let mut next = self.truth.intended;
        for index in 0..count {
            let total: u64 = next.iter().sum();
            let stream = if total % 8 == 7 { Stream::Stderr } else { Stream::Stdout };
            let tag = Tag { writer: self.writer, stream, number: next[stream.index()] };
            next[stream.index()] += 1;
            let buffer = &mut self.buffers[stream.index()];
            message(buffer, tag, self.length);
            if !unfinished || index + 1 < count {
                buffer.push(b'\n');
            }
        }
        self.truth.intended = next;
        self.note()?;
        std::io::stdout().write_all(&self.buffers[0])?;
        std::io::stdout().flush()?;
        std::io::stderr().write_all(&self.buffers[1])?;
        self.buffers.iter_mut().for_each(Vec::clear);
        self.truth.printed = next;
        self.note()
    }

    fn note(&self) -> Result<()> {
        self.file.write_all_at(&self.truth.bytes(), 0).context("Noting what was printed")
    }
}

/// Appends a message of exactly `length` bytes.
fn message(out: &mut Vec<u8>, tag: Tag, length: usize) {
    let start = out.len();
    out.extend_from_slice(b"message");
    seal(out, start, start + 7, tag);
    // Sealed once more with as much filling as is left: the tag's length does not change.
    let filling = length.saturating_sub(out.len() - start);
    out.truncate(start);
    out.extend_from_slice(b"message");
    let mut state = tag.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..filling {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // A few letters: text that can be compressed, though not as well as most logs.
        out.push(b"etaoin shrdlu 012"[(state >> 60) as usize]);
    }
    let end = out.len();
    seal(out, start, end, tag);
}

impl Truth {
    fn parse(bytes: &[u8; 32]) -> Self {
        let mut numbers = [0; 4];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        let [a, b, c, d] = numbers;
        Self { intended: [a, b], printed: [c, d] }
    }

    fn bytes(self) -> Vec<u8> {
        let numbers = self.intended.into_iter().chain(self.printed);
        numbers.flat_map(u64::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use benches::tag::{Finding, open};

    use super::*;

    #[test]
    fn every_message_is_of_one_length_and_tells_its_number() {
        for number in [0, 7, 99, 12_345, 9_999_999_999] {
            let tag = Tag { writer: Writer(31), stream: Stream::Stderr, number };
            let mut text = b"before".to_vec();
            message(&mut text, tag, 200);
            assert_eq!(text.len(), 206);
            assert!(!text.contains(&b'\n'));
            assert_eq!(open(&text[6..]), Finding::Intact(tag));
        }
    }

    #[test]
    fn what_was_noted_goes_on() {
        let truth = Truth { intended: [5, 6], printed: [7, u64::MAX] };
        let bytes = truth.bytes().try_into().unwrap();
        let read = Truth::parse(&bytes);
        assert_eq!((read.intended, read.printed), (truth.intended, truth.printed));
    }
}
