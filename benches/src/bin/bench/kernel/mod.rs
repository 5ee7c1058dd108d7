//! The kernel watch beside inotify, polling and no watch at all, in one run.
//!
//! Of these figures *smaller* is better, and `ratio` is value by limit: the limit is the bare
//! operation in the same run (an append that nobody watches, a POST of the same line), or the bound
//! that is not to be exceeded. Those of inotify and polling stand beside under a suffix.

mod idle;
mod latency;
mod wakeups;
mod writes;

use anyhow::Result;

use crate::{Bench, Figure};

/// What is measured at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Writes,
    Latency,
    Idle,
    Wakeups,
}

pub(crate) const PARTS: [Part; 4] = [Part::Writes, Part::Latency, Part::Idle, Part::Wakeups];

/// What watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Kernel,
    Inotify,
    Poll,
}

const MODES: [Mode; 3] = [Mode::Kernel, Mode::Inotify, Mode::Poll];

impl Mode {
    /// As the configuration calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }

    /// A figure's name: the kernel's are the plain ones.
    fn figure(self, name: &str) -> String {
        match self {
            Self::Kernel => name.to_owned(),
            Self::Inotify | Self::Poll => format!("{name}_{}", self.name()),
        }
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
