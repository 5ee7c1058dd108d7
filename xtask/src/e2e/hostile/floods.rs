//! Floods: one tenant uses up what all share, while another writes a line now and then. The other's latency,
//! from a line's writing to its being stored, may not become more than twice what it is without the flood;
//! for a log that is known, and for the first line of a pod that is new.

mod attacks;
mod measure;

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use super::{Attack, Setting};
use crate::process::Scratch;
use attacks::{
    Place, bombs, clients, descriptors, holes, listing, many_directories, many_former, many_names,
    names,
};
use measure::Attacked;

/// A probe's timeout, as kubelet has it.
const PROBE: Duration = Duration::from_secs(1);
/// What the manifest allows.
const MEMORY: u64 = 256 << 20;
/// Descriptors of an agent whose descriptors are used up.
const DESCRIPTORS: usize = 1_024;

pub(super) const ATTACKS: [Attack; 9] = [
    Attack {
        name: "flood-descriptors",
        what: "1,100 logs of one tenant under a limit of 1,024 descriptors, all written to",
        run: |setting| flood(setting, Some(DESCRIPTORS), descriptors),
    },
    Attack {
        name: "flood-gzip",
        what: "compressed copies that unpack to a thousand times their size, one after the other",
        run: |setting| flood(setting, None, bombs),
    },
    Attack {
        name: "flood-listing",
        what: "30,000 files that are no logs, in a directory of logs that changes all the time",
        run: |setting| flood(setting, None, listing),
    },
    Attack {
        name: "flood-holes",
        what: "logs of a few lines, far apart in files of holes",
        run: |setting| flood(setting, None, holes),
    },
    Attack {
        name: "flood-names",
        what: "logs that are made, written, truncated and deleted without end",
        run: |setting| flood(setting, None, names),
    },
    Attack {
        name: "flood-known",
        what: "60,000 logs with names of 250 bytes, all of them there to stay",
        run: |setting| flood(setting, None, many_names),
    },
    Attack {
        name: "flood-former",
        what: "60,000 former files of one log",
        run: |setting| flood(setting, None, many_former),
    },
    Attack {
        name: "flood-directories",
        what: "30,000 nested directories below a pattern, each with a log",
        run: |setting| flood(setting, None, many_directories),
    },
    Attack {
        name: "flood-admin",
        what: "40 clients that hold the admin port, ask without end and read nothing",
        run: |setting| flood(setting, None, clients),
    },
];

fn flood(
    setting: &Setting,
    descriptors: Option<usize>,
    attack: fn(&Place<'_>) -> Result<u64>,
) -> Result<String> {
    let mut said = Vec::new();
    for mode in ["kernel", "inotify", "poll"] {
        let scratch = Scratch::new("e2e-flood")?;
        let attacked = Attacked::start(setting, &scratch, mode, descriptors)?;
        let third = setting.lasting / 3;
        let quiet = attacked.measure("quiet", third / 2, |_| Ok(0))?.0;
        let (loud, times) = attacked.measure("loud", third, attack)?;
        let slowest = attacked.slowest_probe();
        ensure!(slowest <= PROBE, "in mode {mode}, a probe took {slowest:?}");
        for (what, quiet, loud) in
            [("a line", quiet.known, loud.known), ("a new pod's line", quiet.new, loud.new)]
        {
            ensure!(
                loud <= quiet * 2,
                "in mode {mode}, {what} took {loud:?} beside the flood and {quiet:?} without it\n{}",
                attacked.agent.log_tail()
            );
        }
        let memory = attacked.running.peak_memory()?;
        ensure!(memory <= MEMORY, "in mode {mode}, the agent took {} MiB", memory >> 20);
        let log = fs::metadata(scratch.path().join("agent/everyline.log"))?.len();
        ensure!(log < 256 << 10, "in mode {mode}, the agent's log has {log} bytes");
        said.push(format!(
            "{mode}: {times} times; p99 of a line {:.2} s (without {:.2}), of a new pod's {:.2} s ({:.2}), a probe {:.2} s, {} MiB at most, {} KiB of log",
            loud.known.as_secs_f64(),
            quiet.known.as_secs_f64(),
            loud.new.as_secs_f64(),
            quiet.new.as_secs_f64(),
            slowest.as_secs_f64(),
            memory >> 20,
            log >> 10,
        ));
        let status = attacked.running.stop(Duration::from_secs(90))?;
        // A flood may leave more than can be delivered in time.
        ensure!(status.code().is_some(), "The agent ended with {status}.");
    }
    Ok(said.join("; "))
}
