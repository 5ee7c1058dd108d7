//! The data's path: everything started once, wired, changed as a reload wants it, and stopped in the
//! right order.

use std::{
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
    keeper::Wiring,
    sinks::{self, Sinks, commit_first_positions},
    stop::{catch_up, join_by},
};
use crate::{
    batch::lane::Outlet,
    checkpoint::{Recovered, Store},
    config::Config,
    decode::{Decoder, Limits},
    discover::{Discovery, OwnOutputs},
    ledger::{Accounts, report::Totals},
    metrics::Metrics,
    read::{
        checksum::{self, Finished},
        cursor::Cursor,
        reader::{Feedback, MakeCursor, Message, Reader, Registration, Setup},
        room,
    },
    registry::{self, Order, Orders, Registry},
    settle::{Command, Settler, books::Books, slots::SinkTable},
    watch::{self, Waker},
};

/// How long a thread may take to end after the deadline.
const OVERTIME: Duration = Duration::from_secs(2);

/// A running pipeline.
pub struct Pipeline {
    /// All accounts, for reports.
    pub accounts: Arc<Accounts>,
    /// All sinks, for reports.
    pub table: SinkTable,
    /// When the last commit was durable, milliseconds since the epoch.
    pub last_commit_ms: Arc<AtomicU64>,
    /// Set once the first look for logs is done.
    pub ready: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    waker: Waker,
    orders: Orders,
    sinks: Sinks,
    registry: JoinHandle<()>,
    readers: Vec<Sender<Message>>,
    reader_threads: Vec<JoinHandle<()>>,
    settler: (Sender<Command>, JoinHandle<Store>),
}

impl Pipeline {
    /// Starts everything.
    ///
    /// # Errors
    /// What can never work: a sink's configuration, a state directory that cannot be written.
    pub fn start(
        config: &Config,
        runtime: &Runtime,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, RunError> {
        room::share_out(config.read.unpacking_bytes.0);
        let (mut store, recovered) = Store::open(&config.state_dir)?;
        for damage in &recovered.damage {
            tracing::error!("{damage}");
        }
        let (fresh, sound) = (recovered.fresh, recovered.damage.is_empty());
        let Recovered { entries, cuts, prefixes, copies, mut positions, totals, counted, .. } =
            recovered;
        if sound {
            commit_first_positions(config, &mut store, &mut positions)?;
        }
        let totals = Totals::from_named(&totals);
        metrics.resume(|reason| totals.of(reason));
        let accounts = Arc::new(Accounts::new(totals).with_cuts(cuts, prefixes, copies));
        let _sinks_spawn_tasks = runtime.enter();
        let (readers, inboxes): (Vec<_>, Vec<_>) =
            (0..threads(config)).map(|_| unbounded()).unzip();
        let (receipts_in, receipts) = unbounded();
        let (registrations_in, registrations) = unbounded();
        let (feedback_in, feedback) = unbounded();
        let checksums = checksum::start().map_err(RunError::Start)?;
        let (commands_in, commands) = unbounded();
        let watcher = watch::start(config, Arc::clone(metrics)).map_err(RunError::Watch)?;
        let waker = watcher.waker();
        let (orders, orders_out) = Orders::new(waker.clone());
        let table = SinkTable::default();
        let wiring = Arc::new(Wiring {
            state_dir: config.state_dir.clone(),
            runtime: runtime.handle().clone(),
            metrics: Arc::clone(metrics),
            receipts: receipts_in,
            settler: commands_in.clone(),
            orders: orders.clone(),
            readers: readers.clone(),
            sound,
            table: table.clone(),
            copies: accounts.copies.clone(),
        });
        let (sinks, outlets) = Sinks::start(config, &wiring, &positions)?;
        let discovery =
            Discovery::new(config, &OwnOutputs::detect(config)).map_err(RunError::discover)?;
        let last_commit_ms = Arc::new(AtomicU64::new(crate::ledger::now_ms()));
        let settler = Settler {
            store,
            books: Books {
                accounts: Arc::clone(&accounts),
                metrics: Arc::clone(metrics),
                sinks: table.clone(),
            },
            receipts,
            readers: readers.clone(),
            registrations,
            commands,
            interval: interval(config),
            last_commit_ms: Arc::clone(&last_commit_ms),
        };
        let settler = spawn("everyline-settle", move || settler.run())?;
        let wires = Wires {
            outlets,
            registrations: registrations_in,
            feedback: feedback_in,
            checksums: checksums.clone(),
            waker: waker.clone(),
            metrics: Arc::clone(metrics),
            accounts: Arc::clone(&accounts),
        };
        let reader_threads = start_readers(config, &wires, &readers, inboxes)?;
        drop(wires);
        let stopping = Arc::new(AtomicBool::new(false));
        let ready = Arc::new(AtomicBool::new(false));
        let registry = Registry::new(registry::Setup {
            discovery,
            watcher,
            readers: readers.clone(),
            feedback,
            checksums,
            settler: commands_in.clone(),
            stopping: Arc::clone(&stopping),
            accounts: Arc::clone(&accounts),
            metrics: Arc::clone(metrics),
            orders: orders_out,
            sinks: table.wanted(),
            state_dir: config.state_dir.as_path().into(),
            max_unpacked: config.read.max_unpacked_bytes.0,
            start: config.read.start,
            fresh,
            entries,
            counted,
            ready: {
                let ready = Arc::clone(&ready);
                Box::new(move || ready.store(true, Ordering::Release))
            },
        });
        let registry = spawn("everyline-registry", move || registry.run())?;
        let settler = (commands_in, settler);
        Ok(Self {
            accounts,
            table,
            last_commit_ms,
            ready,
            stopping,
            waker,
            orders,
            sinks,
            registry,
            readers,
            reader_threads,
            settler,
        })
    }

    /// Changes what another configuration wants otherwise; nothing here waits. `discovery`: where
    /// logs are looked for differently.
    pub fn reload(&mut self, config: &Config, discovery: Option<Discovery>) {
        room::share_out(config.read.unpacking_bytes.0);
        if let Some(discovery) = discovery {
            let max_unpacked = config.read.max_unpacked_bytes.0;
            self.orders.send(Order::Sources(Box::new(discovery), max_unpacked));
        }
        self.sinks.reload(config);
        let _going_down = self.settler.0.send(Command::Interval(interval(config)));
    }

    /// To be called now and then: divides the memory anew where sinks have come or gone.
    pub fn balance(&self) {
        self.sinks.balance();
    }

    /// Reads and delivers what is there, for at most `grace`, commits, and ends; true: everything
    /// was delivered.
    pub fn stop(self, runtime: &Runtime, grace: Duration) -> bool {
        let began = Instant::now();
        let deadline = began + grace;
        self.orders.send(Order::LookAtAll);
        let last_call = deadline - sinks::reserve(grace);
        catch_up(&self.readers, || self.sinks.busy(), last_call);
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
        let overtime = deadline + OVERTIME;
        let mut clean = join_by(self.registry, overtime).is_some();
        for reader in &self.readers {
            let _ended = reader.send(Message::Stop);
        }
        for thread in self.reader_threads {
            clean &= join_by(thread, overtime).is_some();
        }
        // The readers' outlets are gone now: each sink ends when its queue is empty.
        let running = self.table.running();
        clean &= runtime.block_on(self.sinks.end(deadline.into()));
        for sink in running.iter().filter(|sink| sink.troubles.parked() > 0) {
            let (sink, logs) = (&sink.slot.name, sink.troubles.parked());
            tracing::warn!(%sink, logs, "Logs wait behind a record that the sink refuses; they are sent again at the next start.");
            clean = false;
        }
        let (commands, settler) = self.settler;
        let _ended = commands.send(Command::Stop);
        clean & join_by(settler, overtime + OVERTIME).is_some()
    }
}

/// What readers are connected to.
struct Wires {
    outlets: Vec<Outlet>,
    registrations: Sender<Registration>,
    feedback: Sender<Feedback>,
    checksums: Sender<Finished>,
    waker: Waker,
    metrics: Arc<Metrics>,
    accounts: Arc<Accounts>,
}

fn start_readers(
    config: &Config,
    wires: &Wires,
    addresses: &[Sender<Message>],
    inboxes: Vec<Receiver<Message>>,
) -> Result<Vec<JoinHandle<()>>, RunError> {
    let mut threads = Vec::new();
    for (number, (inbox, own_address)) in inboxes.into_iter().zip(addresses).enumerate() {
        for outlet in &wires.outlets {
            let outlet = Box::new(outlet.clone());
            let _its_inbox_is_here = own_address.send(Message::AddSink { outlet, new: false });
        }
        let waker = wires.waker.clone();
        let setup = Setup {
            inbox,
            own_address: own_address.clone(),
            number: number as u32,
            cursor: cursors(config),
            registrations: wires.registrations.clone(),
            feedback: wires.feedback.clone(),
            checksums: wires.checksums.clone(),
            nudge: Box::new(move || waker.wake()),
            metrics: Arc::clone(&wires.metrics),
            accounts: Arc::clone(&wires.accounts),
            quantum: config.read.quantum.0 as usize,
            max_line_bytes: config.read.max_line_bytes.0 as usize,
            unfinished_after: config.read.unfinished_after.0,
            unfinished_bytes: config.memory_budget.0 as usize / UNFINISHED_SHARE / addresses.len(),
        };
        let reader = Reader::new(setup);
        threads.push(spawn(&format!("everyline-read-{number}"), move || reader.run())?);
    }
    Ok(threads)
}

fn cursors(config: &Config) -> MakeCursor {
    let max_line_bytes = config.read.max_line_bytes.0 as usize;
    let long_lines = config.read.long_lines;
    Box::new(move |sink, source| {
        let limits = Limits { max_line_bytes, long_lines };
        Cursor::new(sink, 0, Decoder::new(source.format, limits))
    })
}

/// How often to commit.
fn interval(config: &Config) -> Duration {
    config.checkpoint_interval.0.max(Duration::from_millis(10))
}

/// Of `memory_budget`, so much may be texts of unfinished messages: one in so many bytes.
const UNFINISHED_SHARE: usize = 8;

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
