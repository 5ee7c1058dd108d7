//! Logs a command's output as a container runtime does: CRI lines, split at 16 KiB, rotated.
//!
//! For the demonstration on machines without containers: real processes, real pipes, and the log
//! file that containerd would have written. Not a container: nothing is isolated.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

use super::rotate::Rotator;
use crate::{
    framing::{self, Clock, Format, PIECE},
    tag::Stream,
};

/// Which command, and where its log goes.
#[derive(Debug, clap::Args)]
pub struct Logged {
    /// The live log file, `…/NAMESPACE_POD_UID/CONTAINER/0.log`.
    #[arg(long)]
    path: PathBuf,
    /// A log larger than this is rotated; 0: never.
    #[arg(long, default_value_t = 0)]
    rotate_bytes: u64,
    /// At a rotation, compress what was rotated before.
    #[arg(long)]
    compress: bool,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// One log, two pipes.
#[derive(Debug)]
struct Log {
    file: File,
    size: u64,
    clock: Clock,
    rotator: Rotator,
    rotate_bytes: u64,
}

/// Runs the command to its end.
pub fn log_command(options: &Logged) -> Result<ExitStatus> {
    let dir = options.path.parent().context("the log's path has no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("Creating {}", dir.display()))?;
    let rotator = Rotator::new(options.path.clone(), Format::Cri, 0, options.compress);
    let file = create(&options.path)?;
    let rotate_bytes = options.rotate_bytes;
    let log = Mutex::new(Log { file, size: 0, clock: Clock::now(), rotator, rotate_bytes });
    let (program, arguments) = options.command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("Starting {program}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(|| out.map_or(Ok(()), |pipe| copy(pipe, Stream::Stdout, &log)));
        let err = scope.spawn(|| err.map_or(Ok(()), |pipe| copy(pipe, Stream::Stderr, &log)));
        for pipe in [out, err] {
            pipe.join().expect("a pipe's thread panicked")?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(child.wait()?)
}

/// Lines of a pipe to the log; longer ones in pieces, as containerd reads them.
fn copy(pipe: impl Read, stream: Stream, log: &Mutex<Log>) -> Result<()> {
    let mut pipe = BufReader::with_capacity(PIECE, pipe);
    let mut piece = Vec::new();
    loop {
        piece.clear();
        pipe.by_ref().take(PIECE as u64).read_until(b'\n', &mut piece)?;
        let last = piece.last() == Some(&b'\n');
        if piece.is_empty() {
            return Ok(());
        }
        let message = &piece[..piece.len() - usize::from(last)];
        // A full piece is followed by more; anything else ends the line, also the last one.
        let last = last || piece.len() < PIECE;
        log.lock().unwrap_or_else(PoisonError::into_inner).write(stream, message, last)?;
    }
}

impl Log {
    fn write(&mut self, stream: Stream, message: &[u8], last: bool) -> Result<()> {
        if self.rotate_bytes > 0 && self.size >= self.rotate_bytes {
            self.rotator.rotate()?;
            (self.file, self.size) = (create(self.rotator.live())?, 0);
        }
        let mut line = Vec::with_capacity(message.len() + 64);
        self.clock.catch_up();
        framing::line(&mut line, Format::Cri, &mut self.clock, stream, message, last);
        self.file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }
}

fn create(path: &std::path::Path) -> Result<File> {
    let mut options = File::options();
    let what = || format!("Opening {}", path.display());
    options.create(true).append(true).open(path).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_output_becomes_cri_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a_b_c/d/0.log");
        let script = "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; exit 3";
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let options = Logged { path: path.clone(), rotate_bytes: 0, compress: false, command };
        assert_eq!(log_command(&options).unwrap().code(), Some(3));
        let text = fs::read_to_string(path).unwrap();
        let mut parts: Vec<_> =
            text.lines().map(|line| line.splitn(4, ' ').skip(1).collect::<Vec<_>>()).collect();
        parts.sort();
        assert_eq!(parts[0], ["stderr", "F", "err"]);
        assert_eq!(parts[1], ["stdout", "F", "out"]);
        assert_eq!((parts[2][1], parts[2][2].len()), ("F", 20_000 - PIECE));
        assert_eq!((parts[3][1], parts[3][2].len()), ("P", PIECE));
        assert_eq!(parts.len(), 4);
    }
}
