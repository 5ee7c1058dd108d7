//! Bytes per CPU-second: the data's path beside reading, splitting, compressing and parsing alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use benches::{
    framing::Format,
    measure::{self, Agent, CountingSink},
};

use crate::{Bench, Corpus, Figure, PATIENCE, median, sources};

const UNIT: &str = "MB/CPU-s";

pub(crate) fn page_cache_read(bench: &mut Bench) -> Result<Figure> {
    bare(bench, Format::Cri, measure::page_cache_read)
}

pub(crate) fn read_split_copy(bench: &mut Bench) -> Result<Figure> {
    bare(bench, Format::Cri, measure::read_split_copy)
}

pub(crate) fn simd_json_tape(bench: &mut Bench) -> Result<Figure> {
    bare(bench, Format::Docker, measure::simd_json_tape)
}

pub(crate) fn zstd1(bench: &mut Bench) -> Result<Figure> {
    let encoded = encoded(bench)?;
    let rounds = (0..bench.rounds).map(|_| measure::zstd_pieces(&encoded));
    let times = Times(rounds.collect::<Result<_>>()?);
    Ok(times.alone(encoded.len() as u64))
}

/// CRI files to a loopback HTTP sink in this process (its CPU time is not counted), until the last
/// line is acknowledged; in encoded bytes, beside zstd-1 of just these.
pub(crate) fn cri_ndjson_zstd_http(bench: &mut Bench) -> Result<Figure> {
    let corpus = bench.corpus(Format::Cri)?;
    let encoded = encoded(bench)?;
    let (mut ours, mut limit) = (Times::default(), Times::default());
    for _ in 0..bench.rounds {
        ours.0.push(to_http(bench, &corpus, &CountingSink::start(None)?)?);
        limit.0.push(measure::zstd_pieces(&encoded)?);
    }
    Ok(ours.beside(&limit, encoded.len() as u64))
}

/// CRI files to the null sink, encoded but not compressed; in raw bytes, beside reading, splitting
/// and copying the same files.
pub(crate) fn cri_encoded_null(bench: &mut Bench) -> Result<Figure> {
    to_null(bench, Format::Cri, measure::read_split_copy)
}

/// Docker's json-file to the null sink, encoded but not compressed; in raw bytes, beside reading
/// the same files and making simd-json's tape of each line.
pub(crate) fn docker_encoded_null(bench: &mut Bench) -> Result<Figure> {
    to_null(bench, Format::Docker, measure::simd_json_tape)
}

fn bare(
    bench: &mut Bench,
    format: Format,
    run: fn(&[PathBuf]) -> Result<Duration>,
) -> Result<Figure> {
    let corpus = bench.corpus(format)?;
    let rounds = (0..bench.rounds).map(|_| run(&corpus.files));
    Ok(Times(rounds.collect::<Result<_>>()?).alone(corpus.bytes))
}

fn to_null(
    bench: &mut Bench,
    format: Format,
    bare: fn(&[PathBuf]) -> Result<Duration>,
) -> Result<Figure> {
    let corpus = bench.corpus(format)?;
    let (mut ours, mut limit) = (Times::default(), Times::default());
    for _ in 0..bench.rounds {
        let dir = bench.fresh_dir()?;
        let sinks = "sinks: {out: {type: \"null\", compression: none}}\n";
        let yaml = sources(format, &corpus.root) + sinks;
        let (mut agent, start) = start(bench, &corpus, dir.path(), &yaml)?;
        agent.wait_until(PATIENCE, |agent| {
            // Often enough for the end to be seen at once, seldom enough to cost nothing.
            std::thread::sleep(Duration::from_millis(20));
            Ok(agent.delivered_lines()? >= corpus.lines)
        })?;
        ours.0.push(agent.cpu()? - start);
        drop(agent);
        limit.0.push(bare(&corpus.files)?);
    }
    Ok(ours.beside(&limit, corpus.bytes))
}

/// The corpus once through the agent to `sink`; the CPU time that took.
fn to_http(bench: &Bench, corpus: &Corpus, sink: &CountingSink) -> Result<Duration> {
    let dir = bench.fresh_dir()?;
    let sinks = format!("sinks: {{out: {{type: http, url: \"{}\"}}}}\n", sink.url());
    let yaml = sources(Format::Cri, &corpus.root) + &sinks;
    let (mut agent, start) = start(bench, corpus, dir.path(), &yaml)?;
    agent.wait_until(PATIENCE, |_| Ok(sink.lines() >= corpus.lines))?;
    Ok(agent.cpu()? - start)
}

/// An agent that is at work before it is given the corpus, and the CPU time that it took till then:
/// loading the kernel watch alone costs what some 200 MB of lines do.
fn start(bench: &Bench, corpus: &Corpus, dir: &Path, yaml: &str) -> Result<(Agent, Duration)> {
    let aside = corpus.root.with_extension("aside");
    fs::rename(&corpus.root, &aside)?;
    let started = Agent::start(&bench.everyline, dir, yaml).and_then(|mut agent| {
        agent.wait_until(PATIENCE, Agent::is_ready)?;
        let cpu = agent.cpu()?;
        Ok((agent, cpu))
    });
    fs::rename(&aside, &corpus.root)?;
    started
}

/// The corpus as the agent encodes it, caught in a run that is not measured.
fn encoded(bench: &mut Bench) -> Result<Vec<u8>> {
    let corpus = bench.corpus(Format::Cri)?;
    let path = bench.dir.path().join("encoded.ndjson");
    if !path.exists() {
        to_http(bench, &corpus, &CountingSink::start(Some(&path))?)?;
    }
    Ok(fs::read(path)?)
}

/// The CPU times of several rounds.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn alone(&self, bytes: u64) -> Figure {
        let best = self.best(bytes);
        let note = format!("median {:.0}", self.median(bytes));
        Figure { name: String::new(), value: best, unit: UNIT, limit: best, ratio: 1.0, note }
    }

    fn beside(&self, limit: &Self, bytes: u64) -> Figure {
        let (best, bound) = (self.best(bytes), limit.best(bytes));
        let (middle, middle_bound) = (self.median(bytes), limit.median(bytes));
        let note =
            format!("medians {middle:.0} and {middle_bound:.0}: {:.2}", middle / middle_bound);
        let ratio = best / bound;
        Figure { name: String::new(), value: best, unit: UNIT, limit: bound, ratio, note }
    }

    fn best(&self, bytes: u64) -> f64 {
        self.rates(bytes).into_iter().fold(0.0, f64::max)
    }

    fn median(&self, bytes: u64) -> f64 {
        median(&mut self.rates(bytes))
    }

    fn rates(&self, bytes: u64) -> Vec<f64> {
        self.0.iter().map(|time| bytes as f64 / 1e6 / time.as_secs_f64()).collect()
    }
}
