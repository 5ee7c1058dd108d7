//! The threads of the data's path: each is started with what it owns and whom it talks to.

use std::{
    sync::{Arc, atomic::AtomicU64},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};

use super::RunError;
use crate::{
    batch::{Receipt, lane::Outlet},
    checkpoint::Store,
    config::Config,
    decode::{Decoder, Limits},
    ledger::Accounts,
    metrics::Metrics,
    read::{
        checksum::Finished,
        cursor::Cursor,
        reader::{Feedback, MakeCursor, Message, Reader, Registration, Setup},
    },
    settle::{Command, Settler, books::Books, slots::SinkTable},
    watch::Waker,
};

/// What several threads share.
pub(super) struct Shared {
    pub(super) accounts: Arc<Accounts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) table: SinkTable,
    pub(super) readers: Vec<Sender<Message>>,
}

/// What the settling thread listens to.
pub(super) struct Settled {
    pub(super) receipts: Receiver<Receipt>,
    pub(super) registrations: Receiver<Registration>,
    pub(super) commands: Receiver<Command>,
}

/// Starts the thread that moves offsets; it notes when they were durable last.
pub(super) fn start_settler(
    config: &Config,
    store: Store,
    shared: &Shared,
    from: Settled,
    last_commit_ms: &Arc<AtomicU64>,
) -> Result<JoinHandle<Store>, RunError> {
    let settler = Settler {
        store,
        books: Books {
            accounts: Arc::clone(&shared.accounts),
            metrics: Arc::clone(&shared.metrics),
            sinks: shared.table.clone(),
        },
        receipts: from.receipts,
        readers: shared.readers.clone(),
        registrations: from.registrations,
        commands: from.commands,
        interval: interval(config),
        last_commit_ms: Arc::clone(last_commit_ms),
    };
    spawn("everyline-settle", move || settler.run())
}

/// What readers are connected to.
pub(super) struct Wires {
    pub(super) outlets: Vec<Outlet>,
    pub(super) registrations: Sender<Registration>,
    pub(super) feedback: Sender<Feedback>,
    pub(super) checksums: Sender<Finished>,
    pub(super) waker: Waker,
}

/// Starts the readers, with every sink's outlet.
pub(super) fn start_readers(
    config: &Config,
    wires: &Wires,
    shared: &Shared,
    inboxes: Vec<Receiver<Message>>,
) -> Result<Vec<JoinHandle<()>>, RunError> {
    let mut threads = Vec::new();
    for (number, (inbox, own_address)) in inboxes.into_iter().zip(&shared.readers).enumerate() {
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
            metrics: Arc::clone(&shared.metrics),
            accounts: Arc::clone(&shared.accounts),
            quantum: config.read.quantum.0 as usize,
            max_line_bytes: config.read.max_line_bytes.0 as usize,
            unfinished_after: config.read.unfinished_after.0,
            unfinished_bytes: config.memory_budget.0 as usize
                / UNFINISHED_SHARE
                / shared.readers.len(),
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

/// Of `memory_budget`, so much may be texts of unfinished messages: one in so many bytes.
const UNFINISHED_SHARE: usize = 8;

/// How often to commit.
pub(super) fn interval(config: &Config) -> Duration {
    config.checkpoint_interval.0.max(Duration::from_millis(10))
}

/// Reader threads: as configured, else one a core, at most 4.
pub(super) fn count(config: &Config) -> usize {
    match config.read.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
        threads => threads,
    }
}

/// Starts a thread of this name.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(RunError::Start)
}
