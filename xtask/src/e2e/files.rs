//! 200 logs, the kubelet's rotation with compression, partial and hostile lines; the agent is down
//! for at least three rotations of every log, while every byte still exists somewhere on disk.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{Trial, step};
use crate::process::{Running, Scratch};

pub(super) fn run() -> Result<()> {
    step("200 files, rotated and compressed; the agent is down for three rotations.");
    let scratch = Scratch::new("e2e-files")?;
    let pods = scratch.directory("pods")?;
    let trial = Trial::start(&scratch, &pods)?;
    // About 40 KB/s a log, so each rotates every 1.5 s.
    let options = "files --files 200 --rate 40000 --seconds 20 --rotate-bytes 60000 --compress \
                   --partials 20 --hostile 2";
    let mut command = Command::new(&trial.loadgen);
    command.args(options.split_whitespace()).arg("--root").arg(&pods);
    command.arg("--manifest").arg(&trial.manifest).stdout(Stdio::null());
    let mut writers = Running::start("loadgen", &mut command)?;
    std::thread::sleep(Duration::from_secs(6));
    let trial = trial.kill_and_restart(|| {
        std::thread::sleep(Duration::from_secs(7));
        Ok(())
    })?;
    let status = writers.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "The load generator failed ({status}).");
    trial.judge(Duration::from_secs(60))
}
