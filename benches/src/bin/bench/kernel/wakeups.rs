//! A file that is written flat out: how often the agent is woken for each time it reads.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use benches::measure::{Agent, pin_process, pin_thread};

use super::{Mode, OneLog, figure};
use crate::{Bench, Figure, PATIENCE};

const BOUND: f64 = 1.05;
const TIME: Duration = Duration::from_secs(10);
const LINE: &[u8] = b"GET /cart 200 in 12 ms, nothing else to say here\n";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (mode, linger, suffix) in [
        (Mode::Kernel, "1s", ""),
        (Mode::Kernel, "0s", "_linger0"),
        (Mode::Inotify, "1s", "_inotify"),
        (Mode::Inotify, "0s", "_linger0_inotify"),
    ] {
        let (wakeups, reads, rate) = count(bench, mode, linger)?;
        let note = format!("{wakeups} for {reads} reads, {rate:.0} writes/s, linger {linger}");
        let value = wakeups as f64 / reads as f64;
        figures.push(figure(format!("wakeups_per_read{suffix}"), value, "", BOUND, note));
    }
    Ok(figures)
}

/// Wake-ups, reads, and writes a second.
fn count(bench: &Bench, mode: Mode, linger: &str) -> Result<(u64, u64, f64)> {
    let sink = "{type: \"null\"}";
    let OneLog { dir: _dir, mut agent, mut file } = OneLog::start(bench, mode, linger, sink)?;
    pin_process(agent.pid(), 1)?;
    let wakeups = format!("everyline_watch_wakeups_total{{mode=\"{}\"}}", mode.name());
    let now = |agent: &Agent| anyhow::Ok((agent.sum(&wakeups)?, agent.sum("everyline_reads")?));
    let before = now(&agent)?;
    let writer = std::thread::spawn(move || -> Result<u64> {
        pin_thread(0)?;
        let (begun, mut writes) = (Instant::now(), 0);
        while begun.elapsed() < TIME {
            for _ in 0..100 {
                ensure!(file.write(LINE)? == LINE.len(), "a short write");
            }
            writes += 100;
        }
        Ok(writes)
    });
    let writes = writer.join().expect("the writer panicked")?;
    agent.wait_until(PATIENCE, |agent| Ok(agent.delivered_lines()? >= writes))?;
    let after = now(&agent)?;
    Ok((after.0 - before.0, after.1 - before.1, writes as f64 / TIME.as_secs_f64()))
}
