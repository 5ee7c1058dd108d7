//! The kernel watch loses no wake-up: a million lines at random intervals, nothing lingering, no
//! sweep that would help. What is written and judged is the binary `wakeups`'s business.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::step;
use crate::{build, process::Running};

/// Several times what it takes.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) fn run() -> Result<()> {
    let wakeups = build::binary(&["collector", "benches"], "wakeups")?;
    step("A million lines, 0 to 100 µs apart; each has to arrive within a second, in order, once.");
    let mut running = Running::start("wakeups", &mut Command::new(wakeups))?;
    let status = running.wait(PATIENCE)?;
    ensure!(status.success(), "A line was late, lost, doubled or out of order ({status}).");
    Ok(())
}
