//! From write() of a line to its arrival in a loopback HTTP sink, with nothing lingering.
//!
//! A line is written when the one before has arrived, after a random pause; between any two lines
//! the same bytes are posted by a bare client to the same receiver, which is the limit.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use benches::measure::{Arrivals, Poster};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{MODES, Mode, OneLog, figure, named};
use crate::{Bench, Figure, PATIENCE};

const LINES: usize = 3_000;
/// Polling takes a part of a second for each.
const POLLED_LINES: usize = 150;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for mode in MODES {
        let (mut agent, mut bare) = sample(bench, mode)?;
        for (name, part, reach) in [
            ("latency_p50_us", 0.50, "at most 300, or ratio at most 3"),
            ("latency_p99_us", 0.99, "at most 2,000"),
        ] {
            let (value, limit) = (quantile(&mut agent, part), quantile(&mut bare, part));
            let reach = if mode == Mode::Kernel { reach } else { "beside" };
            let note = format!("{} lines; {reach}", agent.len());
            figures.push(figure(named(mode, name), value, "us", limit, note));
        }
    }
    Ok(figures)
}

/// Times of the agent's way and of bare posts, microseconds.
fn sample(bench: &Bench, mode: Mode) -> Result<(Vec<f64>, Vec<f64>)> {
    let arrivals = Arrivals::start()?;
    let sink = format!("{{type: http, url: \"http://{}/\"}}", arrivals.address());
    let OneLog { dir: _dir, agent: _agent, mut file } = OneLog::start(bench, mode, "0s", &sink)?;
    let mut poster = Poster::connect(arrivals.address())?;
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let lines = if mode == Mode::Poll { POLLED_LINES } else { LINES };
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    // The first hundred warm everything up.
    for number in 0..lines + 100 {
        let line = format!("line {number:08} {}\n", "x".repeat(240));
        std::thread::sleep(Duration::from_micros(random.random_range(500..3_000)));
        let written = Instant::now();
        file.write_all(line.as_bytes())?;
        let arrival = arrivals.next(PATIENCE).context("A line did not arrive")?;
        let took = arrival.at - written;
        let text = String::from_utf8(arrival.text()?)?;
        ensure!(text.contains(line.trim_end()), "another line arrived: {text}");
        std::thread::sleep(Duration::from_micros(random.random_range(500..3_000)));
        let sent = poster.post(line.as_bytes())?;
        let posted = arrivals.next(PATIENCE).context("A post did not arrive")?.at - sent;
        if number >= 100 {
            ours.push(took.as_secs_f64() * 1e6);
            bare.push(posted.as_secs_f64() * 1e6);
        }
    }
    Ok((ours, bare))
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
