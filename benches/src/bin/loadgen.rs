//! `loadgen`: writes container logs at a rate or flat out, and a manifest of what it wrote.
//!
//! `files` writes log files as a runtime and the kubelet do; `emit` prints messages like an
//! application in a container, for a real runtime to log; `log` is such a runtime's log writer
//! around any command. SIGTERM and SIGINT end both in order:
//! everything is flushed and the manifest written.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use benches::{
    loadgen::{self, Logged, Messages, Options},
    tag::{Stream, Writer},
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(version, about)]
enum Command {
    /// Write log files.
    Files(Options),
    /// Print messages to standard output and standard error.
    Emit(Emit),
    /// Run a command and log what it prints, as a runtime would.
    Log(Logged),
}

#[derive(Debug, clap::Args)]
struct Emit {
    /// The writer's number; makes its tags.
    #[arg(long)]
    writer: u32,
    /// How many messages.
    #[arg(long)]
    lines: u64,
    /// Messages a second; 0: flat out.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds to stay after the last message.
    #[arg(long, default_value_t = 0)]
    linger: u64,
}

/// Set by a signal.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> Result<()> {
    stop_on_signals()?;
    match Command::parse() {
        Command::Files(options) => {
            let start = Instant::now();
            let manifest = loadgen::run(&options, &STOP)?;
            let (lines, bytes) = (manifest.messages(), manifest.bytes());
            let seconds = start.elapsed().as_secs_f64();
            let rate = bytes as f64 / 1e6 / seconds;
            println!("{lines} messages, {bytes} bytes in {seconds:.1} s, {rate:.0} MB/s.");
        }
        Command::Emit(options) => emit(&options)?,
        Command::Log(options) => {
            let status = loadgen::log_command(&options)?;
            anyhow::ensure!(status.success(), "The command ended: {status}.");
        }
    }
    Ok(())
}

/// One in eight messages goes to standard error. Which ones follows from the seed, so whoever knows
/// it can count them.
fn emit(options: &Emit) -> Result<()> {
    let mut messages = Messages::new(Writer(options.writer), options.seed);
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let (start, mut message) = (Instant::now(), Vec::new());
    for number in 0..options.lines {
        if STOP.load(Ordering::Relaxed) {
            break;
        }
        let stream = if number % 8 == 7 { Stream::Stderr } else { Stream::Stdout };
        messages.next(stream, &mut message);
        message.push(b'\n');
        match stream {
            Stream::Stderr => err.write_all(&message)?,
            _ => out.write_all(&message)?,
        }
        if options.rate > 0 && number % 16 == 0 {
            let due = Duration::from_secs_f64(number as f64 / options.rate as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    out.flush()?;
    let end = Instant::now() + Duration::from_secs(options.linger);
    while Instant::now() < end && !STOP.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn stop_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        STOP.store(true, Ordering::Relaxed);
    });
    Ok(())
}
