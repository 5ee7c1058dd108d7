//! The kernel watch beside inotify, polling and no watch at all, in one run.
//!
//! Of these figures *smaller* is better, and `ratio` is value by limit: the limit is the bare
//! operation in the same run (an append that nobody watches, a POST of the same line), or the bound
//! that is not to be exceeded. Those of inotify and polling stand beside under a suffix.

mod idle;
mod latency;
mod wakeups;
mod writes;

use std::fs::{self, File, OpenOptions};

use anyhow::Result;
use benches::measure::Agent;
use collector::watch::Mode;

use crate::{Bench, Figure, PATIENCE};

/// What is measured at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Writes,
    Latency,
    Idle,
    Wakeups,
}

pub(crate) const PARTS: [Part; 4] = [Part::Writes, Part::Latency, Part::Idle, Part::Wakeups];

const MODES: [Mode; 3] = [Mode::Kernel, Mode::Inotify, Mode::Poll];

/// A figure's name: the kernel's are the plain ones.
fn named(mode: Mode, name: &str) -> String {
    match mode {
        Mode::Kernel => name.to_owned(),
        Mode::Inotify | Mode::Poll => format!("{name}_{}", mode.name()),
    }
}

/// An agent over one log, which is watched, and the log to write to.
struct OneLog {
    agent: Agent,
    file: File,
    /// Holds both.
    dir: tempfile::TempDir,
}

impl OneLog {
    /// With this `batch.max_age` and this sink, as the configuration has them.
    fn start(bench: &Bench, mode: Mode, max_age: &str, sink: &str) -> Result<Self> {
        let dir = bench.fresh_dir()?;
        let logs = dir.path().join("logs");
        fs::create_dir(&logs)?;
        let file = OpenOptions::new().create(true).append(true).open(logs.join("0.log"))?;
        let yaml = format!(
            "sources:\n  kubernetes: {{enabled: false}}\n  docker: {{enabled: false}}\n  \
             files: [{{paths: [\"{}/*.log\"]}}]\n\
             watch: {{mode: {}, kernel: {{pin_dir: /nonexistent}}}}\n\
             batch: {{max_age: {max_age}}}\nsinks: {{out: {sink}}}\n",
            logs.display(),
            mode.name(),
        );
        let mut agent = Agent::start(&bench.everyline, dir.path(), &yaml)?;
        let series = format!("everyline_watch_mode{{mode=\"{}\"}}", mode.name());
        agent.wait_until(PATIENCE, |agent| Ok(agent.sum(&series)? == 1))?;
        Ok(Self { agent, file, dir })
    }
}

/// The figures of one part.
pub(crate) fn measure(bench: &Bench, part: Part) -> Result<Vec<Figure>> {
    match part {
        Part::Writes => writes::measure(bench),
        Part::Latency => latency::measure(bench),
        Part::Idle => idle::measure(bench),
        Part::Wakeups => wakeups::measure(bench),
    }
}

fn figure(name: String, value: f64, unit: &'static str, limit: f64, note: String) -> Figure {
    Figure { name, value, unit, limit, ratio: value / limit, note }
}
