//! One log: a container's or a program's messages, written, rotated and in the end deleted.
//!
//! Keeps the length of every message, so that whoever knows which are missing knows how many bytes
//! they were.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use benches::{
    framing::{self, Clock, Format},
    loadgen::Messages,
    tag::{Stream, Writer},
};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::rotate::{Rotation, Style};

/// Where a log lies, and how its lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Under `pods`, as kubelet has it.
    Kubernetes,
    /// Under `docker`, as Docker has it.
    Docker,
    /// Under `plain`: a program's own file.
    Plain,
}

/// How one log is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Habits {
    pub layout: Layout,
    pub style: Style,
    /// Lines a second.
    pub rate: f64,
    /// A larger file is rotated.
    pub rotate_bytes: u64,
    /// From its birth to its end.
    pub life: Duration,
    /// How long its files stay after its last line.
    pub stays: Duration,
    /// Whether its last line has no newline.
    pub unfinished: bool,
}

/// What a log wrote.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub writer: Writer,
    pub habits: Habits,
    /// Bytes in the file of every message, per stream.
    pub lengths: [Vec<u32>; 3],
    /// What was done to its files, when, and the numbers written by then.
    pub marks: Vec<(Duration, &'static str, [usize; 3])>,
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Log {
    born: Duration,
    dir: PathBuf,
    live: PathBuf,
    file: File,
    size: u64,
    rotation: Rotation,
    /// Until then the program writes to the file that was renamed.
    reopens: Option<Duration>,
    /// When it wrote its last line.
    ended: Option<Duration>,
    rng: Pcg64Mcg,
    messages: Messages,
    clock: Clock,
    buffer: Vec<u8>,
    message: Vec<u8>,
    written: Written,
}

impl Log {
    /// Makes its directory and its file.
    pub(super) fn create(
        root: &Path,
        writer: Writer,
        habits: Habits,
        seed: u64,
        now: Duration,
    ) -> Result<Self> {
        let (dir, live) = place(root, writer, habits.layout);
        fs::create_dir_all(live.parent().unwrap_or(&dir))?;
        Ok(Self {
            born: now,
            file: open(&live)?,
            size: 0,
            rotation: Rotation::new(habits.style, &live),
            reopens: None,
            ended: None,
            rng: Pcg64Mcg::seed_from_u64(seed ^ u64::from(writer.0) << 20),
            messages: Messages::new(writer, seed),
            clock: Clock::now(),
            buffer: Vec::new(),
            message: Vec::new(),
            written: Written { writer, habits, lengths: Default::default(), marks: Vec::new() },
            dir,
            live,
        })
    }

    /// Writes what is due, and rotates; `storm`: whenever it can. False once it is gone.
    pub(super) fn tick(&mut self, now: Duration, storm: bool) -> Result<bool> {
        let turned = self.turn(now, storm);
        turned.with_context(|| format!("Writing and rotating {}", self.live.display()))
    }

    /// Writes its last line and leaves its files.
    pub(super) fn finish(mut self, now: Duration) -> Result<Written> {
        while self.rotation.step()? {}
        if self.ended.is_none() {
            self.mark(now, "end of the run");
        }
        Ok(self.written)
    }

    /// What it wrote, once it is gone.
    pub(super) fn written(self) -> Written {
        self.written
    }

    fn turn(&mut self, now: Duration, storm: bool) -> Result<bool> {
        self.rotation.step()?;
        if let Some(ended) = self.ended {
            if now < ended + self.written.habits.stays {
                return Ok(true);
            }
            fs::remove_dir_all(&self.dir)?;
            self.mark(now, "deleted");
            return Ok(false);
        }
        if self.reopens.is_some_and(|at| now >= at) {
            (self.file, self.size, self.reopens) = (open(&self.live)?, 0, None);
            self.mark(now, "reopened");
        }
        let age = now.saturating_sub(self.born);
        let due = (age.as_secs_f64() * self.written.habits.rate) as usize + 1;
        let written = self.written.lengths.iter().map(Vec::len).sum::<usize>();
        self.lines(due.saturating_sub(written).min(400))?;
        if age >= self.written.habits.life {
            if self.written.habits.unfinished {
                self.unfinished_line()?;
            }
            self.ended = Some(now);
            self.mark(now, "last line");
        } else if self.reopens.is_none() && self.size > 0 {
            let full = self.size >= self.written.habits.rotate_bytes;
            if full || storm && self.rng.random_range(0..16) == 0 {
                self.rotate(now)?;
            }
        }
        Ok(true)
    }

    fn rotate(&mut self, now: Duration) -> Result<()> {
        self.mark(now, "rotating");
        self.rotation.rotate()?;
        match self.written.habits.style {
            Style::CopyTruncate => {
                // What comes between the copy and the truncation is in neither file afterwards.
                let lines = self.rng.random_range(0..3);
                self.lines(lines)?;
                self.file.set_len(0)?;
                self.size = 0;
                self.mark(now, "truncated");
            }
            Style::CreateDelayed => {
                // logrotate has made the new file; the program still has the former one.
                open(&self.live)?;
                self.reopens = Some(now + Duration::from_millis(self.rng.random_range(0..1_500)));
            }
            _ => (self.file, self.size) = (open(&self.live)?, 0),
        }
        Ok(())
    }

    /// So many lines, in one write or a few.
    fn lines(&mut self, count: usize) -> Result<()> {
        self.clock.catch_up();
        for _ in 0..count {
            self.line(true);
            if self.rng.random_range(0..8) == 0 {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn unfinished_line(&mut self) -> Result<()> {
        self.line(false);
        self.flush()
    }

    /// Frames one message.
    fn line(&mut self, newline: bool) {
        let layout = self.written.habits.layout;
        let stream = match layout {
            Layout::Plain => Stream::Stdout,
            _ => self.messages.stream(100),
        };
        self.messages.next(stream, &mut self.message);
        let begin = self.buffer.len();
        let format = match layout {
            Layout::Kubernetes => Some(Format::Cri),
            Layout::Docker => Some(Format::Docker),
            Layout::Plain => None,
        };
        match format {
            Some(format) => {
                let pieces = framing::pieces(&self.message, format);
                for (index, piece) in pieces.iter().enumerate() {
                    let last = index + 1 == pieces.len();
                    framing::line(&mut self.buffer, format, &mut self.clock, stream, piece, last);
                }
            }
            None => {
                self.buffer.extend_from_slice(&self.message);
                self.buffer.push(b'\n');
            }
        }
        if !newline {
            self.buffer.pop();
        }
        let length = u32::try_from(self.buffer.len() - begin).unwrap_or(u32::MAX);
        self.written.lengths[stream.index()].push(length);
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer)?;
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn mark(&mut self, now: Duration, what: &'static str) {
        let numbers = self.written.lengths.each_ref().map(Vec::len);
        self.written.marks.push((now, what, numbers));
    }
}

impl Written {
    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.lengths.iter().flatten().map(|&length| u64::from(length)).sum()
    }
}

/// The directory that goes with it, and its live file.
fn place(root: &Path, writer: Writer, layout: Layout) -> (PathBuf, PathBuf) {
    match layout {
        Layout::Kubernetes => {
            let name = format!("{}_{}_{}", writer.namespace(), writer.pod(), writer.uid());
            let dir = root.join("pods").join(name);
            (dir.clone(), dir.join(writer.container()).join("0.log"))
        }
        Layout::Docker => {
            let id = writer.container_id();
            let dir = root.join("docker").join(&id);
            (dir.clone(), dir.join(format!("{id}-json.log")))
        }
        Layout::Plain => {
            let dir = root.join("plain").join(writer.pod());
            (dir.clone(), dir.join("app.log"))
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| format!("Opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habits(layout: Layout, style: Style) -> Habits {
        Habits {
            layout,
            style,
            rate: 5_000.0,
            rotate_bytes: 30_000,
            life: Duration::from_secs(3),
            stays: Duration::ZERO,
            unfinished: false,
        }
    }

    #[test]
    fn the_lengths_are_the_files() {
        let dir = tempfile::tempdir().unwrap();
        for (number, layout) in
            [Layout::Kubernetes, Layout::Docker, Layout::Plain].into_iter().enumerate()
        {
            let mut habits = habits(layout, Style::Kubelet);
            (habits.rotate_bytes, habits.unfinished) = (u64::MAX, true);
            let writer = Writer(number as u32);
            let mut log = Log::create(dir.path(), writer, habits, 1, Duration::ZERO).unwrap();
            for ms in (0..=3_000).step_by(50) {
                assert!(log.tick(Duration::from_millis(ms), false).unwrap());
            }
            let text = fs::read(&log.live).unwrap();
            assert_ne!(text.last(), Some(&b'\n'), "its last line is unfinished");
            let written = log.finish(Duration::from_secs(3)).unwrap();
            assert_eq!(written.bytes(), text.len() as u64);
            assert!(written.lengths[0].len() > 10_000);
        }
    }

    #[test]
    fn a_log_rotates_in_every_style_and_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let styles = [
            Style::Kubelet,
            Style::Docker,
            Style::Create,
            Style::CreateDelayed,
            Style::CopyTruncate,
            Style::Delete,
        ];
        for (number, style) in styles.into_iter().enumerate() {
            let writer = Writer(number as u32);
            let habits = habits(Layout::Plain, style);
            let mut log = Log::create(dir.path(), writer, habits, 1, Duration::ZERO).unwrap();
            let mut ms = 0;
            while log.tick(Duration::from_millis(ms), ms > 1_000 && ms < 2_000).unwrap() {
                ms += 20;
            }
            assert!(!log.dir.exists(), "{style:?}");
            let rotations = log.written().marks.iter().filter(|mark| mark.1 == "rotating").count();
            // The program of one style has to be told before it can rotate again.
            assert!(rotations > 2, "{style:?}: {rotations}");
        }
    }
}
