//! The data's path: everything started once, wired, changed as a reload wants it, and stopped in the
//! right order.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::runtime::Runtime;

use super::{
    RunError,
    keeper::Wiring,
    sinks::{self, Sinks, commit_first_positions},
    stop::{catch_up, join_by},
    threads::{self, Settled, Shared, Wires, interval, spawn, start_readers, start_settler},
};
use crate::{
    checkpoint::{FileEntry, Recovered, Store},
    config::Config,
    discover::{Discovery, OwnOutputs},
    identity::KernelInode,
    known_files,
    ledger::{Accounts, report::Totals},
    metrics::Metrics,
    read::{
        checksum::{self, Finished},
        reader::{Feedback, Message},
        room,
    },
    registry::{self, Order, Orders, Registry},
    settle::{Command, slots::SinkTable},
    watch::{self, Waker, Watcher},
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
        known_files::share_out(config.read.known_files);
        let TakenUp { store, accounts, positions, sound, found } = take_up(config, metrics)?;
        let _sinks_spawn_tasks = runtime.enter();
        let (readers, inboxes): (Vec<_>, Vec<_>) =
            (0..threads::count(config)).map(|_| unbounded()).unzip();
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
        let shared = Shared { accounts, metrics: Arc::clone(metrics), table, readers };
        let last_commit_ms = Arc::new(AtomicU64::new(crate::ledger::now_ms()));
        let from = Settled { receipts, registrations, commands };
        let settler = start_settler(config, store, &shared, from, &last_commit_ms)?;
        let wires = Wires {
            outlets,
            registrations: registrations_in,
            feedback: feedback_in,
            checksums: checksums.clone(),
            waker: waker.clone(),
        };
        let reader_threads = start_readers(config, &wires, &shared, inboxes)?;
        drop(wires);
        let (stopping, ready) = (Arc::default(), Arc::default());
        let talks = Talks { feedback, checksums, settler: commands_in.clone(), orders: orders_out };
        let flags = (&stopping, &ready);
        let registry = start_registry(config, (discovery, watcher), &shared, talks, found, flags)?;
        let settler = (commands_in, settler);
        let Shared { accounts, table, readers, .. } = shared;
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
        known_files::share_out(config.read.known_files);
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

/// What the state directory holds from former runs.
struct TakenUp {
    store: Store,
    accounts: Arc<Accounts>,
    positions: BTreeMap<Arc<str>, String>,
    /// Nothing of it was damaged.
    sound: bool,
    found: Found,
}

/// What is known of files from former runs, for the registry.
struct Found {
    fresh: bool,
    written: Option<SystemTime>,
    entries: Vec<FileEntry>,
    counted: Box<[KernelInode]>,
}

/// Takes up the state directory, and says what of it is damaged.
fn take_up(config: &Config, metrics: &Metrics) -> Result<TakenUp, RunError> {
    let (mut store, recovered) = Store::open(&config.state_dir)?;
    for damage in &recovered.damage {
        tracing::error!("{damage}");
    }
    let (fresh, written) = (recovered.fresh, recovered.written);
    let sound = recovered.damage.is_empty();
    let Recovered { entries, cuts, prefixes, copies, mut positions, totals, counted, .. } =
        recovered;
    if sound {
        commit_first_positions(config, &mut store, &mut positions)?;
    }
    let totals = Totals::from_named(&totals);
    metrics.resume(|reason| totals.of(reason));
    let accounts = Arc::new(Accounts::new(totals).with_cuts(cuts, prefixes, copies));
    let found = Found { fresh, written, entries, counted };
    Ok(TakenUp { store, accounts, positions, sound, found })
}

/// Whom the registry talks to, besides what all share.
struct Talks {
    feedback: Receiver<Feedback>,
    checksums: Sender<Finished>,
    settler: Sender<Command>,
    orders: Receiver<Order>,
}

fn start_registry(
    config: &Config,
    (discovery, watcher): (Discovery, Box<dyn Watcher>),
    shared: &Shared,
    talks: Talks,
    found: Found,
    (stopping, ready): (&Arc<AtomicBool>, &Arc<AtomicBool>),
) -> Result<JoinHandle<()>, RunError> {
    let ready = Arc::clone(ready);
    let registry = Registry::new(registry::Setup {
        discovery,
        watcher,
        readers: shared.readers.clone(),
        feedback: talks.feedback,
        checksums: talks.checksums,
        settler: talks.settler,
        stopping: Arc::clone(stopping),
        accounts: Arc::clone(&shared.accounts),
        metrics: Arc::clone(&shared.metrics),
        orders: talks.orders,
        sinks: shared.table.wanted(),
        state_dir: config.state_dir.as_path().into(),
        max_unpacked: config.read.max_unpacked_bytes.0,
        start: config.read.start,
        fresh: found.fresh,
        written: found.written,
        entries: found.entries,
        counted: found.counted,
        ready: Box::new(move || ready.store(true, Ordering::Release)),
    });
    spawn("everyline-registry", move || registry.run())
}
