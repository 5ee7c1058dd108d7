//! One run of the data's path under one configuration: everything started, wired, and stopped in
//! the right order.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Runtime;

use super::{
    RunError,
    books::Books,
    registry::{self, MakeCursor, Registry},
    settle::{Command, Settler},
};
use crate::{
    archive,
    batch::{
        age::Ages,
        budget::{Budget, Freed},
        lane::Outlet,
    },
    checkpoint::{Change, Recovered, Store},
    config::{self, Config},
    decode::{Decoder, Limits},
    deliver,
    discover::{Discovery, OwnOutputs},
    ledger::{Accounts, report::Totals},
    metrics::{Metrics, SinkMetrics},
    read::{
        cursor::Cursor,
        reader::{Feedback, Message, Reader, Registration, Setup},
        tail::LogFile,
    },
    watch::{self, Waker},
};

/// A running pipeline.
pub struct Pipeline {
    /// All accounts, for reports.
    pub accounts: Arc<Accounts>,
    /// The sinks: name, kind, budget.
    pub sinks: Vec<RunningSink>,
    /// When the last commit was durable, milliseconds since the epoch.
    pub last_commit_ms: Arc<AtomicU64>,
    /// Set once the first look for logs is done.
    pub ready: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    waker: Waker,
    registry: JoinHandle<()>,
    readers: Vec<(Sender<Message>, JoinHandle<Vec<LogFile>>)>,
    settler: (Sender<Command>, JoinHandle<Store>),
    tasks: Vec<(String, tokio::task::JoinHandle<()>)>,
}

/// What reports say of a sink.
#[derive(Debug, Clone)]
pub struct RunningSink {
    /// Its name in the configuration.
    pub name: String,
    /// `http`, `archive`, …
    pub kind: &'static str,
    /// Its memory.
    pub budget: Budget,
    /// The ages of its batches.
    pub ages: Ages,
    /// What is wrong with it.
    pub troubles: deliver::Troubles,
}

/// How a stop went.
pub struct Stopped {
    /// The files that were held open.
    pub files: Vec<LogFile>,
    /// Whether everything read was delivered.
    pub drained: bool,
}

impl Pipeline {
    /// Starts everything. `adopted`: files held open by the pipeline before a reload.
    ///
    /// # Errors
    /// What can never work: a sink's configuration, a state directory that cannot be written.
    pub fn start(
        config: &Config,
        runtime: &Runtime,
        metrics: &Arc<Metrics>,
        adopted: Vec<LogFile>,
    ) -> Result<Self, RunError> {
        let (mut store, recovered) = Store::open(&config.state_dir)?;
        for damage in &recovered.damage {
            tracing::error!("{damage}");
        }
        let (fresh, sound) = (recovered.fresh, recovered.damage.is_empty());
        let Recovered { entries, cuts, mut positions, totals, .. } = recovered;
        if sound {
            commit_first_positions(config, &mut store, &mut positions)?;
        }
        let totals = Totals::from_named(&totals);
        metrics.resume(|reason| totals.of(reason));
        let accounts = Arc::new(Accounts::new(totals).with_cuts(cuts));
        let threads = threads(config);
        let _sinks_spawn_tasks = runtime.enter();
        let (addresses, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| unbounded()).unzip();
        let (receipts_in, receipts) = unbounded();
        let (outlets, sinks, tasks) =
            start_sinks(config, runtime, metrics, (&positions, sound), &addresses, &receipts_in)?;
        let names: Vec<Arc<str>> = sinks.iter().map(|sink| sink.name.as_str().into()).collect();
        let watcher = watch::start(config, Arc::clone(metrics)).map_err(RunError::Watch)?;
        let waker = watcher.waker();
        let discovery =
            Discovery::new(config, &OwnOutputs::detect(config)).map_err(RunError::discover)?;
        let (registrations_in, registrations) = unbounded();
        let (feedback_in, feedback) = unbounded();
        let (commands_in, commands) = unbounded();
        let last_commit_ms = Arc::new(AtomicU64::new(crate::ledger::now_ms()));
        let settler = Settler {
            store,
            books: Books {
                accounts: Arc::clone(&accounts),
                metrics: Arc::clone(metrics),
                sinks: names.clone(),
            },
            receipts,
            registrations,
            commands,
            interval: config.checkpoint_interval.0.max(Duration::from_millis(10)),
            last_commit_ms: Arc::clone(&last_commit_ms),
        };
        let settler = spawn("everyline-settle", move || settler.run())?;
        let wiring = Wiring {
            outlets: &outlets,
            registrations: &registrations_in,
            feedback: &feedback_in,
            waker: &waker,
            metrics,
            accounts: &accounts,
        };
        let readers = start_readers(config, &wiring, &addresses, inboxes)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let ready = Arc::new(AtomicBool::new(false));
        let registry = Registry::new(registry::Setup {
            discovery,
            watcher,
            readers: addresses.clone(),
            feedback,
            settler: commands_in.clone(),
            stopping: Arc::clone(&stopping),
            accounts: Arc::clone(&accounts),
            metrics: Arc::clone(metrics),
            cursor: cursors(config),
            sinks: names,
            state_dir: config.state_dir.clone(),
            max_unpacked: config.read.max_unpacked_bytes.0,
            start: config.read.start,
            fresh,
            entries,
            adopted,
            ready: {
                let ready = Arc::clone(&ready);
                Box::new(move || ready.store(true, Ordering::Release))
            },
        });
        let registry = spawn("everyline-registry", move || registry.run())?;
        let readers = addresses.into_iter().zip(readers).collect();
        let settler = (commands_in, settler);
        Ok(Self {
            accounts,
            sinks,
            last_commit_ms,
            ready,
            stopping,
            waker,
            registry,
            readers,
            settler,
            tasks,
        })
    }

    /// Stops reading, delivers what was read (for at most `grace`), commits.
    pub fn stop(self, runtime: &Runtime, grace: Duration) -> Stopped {
        let deadline = Instant::now() + grace;
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
        let mut clean = self.registry.join().is_ok();
        let mut files = Vec::new();
        for (address, thread) in self.readers {
            let _ended = address.send(Message::Stop);
            match thread.join() {
                Ok(held) => files.extend(held),
                Err(_panicked) => clean = false,
            }
        }
        // The readers' outlets are gone now: each sink ends when its queue is empty.
        for (name, mut task) in self.tasks {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = runtime.block_on(async { tokio::time::timeout(left, &mut task).await });
            if ended.is_err() {
                tracing::warn!(sink = %name, "The sink could not deliver everything before the agent's end; what is left is sent again at the next start.");
                task.abort();
                clean = false;
            }
        }
        let (commands, settler) = self.settler;
        let _ended = commands.send(Command::Stop);
        clean &= settler.join().is_ok();
        Stopped { files, drained: clean }
    }
}

/// What readers are connected to.
struct Wiring<'a> {
    outlets: &'a [Outlet],
    registrations: &'a Sender<Registration>,
    feedback: &'a Sender<Feedback>,
    waker: &'a Waker,
    metrics: &'a Arc<Metrics>,
    accounts: &'a Arc<Accounts>,
}

type Sinks = (Vec<Outlet>, Vec<RunningSink>, Vec<(String, tokio::task::JoinHandle<()>)>);

/// Starts every sink with its share of the memory.
fn start_sinks(
    config: &Config,
    runtime: &Runtime,
    metrics: &Arc<Metrics>,
    (positions, sound): (&BTreeMap<Arc<str>, String>, bool),
    readers: &[Sender<Message>],
    receipts: &Sender<crate::batch::Receipt>,
) -> Result<Sinks, RunError> {
    let (mut outlets, mut running, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
    let configured = effective_sinks(config);
    let share = config.memory_budget.0 as usize / configured.len().max(1);
    metrics.memory_budget_bytes.set(config.memory_budget.0 as i64);
    for (number, (name, sink)) in configured.into_iter().enumerate() {
        let number = number as u16;
        let readers = readers.to_vec();
        let count = readers.len();
        let mut encoding = deliver::encoding(&sink, &config.batch, count);
        let lane_share = encoding.fit(share, count);
        let lanes = encoding.lanes as usize;
        let budget = Budget::new(
            share,
            lane_share,
            Box::new(move |freed| {
                let concerned = match freed {
                    Freed::All => &readers[..],
                    // Lanes are numbered reader by reader.
                    Freed::Lane(lane) => {
                        readers.chunks(1).nth(lane as usize / lanes).unwrap_or(&[])
                    }
                };
                for reader in concerned {
                    let _going_down = reader.send(Message::Freed(number, freed));
                }
            }),
        );
        let (ages, troubles) = (Ages::default(), deliver::Troubles::default());
        let context = deliver::Context {
            name: name.clone(),
            // No position in a sound checkpoint: nothing was ever committed.
            committed: positions.get(name.as_str()).cloned().or_else(|| sound.then(String::new)),
            metrics: SinkMetrics::new(Arc::clone(metrics), &name),
            troubles: troubles.clone(),
        };
        let handle = deliver::start(&sink, &config.state_dir, context, runtime.handle())?;
        outlets.push(Outlet {
            sink: number,
            encoding,
            budget: budget.clone(),
            ages: ages.clone(),
            queue: handle.queue,
            receipts: receipts.clone(),
        });
        let kind = sink.kind();
        running.push(RunningSink { name: name.clone(), kind, budget, ages, troubles });
        tasks.push((name, handle.task));
    }
    metrics.create_sinks(running.iter().map(|sink| sink.name.as_str()));
    Ok((outlets, running, tasks))
}

fn start_readers(
    config: &Config,
    wiring: &Wiring<'_>,
    addresses: &[Sender<Message>],
    inboxes: Vec<Receiver<Message>>,
) -> Result<Vec<JoinHandle<Vec<LogFile>>>, RunError> {
    let mut threads = Vec::new();
    for (number, (inbox, own_address)) in inboxes.into_iter().zip(addresses).enumerate() {
        let waker = wiring.waker.clone();
        let setup = Setup {
            inbox,
            own_address: own_address.clone(),
            outlets: wiring.outlets.to_vec(),
            registrations: wiring.registrations.clone(),
            feedback: wiring.feedback.clone(),
            nudge: Box::new(move || waker.wake()),
            metrics: Arc::clone(wiring.metrics),
            accounts: Arc::clone(wiring.accounts),
            quantum: config.read.quantum.0 as usize,
            max_line_bytes: config.read.max_line_bytes.0 as usize,
            unfinished_after: config.read.unfinished_after.0,
        };
        let reader = Reader::new(setup).map_err(RunError::Start)?.with_lane_offset(number as u32);
        threads.push(spawn(&format!("everyline-read-{number}"), move || reader.run())?);
    }
    Ok(threads)
}

/// Where an archive stands before the agent's first batch is committed, so that what a crash leaves
/// of the first batches can be told from what was there before.
fn commit_first_positions(
    config: &Config,
    store: &mut Store,
    positions: &mut BTreeMap<Arc<str>, String>,
) -> Result<(), RunError> {
    for (name, sink) in effective_sinks(config) {
        let config::Sink::Archive(settings) = &sink else { continue };
        let name: Arc<str> = name.into();
        if positions.contains_key(&name) {
            continue;
        }
        // An archive that cannot be opened is the sink's own to report.
        if let Ok(position) = archive::position(&archive::directory(settings, &config.state_dir)) {
            let (sink, at) = (Arc::clone(&name), position.clone());
            store.commit(vec![Change::Position { sink, position: at }])?;
            positions.insert(name, position);
        }
    }
    Ok(())
}

/// The configured sinks, or the embedded archive.
pub fn effective_sinks(config: &Config) -> BTreeMap<String, config::Sink> {
    if config.sinks.is_empty() {
        let archive = config::Sink::Archive(config::Archive::default());
        return BTreeMap::from([("archive".to_owned(), archive)]);
    }
    config.sinks.clone()
}

fn cursors(config: &Config) -> MakeCursor {
    let max_line_bytes = config.read.max_line_bytes.0 as usize;
    let long_lines = config.read.long_lines;
    Box::new(move |sink, source| {
        let limits = Limits { max_line_bytes, long_lines };
        Cursor::new(sink, 0, Decoder::new(source.format, limits))
    })
}

/// Reader threads: as configured, else one a core, at most 4.
fn threads(config: &Config) -> usize {
    match config.read.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
        threads => threads,
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(RunError::Start)
}
