//! One guest under QEMU: started, listened to, and killed when it takes too long or falls silent. Its
//! processor is emulated: virtualisation is absent on most build machines, and half there on some.

use std::{
    io::Read,
    path::Path,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::process::Running;

/// How long a guest may take for everything.
const TOTAL: Duration = Duration::from_secs(30 * 60);

/// How long it may say nothing; longer than any test waits for anything.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Power off takes about a second after the last word.
const POWER_OFF: Duration = Duration::from_secs(30);

/// `panic=-1` and no reboot: a kernel that panics ends the process at once.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=-1 mitigations=off";

/// What it is made of.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    pub disk: &'a Path,
    /// Where the kernel's own messages go.
    pub console: &'a Path,
}

impl Guest<'_> {
    /// Runs it to its end; hands every line it says to `take` and shows those that it answers true to.
    pub(super) fn run(&self, mut take: impl FnMut(&str) -> bool) -> Result<()> {
        let mut running = Running::start("QEMU", &mut self.command())?;
        let show = |line: &str| {
            if take(line) {
                println!("    {line}");
            }
        };
        listen(&mut running, TOTAL, SILENCE, show)?;
        let status = running.wait(POWER_OFF)?;
        ensure!(status.success(), "QEMU ended with {status}; it says why above.");
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        command.args(["-append", KERNEL_ARGUMENTS]);
        // The disk's end is that of the guest: nothing of it has to survive a crash.
        let options = "if=virtio,format=raw,cache=unsafe,discard=unmap";
        command.arg("-drive").arg(format!("file={},{options}", escaped(self.disk)));
        command.arg("-serial").arg(format!("file:{}", self.console.display()));
        command.args(["-chardev", "stdio,id=tests,signal=off", "-serial", "chardev:tests"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Hands on what it says, line by line, until it says no more. An error, upon which the caller kills
/// it, if that takes longer than `total`, or one thing it says comes longer than `silence` after
/// the one before.
fn listen(
    running: &mut Running,
    total: Duration,
    silence: Duration,
    mut take: impl FnMut(&str),
) -> Result<()> {
    let chunks = chunks(running.take_stdout()?);
    let end = Instant::now() + total;
    let mut lines = Lines::default();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match chunks.recv_timeout(left.min(silence)) {
            Ok(chunk) => lines.take(&chunk, &mut take),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let last = String::from_utf8_lossy(&lines.partial).into_owned();
                ensure!(
                    left > silence,
                    "It was not done after {total:?} and was killed; it broke off with {last:?}."
                );
                bail!(
                    "It said nothing for {silence:?} and was killed; it broke off with {last:?}."
                );
            }
        }
    }
}

/// A path as a value among QEMU's options.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// What it says, as it says it.
fn chunks(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(64);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Cuts chunks into lines.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, chunk: &[u8], mut line: impl FnMut(&str)) {
        self.partial.extend(chunk);
        while let Some(at) = self.partial.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.partial.drain(..=at).collect();
            line(String::from_utf8_lossy(&whole).trim_end_matches(['\r', '\n']));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(script: &str, total: u64, silence: u64) -> (Vec<String>, Result<()>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let (mut running, mut said) = (Running::start("sh", &mut command).unwrap(), Vec::new());
        let limits = (Duration::from_millis(total), Duration::from_millis(silence));
        let ended = listen(&mut running, limits.0, limits.1, |line| said.push(line.to_owned()));
        (said, ended)
    }

    #[test]
    fn what_falls_silent_or_does_not_end_is_given_up() {
        let (lines, ended) = said("echo one; printf two", 60_000, 30_000);
        assert!(ended.is_ok() && lines == ["one"]);
        let (_, ended) = said("printf 'one\ntest a ... '; exec sleep 60", 60_000, 300);
        let expected =
            "It said nothing for 300ms and was killed; it broke off with \"test a ... \".";
        assert_eq!(ended.unwrap_err().to_string(), expected);
        let (lines, ended) = said("while echo on; do sleep 0.05; done", 500, 30_000);
        let expected = "It was not done after 500ms and was killed; it broke off with \"\".";
        assert_eq!(ended.unwrap_err().to_string(), expected);
        assert!(lines.len() > 1);
    }

    #[test]
    fn chunks_become_lines() {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for chunk in [&b"one\r\ntw"[..], b"o\n\nth", b"ree"] {
            lines.take(chunk, |line| all.push(line.to_owned()));
        }
        assert_eq!(all, ["one", "two", ""]);
        assert_eq!(lines.partial, b"three");
        assert_eq!(escaped(Path::new("/a,b")), "/a,,b");
    }
}
