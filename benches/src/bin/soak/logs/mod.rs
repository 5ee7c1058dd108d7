//! The logs of a node: many of them, on threads of their own, born and deleted all the time.

mod log;
mod rotate;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use benches::tag::Writer;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use self::log::Log;
pub(crate) use self::{
    log::{Habits, Layout, Written},
    rotate::Style,
};

const THREADS: u64 = 2;
const TICK: Duration = Duration::from_millis(4);

/// Logs that live side by side, each replaced by another of its kind when it ends.
const POPULATION: [(Layout, Style, u32); 6] = [
    (Layout::Kubernetes, Style::Kubelet, 10),
    (Layout::Docker, Style::Docker, 6),
    (Layout::Plain, Style::Create, 2),
    (Layout::Plain, Style::CreateDelayed, 2),
    (Layout::Plain, Style::CopyTruncate, 2),
    (Layout::Plain, Style::Delete, 2),
];

/// Everything that is written.
#[derive(Debug)]
pub(crate) struct Logs {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Vec<Written>>>>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    seed: u64,
    start: Instant,
    stop: AtomicBool,
    /// Milliseconds from the start until which every log rotates whenever it can.
    storm_until: AtomicU64,
    writers: AtomicU32,
    /// Short-lived ones that a thread has to begin.
    wanted: Mutex<Vec<Habits>>,
}

impl Logs {
    /// Begins to write under `root`.
    pub(crate) fn start(root: &Path, seed: u64, start: Instant) -> Self {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            seed,
            start,
            stop: AtomicBool::new(false),
            storm_until: AtomicU64::new(0),
            writers: AtomicU32::new(0),
            wanted: Mutex::default(),
        });
        let threads = (0..THREADS).map(|thread| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.write(thread))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Every log rotates as fast as it can for so long.
    pub(crate) fn storm(&self, length: Duration) {
        let until = (self.shared.start.elapsed() + length).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.shared.storm_until.fetch_max(until, Ordering::Relaxed);
    }

    /// So many containers that end and are deleted so long after their birth.
    pub(crate) fn short_lived(&self, logs: u32, life: Duration) {
        let mut wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..logs {
            let (layout, style) = match number % 3 {
                0 => (Layout::Docker, Style::Docker),
                _ => (Layout::Kubernetes, Style::Kubelet),
            };
            wanted.push(Habits {
                layout,
                style,
                rate: 100.0,
                rotate_bytes: u64::MAX,
                life: life.mul_f64(0.8),
                stays: life.mul_f64(0.2),
                unfinished: number % 4 == 3,
            });
        }
    }

    /// An error if a thread has ended.
    pub(crate) fn check(&self) -> Result<()> {
        let ended = self.threads.iter().any(JoinHandle::is_finished);
        anyhow::ensure!(!ended, "A log could not be written.");
        Ok(())
    }

    /// Writes no more; what was written.
    pub(crate) fn stop(self) -> Result<Vec<Written>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().ok().context("A thread that writes logs panicked")??);
        }
        Ok(all)
    }
}

impl Shared {
    /// One thread's share of the logs.
    fn write(&self, thread: u64) -> Result<Vec<Written>> {
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ thread << 32);
        let (mut logs, mut written) = (Vec::new(), Vec::new());
        let kinds = POPULATION.iter().flat_map(|kind| (0..kind.2).map(move |_| (kind.0, kind.1)));
        for (layout, style) in kinds.skip(thread as usize).step_by(THREADS as usize) {
            let habits = habits(&mut rng, layout, style);
            logs.push((self.create(habits)?, Some((layout, style))));
        }
        while !self.stop.load(Ordering::Relaxed) {
            if thread == 0 {
                let wanted = std::mem::take(
                    &mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner),
                );
                for habits in wanted {
                    logs.push((self.create(habits)?, None));
                }
            }
            let mut index = 0;
            while index < logs.len() {
                let now = self.start.elapsed();
                let storm = now.as_millis() < self.storm_until.load(Ordering::Relaxed).into();
                if logs[index].0.tick(now, storm)? {
                    index += 1;
                    continue;
                }
                let (log, kind) = logs.swap_remove(index);
                written.push(log.written());
                if let Some((layout, style)) = kind {
                    let habits = habits(&mut rng, layout, style);
                    logs.push((self.create(habits)?, kind));
                }
            }
            std::thread::sleep(TICK);
        }
        let now = self.start.elapsed();
        for (log, _) in logs {
            written.push(log.finish(now)?);
        }
        Ok(written)
    }

    fn create(&self, habits: Habits) -> Result<Log> {
        let writer = Writer(self.writers.fetch_add(1, Ordering::Relaxed));
        Log::create(&self.root, writer, habits, self.seed, self.start.elapsed())
    }
}

/// Habits of a long-lived log: from barely speaking to a few hundred lines a second.
fn habits(rng: &mut Pcg64Mcg, layout: Layout, style: Style) -> Habits {
    Habits {
        layout,
        style,
        rate: 10_f64.powf(rng.random_range(0.3..2.3)),
        rotate_bytes: rng.random_range(20_000..300_000),
        life: Duration::from_millis(rng.random_range(15_000..90_000)),
        stays: Duration::from_millis(rng.random_range(0..1_500)),
        unfinished: rng.random_range(0..5) < 2,
    }
}
