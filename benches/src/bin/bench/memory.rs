//! Peak memory at default settings: 1,000 files flat out, and behind a sink that is dead.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Result, ensure};
use benches::{
    framing::Format,
    loadgen::{self, Options},
    measure::{Agent, CountingSink, StalledSink},
};

use crate::{Bench, Figure, PATIENCE, sources};

/// What must not be exceeded.
const BOUND_MIB: f64 = 64.0;
const FILES: u32 = 1_000;
/// Per file, when flat out.
const BYTES: u64 = 512 << 10;

/// 1,000 files written flat out while the agent delivers them to a loopback HTTP sink.
pub(crate) fn thousand_files(bench: &mut Bench) -> Result<Figure> {
    let (dir, sink) = (bench.fresh_dir()?, CountingSink::start(None)?);
    let mut options = Options::new(dir.path().join("pods"));
    (options.files, options.bytes) = (FILES, BYTES);
    std::fs::create_dir(&options.root)?;
    let yaml = sources(Format::Cri, &options.root) + &sink_yaml(&sink.url());
    let mut agent = Agent::start(&bench.everyline, dir.path(), &yaml)?;
    let written = loadgen::run(&options, &AtomicBool::new(false))?.messages();
    agent.wait_until(PATIENCE, |_| Ok(sink.lines() >= written))?;
    let (peak, now) = agent.memory_mib()?;
    Ok(figure(peak, format!("{now:.1} in the end")))
}

/// 1,000 files written at 20,000 lines a second while nobody listens on the sink's port, and for
/// the second half of the time somebody who accepts and never answers.
pub(crate) fn dead_sink(bench: &mut Bench) -> Result<Figure> {
    let dir = bench.fresh_dir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut options = Options::new(dir.path().join("pods"));
    (options.files, options.rate) = (FILES, 20_000);
    options.seconds = bench.dead.as_secs_f64();
    std::fs::create_dir(&options.root)?;
    let yaml = sources(Format::Cri, &options.root) + &sink_yaml(&format!("http://{address}/"));
    let mut agent = Agent::start(&bench.everyline, dir.path(), &yaml)?;
    let stop = AtomicBool::new(false);
    let (mut early, mut stalled, begun) = (0.0, None, Instant::now());
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| loadgen::run(&options, &stop));
        let watched = agent.wait_until(2 * bench.dead + PATIENCE, |agent| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            if early == 0.0 && begun.elapsed() > bench.dead / 3 {
                early = agent.memory_mib()?.1;
            }
            if stalled.is_none() && begun.elapsed() > bench.dead / 2 {
                stalled = Some(StalledSink::start(address)?);
            }
            Ok(begun.elapsed() > bench.dead)
        });
        stop.store(true, Ordering::Relaxed);
        let manifest = writer.join().expect("the load generator panicked")?;
        ensure!(manifest.messages() > 0, "nothing was written");
        watched
    })?;
    let (peak, now) = agent.memory_mib()?;
    Ok(figure(peak, format!("{early:.1} after a third of the time, {now:.1} in the end")))
}

fn sink_yaml(url: &str) -> String {
    format!("sinks: {{out: {{type: http, url: \"{url}\"}}}}\n")
}

fn figure(value: f64, note: String) -> Figure {
    let (limit, ratio) = (BOUND_MIB, BOUND_MIB / value);
    Figure { name: String::new(), value, unit: "MiB", limit, ratio, note }
}
