//! A search of the archive beside `zstdcat | grep` over the same segments, in wall time. Both print
//! the lines they find; the search puts them in the order of their times besides.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use benches::{framing::Format, measure::Agent};

use crate::{Bench, Figure, PATIENCE, median, sources};

/// Found in a few messages of the corpus, and only in messages.
const PATTERN: &str = "session expired token";

pub(crate) fn scan(bench: &mut Bench) -> Result<Figure> {
    let corpus = bench.corpus(Format::Cri)?;
    let dir = bench.fresh_dir()?;
    let archive = dir.path().join("archive");
    let sinks = format!("sinks: {{out: {{type: archive, dir: \"{}\"}}}}\n", archive.display());
    let yaml = sources(Format::Cri, &corpus.root) + &sinks;
    let mut agent = Agent::start(&bench.everyline, dir.path(), &yaml)?;
    agent.wait_until(PATIENCE, |agent| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(agent.delivered_lines()? >= corpus.lines)
    })?;
    drop(agent);
    let segments = segments(&archive)?;

    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let mut search = Command::new(&bench.everyline);
        search.args(["search", PATTERN, "-o", "json", "--archive-dir"]).arg(&archive);
        let (found, time) = timed(&mut search)?;
        ours.push(time);
        let mut grep = Command::new("sh");
        // The byte locale is grep at its fastest.
        grep.env("LC_ALL", "C").args(["-c", r#"p=$1; shift; zstdcat "$@" | grep -- "$p""#]);
        grep.args(["sh", PATTERN]).args(&segments);
        let (expected, time) = timed(&mut grep)?;
        limit.push(time);
        ensure!(found == expected, "search found {found} lines, grep {expected}");
    }
    let bytes: u64 = segments.iter().map(|path| path.metadata().map_or(0, |meta| meta.len())).sum();
    let (value, bound) = (median(&mut ours), median(&mut limit));
    let note = format!("{:.1} MB of segments; median wall times", bytes as f64 / 1e6);
    Ok(Figure {
        name: String::new(),
        value: value * 1e3,
        unit: "ms",
        limit: bound * 1e3,
        ratio: bound / value,
        note,
    })
}

/// Runs a command; how many lines it printed and the wall time in seconds.
fn timed(command: &mut Command) -> Result<(u64, f64)> {
    let begun = Instant::now();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("Running {command:?}"))?;
    let time = begun.elapsed().as_secs_f64();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines > 0, "{command:?} found nothing");
    Ok((lines as u64, time))
}

fn segments(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("Listing {}", dir.display()))?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .collect();
    found.sort();
    ensure!(!found.is_empty(), "there are no segments in {}", dir.display());
    Ok(found)
}
