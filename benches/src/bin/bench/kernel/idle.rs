//! A quiet node: 10,000 logs in Kubernetes' layout of which 50 get ten lines a second each, and
//! what the agent spends on that.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use benches::{
    loadgen::raise_descriptor_limit,
    measure::{Agent, CountingSink},
};

use super::{MODES, Mode, figure, named};
use crate::{Bench, Figure, PATIENCE};

const FILES: usize = 10_000;
const BUSY: usize = 50;
/// Lines a second in each busy one.
const RATE: u32 = 10;
const CPU_PERCENT: f64 = 0.3;
const RSS_MIB: f64 = 40.0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    raise_descriptor_limit();
    let mut figures = Vec::new();
    for mode in MODES {
        let idle = observe(bench, mode)?;
        let beside = |reach: String| if mode == Mode::Kernel { reach } else { "beside".to_owned() };
        let note = format!(
            "{:.0} s, {} lines, {:.0} reads/s; {}",
            bench.idle.as_secs_f64(),
            idle.lines,
            idle.reads,
            beside("at most 0.3".to_owned())
        );
        let name = |name| named(mode, name);
        figures.push(figure(name("idle_cpu_percent"), idle.cpu, "%", CPU_PERCENT, note));
        let note = beside("none".to_owned());
        // No bound to divide by.
        let watches = Figure {
            name: name("idle_inotify_watches"),
            value: idle.watches as f64,
            unit: "watches",
            limit: 0.0,
            ratio: idle.watches as f64,
            note,
        };
        figures.push(watches);
        let note = format!("peak {:.1}; {}", idle.peak, beside("at most 40".to_owned()));
        figures.push(figure(name("idle_rss_mib"), idle.rss, "MiB", RSS_MIB, note));
    }
    Ok(figures)
}

struct Idle {
    cpu: f64,
    watches: u64,
    rss: f64,
    peak: f64,
    lines: u64,
    reads: f64,
}

fn observe(bench: &Bench, mode: Mode) -> Result<Idle> {
    let (dir, sink) = (bench.fresh_dir()?, CountingSink::start(None)?);
    let pods = dir.path().join("pods");
    let busy = create(&pods)?;
    let yaml = format!(
        "sources:\n  kubernetes: {{enabled: true, pods_dir: \"{pods}\", containers_dir: \
         \"{pods}-none\"}}\n  docker: {{enabled: false}}\n\
         watch: {{mode: {}, kernel: {{pin_dir: /nonexistent}}}}\n\
         sinks: {{out: {{type: http, url: \"{}\"}}}}\n",
        mode.name(),
        sink.url(),
        pods = pods.display(),
    );
    let mut agent = Agent::start(&bench.everyline, dir.path(), &yaml)?;
    let series = format!("everyline_watch_mode{{mode=\"{}\"}}", mode.name());
    agent.wait_until(PATIENCE, |agent| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(agent.sum(&series)? == FILES as u64 && sink.lines() >= FILES as u64)
    })?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(busy, &stop));
        let watched = watch(bench, &agent, &sink);
        stop.store(true, Ordering::Release);
        writer.join().expect("the writer panicked")?;
        watched
    })
}

/// What the agent spends while the writer writes.
fn watch(bench: &Bench, agent: &Agent, sink: &CountingSink) -> Result<Idle> {
    // What a start leaves to be done is done by then.
    std::thread::sleep(Duration::from_secs(10));
    let reads = agent.sum("everyline_reads_total")?;
    let (lines, cpu, begun) = (sink.lines(), agent.cpu()?, Instant::now());
    std::thread::sleep(bench.idle);
    let (cpu, passed) = (agent.cpu()? - cpu, begun.elapsed().as_secs_f64());
    let lines = sink.lines() - lines;
    let (peak, rss) = agent.memory_mib()?;
    let reads = (agent.sum("everyline_reads_total")? - reads) as f64 / passed;
    let watches = agent.inotify_watches()?;
    Ok(Idle { cpu: 100.0 * cpu.as_secs_f64() / passed, watches, rss, peak, lines, reads })
}

/// One line each, and those that are written further.
fn create(pods: &Path) -> Result<Vec<File>> {
    let mut busy = Vec::new();
    for number in 0..FILES {
        let dir = pods.join(format!("shop_web-{number}_{number:08x}-0d7e/app"));
        fs::create_dir_all(&dir)?;
        let mut file = OpenOptions::new().create(true).append(true).open(dir.join("0.log"))?;
        file.write_all(&line(number))?;
        if number % (FILES / BUSY) == 0 {
            busy.push(file);
        }
    }
    Ok(busy)
}

/// Every busy file in its turn, all in a tenth of a second.
fn write(busy: Vec<File>, stop: &AtomicBool) -> Result<()> {
    let pause = Duration::from_secs(1) / (RATE * BUSY as u32);
    let mut due = Instant::now();
    for (number, mut file) in busy.iter().cycle().enumerate() {
        if stop.load(Ordering::Acquire) {
            break;
        }
        file.write_all(&line(number))?;
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn line(number: usize) -> Vec<u8> {
    let now = jiff::Timestamp::now();
    format!("{now:.9} stdout F GET /cart/{number} 200 in 12 ms, nothing else to say\n").into_bytes()
}
