//! Looks after one sink's slot: starts the sink, replaces it when its configuration changes, lets it
//! go when it is removed, and ends it with the agent.
//!
//! One task a slot, and the last wish counts: however quickly reloads follow each other, a sink's
//! successor starts only when nothing is left of its predecessor, from the offsets (and the position)
//! that are settled by then. No other sink waits for any of this.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Sender;
use tokio::{
    runtime,
    sync::{oneshot, watch},
    task::{self, JoinHandle},
    time::{self, Instant},
};

use super::kinds;
use crate::{
    archive,
    batch::{
        Receipt,
        age::Ages,
        alive::{Alive, Gone},
        budget::{Budget, Freed},
        lane::Outlet,
        troubles::Troubles,
    },
    config, deliver,
    ledger::{SinkSlot, copies::Copies},
    metrics::{Metrics, SinkMetrics},
    read::reader::Message,
    registry::{Begin, Order, Orders},
    settle::{
        Command,
        slots::{RunningSink, SinkTable, Stage},
    },
};

/// A sink that is to be replaced, and that has settled nothing for so long, is not waited for.
const STUCK: Duration = Duration::from_secs(3);
/// How often it is looked whether a sink gets on.
const LOOK: Duration = Duration::from_millis(50);
/// A sink that could not be started is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// What every keeper needs.
pub(super) struct Wiring {
    /// Where sinks keep what they know of their own files.
    pub state_dir: std::path::PathBuf,
    /// Where sinks run.
    pub runtime: runtime::Handle,
    /// Where sinks count what they deliver.
    pub metrics: Arc<Metrics>,
    /// Where receipts go.
    pub receipts: Sender<Receipt>,
    /// The settling thread.
    pub settler: Sender<Command>,
    /// The registry.
    pub orders: Orders,
    /// The readers.
    pub readers: Vec<Sender<Message>>,
    /// The checkpoint was whole when it was opened: what it holds no position of was never written.
    pub sound: bool,
    /// All sinks.
    pub table: SinkTable,
    /// Under which names the records of copies go.
    pub copies: Copies,
}

/// How a sink is to run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// As configured.
    pub sink: config::Sink,
    /// The files that it reads when it starts, as they are now.
    pub files: Vec<deliver::Stamp>,
    /// How records are grouped; this alone changes without a new start.
    pub batch: config::Batch,
    /// Its part of the memory, bytes.
    pub share: usize,
    /// Where it begins in files that were there before it.
    pub start: config::Start,
    /// How long it may take over what it was sent, when it is to end.
    pub drain: Duration,
}

/// What a keeper is to see to.
#[derive(Debug, Clone)]
pub(super) enum Want {
    /// The sink runs like this.
    Run(Arc<Wish>),
    /// The sink goes; it may take so long over what it was sent.
    Nothing(Duration),
    /// The agent ends, then at the latest.
    End(Instant),
}

/// A sink that runs.
pub(super) struct Running {
    wish: Arc<Wish>,
    task: JoinHandle<()>,
    gone: Gone,
    budget: Budget,
}

/// The keeper of a slot, from outside.
pub(super) struct Keeper {
    want: watch::Sender<Want>,
    task: JoinHandle<bool>,
}

impl Keeper {
    /// Looks after a slot from now on. `running`: what the agent started with.
    pub(super) fn begin(
        wiring: &Arc<Wiring>,
        slot: SinkSlot,
        want: Want,
        running: Option<Running>,
    ) -> Self {
        let (want, wanted) = watch::channel(want);
        let known = running.is_some();
        let task = Task { wiring: Arc::clone(wiring), slot, wanted, running, known };
        let task = wiring.runtime.spawn(task.run());
        Self { want, task }
    }

    /// What it is to see to now.
    pub(super) fn want(&self, want: Want) {
        self.want.send_replace(want);
    }

    /// Waits for the sink's end; true: everything that it was sent is settled.
    pub(super) async fn ended(self) -> bool {
        self.task.await.unwrap_or(false)
    }
}

/// Starts a sink. Needs the runtime's context.
///
/// # Errors
/// As [`kinds::start`].
pub(super) fn start(
    wiring: &Wiring,
    slot: &SinkSlot,
    wish: &Arc<Wish>,
    position: Option<String>,
) -> Result<(Running, Outlet), deliver::StartError> {
    let number = slot.number;
    let readers = wiring.readers.clone();
    let threads = readers.len();
    let mut encoding = kinds::encoding(&wish.sink, &wish.batch, threads);
    let lane_share = encoding.fit(wish.share, threads);
    let lanes = encoding.lanes as usize;
    let on_freed = Box::new(move |freed| {
        let concerned = match freed {
            Freed::All => &readers[..],
            // Lanes are numbered reader by reader.
            Freed::Lane(lane) => readers.chunks(1).nth(lane as usize / lanes).unwrap_or(&[]),
        };
        for reader in concerned {
            let _going_down = reader.send(Message::Freed(number, freed));
        }
    });
    let budget = Budget::new(wish.share, lane_share, on_freed);
    let (ages, troubles) = (Ages::default(), Troubles::default());
    let (alive, gone) = Alive::new();
    let context = deliver::Context {
        name: slot.name.to_string(),
        // No position in a sound checkpoint: nothing was ever committed.
        committed: position.or_else(|| wiring.sound.then(String::new)),
        metrics: SinkMetrics::new(Arc::clone(&wiring.metrics), &slot.name),
        troubles: troubles.clone(),
        alive: alive.clone(),
    };
    let handle = kinds::start(&wish.sink, &wiring.state_dir, context, &wiring.runtime)?;
    let outlet = Outlet {
        sink: number,
        encoding,
        budget: budget.clone(),
        ages: ages.clone(),
        troubles: troubles.clone(),
        copies: wiring.copies.clone(),
        queue: handle.queue,
        receipts: wiring.receipts.clone(),
        alive,
    };
    wiring.metrics.create_sinks([&*slot.name]);
    let kind = wish.sink.kind();
    wiring.table.enter(number, Stage::Wanted);
    wiring.table.run(RunningSink {
        slot: slot.clone(),
        kind,
        budget: budget.clone(),
        ages,
        troubles,
    });
    Ok((Running { wish: Arc::clone(wish), task: handle.task, gone, budget }, outlet))
}

/// Where an archive stands before the agent's first batch is committed, so that what a crash leaves
/// of the first batches can be told from what was there before.
pub(super) fn first_position(sink: &config::Sink, state_dir: &std::path::Path) -> Option<String> {
    let config::Sink::Archive(settings) = sink else { return None };
    // An archive that cannot be opened is the sink's own to report.
    archive::position(&settings.directory(state_dir)).ok()
}

/// The keeper of a slot, from inside.
struct Task {
    wiring: Arc<Wiring>,
    slot: SinkSlot,
    wanted: watch::Receiver<Want>,
    running: Option<Running>,
    /// The accounts know where it is.
    known: bool,
}

impl Task {
    async fn run(mut self) -> bool {
        loop {
            let want = self.wanted.borrow_and_update().clone();
            let again = match want {
                Want::Run(wish) => self.have(&wish).await,
                Want::Nothing(drain) => {
                    self.wiring.table.enter(self.slot.number, Stage::Leaving);
                    self.order(Order::RemoveSink { slot: self.slot.number, awaited: false });
                    if let Some(old) = self.running.take() {
                        self.see_off(old, Some(Instant::now() + drain)).await;
                        self.settled(None).await;
                    }
                    if matches!(*self.wanted.borrow(), Want::Nothing(_)) {
                        self.wiring.table.enter(self.slot.number, Stage::Absent);
                    }
                    false
                }
                Want::End(deadline) => return self.end(deadline).await,
            };
            if self.wanted.has_changed().unwrap_or(true) {
                continue;
            }
            let changed = self.wanted.changed();
            if again {
                let _timeout_or_change = time::timeout(AGAIN, changed).await;
            } else if changed.await.is_err() {
                return true;
            }
        }
    }

    /// Sees to it that the sink runs as wished. True: to be tried again.
    async fn have(&mut self, wish: &Arc<Wish>) -> bool {
        let same = |old: &&mut Running| old.wish.sink == wish.sink && old.wish.files == wish.files;
        if let Some(running) = self.running.as_mut().filter(|running| same(running)) {
            running.wish = Arc::clone(wish);
            return false;
        }
        let number = self.slot.number;
        self.wiring.table.enter(number, Stage::Wanted);
        if let Some(old) = self.running.take() {
            self.order(Order::RemoveSink { slot: number, awaited: true });
            self.see_off(old, None).await;
            if self.wanted.has_changed().unwrap_or(true) {
                return false;
            }
        }
        let first = match self.wiring.sound {
            true => task::block_in_place(|| first_position(&wish.sink, &self.wiring.state_dir)),
            false => None,
        };
        let position = self.settled(first).await;
        match task::block_in_place(|| start(&self.wiring, &self.slot, wish, position)) {
            Ok((running, outlet)) => {
                self.running = Some(running);
                let begin = match std::mem::replace(&mut self.known, true) {
                    true => Begin::Again,
                    false => Begin::At(wish.start),
                };
                let slot = self.slot.clone();
                self.order(Order::AddSink { slot, outlet: Box::new(outlet), begin });
                tracing::info!(sink = %self.slot.name, "The sink was started.");
                false
            }
            Err(error) => {
                tracing::error!("{error} It is tried again every {} s.", AGAIN.as_secs());
                true
            }
        }
    }

    /// Waits until nothing is left of a sink that no reader sends to any more. With a deadline it
    /// has until then; without, as long as it gets on.
    async fn see_off(&mut self, mut old: Running, deadline: Option<Instant>) {
        let drain = old.wish.drain;
        let mut deadline = deadline.unwrap_or_else(|| Instant::now() + drain);
        let waits_for_successor = matches!(*self.wanted.borrow(), Want::Run(_));
        let mut last = (old.budget.used(), Instant::now());
        loop {
            if time::timeout(LOOK, &mut old.task).await.is_ok() {
                break;
            }
            if let Want::End(end) = *self.wanted.borrow() {
                deadline = deadline.min(end);
            }
            let used = old.budget.used();
            if used != last.0 {
                last = (used, Instant::now());
            }
            let stuck = waits_for_successor && last.1.elapsed() >= STUCK;
            if stuck || Instant::now() >= deadline {
                tracing::warn!(sink = %self.slot.name, "The sink could not deliver everything that it was sent; what is left is sent again where the sink is configured.");
                old.task.abort();
                break;
            }
        }
        let ending = || matches!(*self.wanted.borrow(), Want::End(_));
        while time::timeout(LOOK, old.gone.wait()).await.is_err() {
            if ending() && Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Has everything settled that the sink acknowledged; the position that it has then.
    async fn settled(&self, first: Option<String>) -> Option<String> {
        let (reply, position) = oneshot::channel();
        let command = Command::Stand { sink: self.slot.number, first, reply };
        let _going_down = self.wiring.settler.send(command);
        position.await.ok().flatten()
    }

    async fn end(mut self, deadline: Instant) -> bool {
        let Some(mut running) = self.running.take() else { return true };
        if time::timeout_at(deadline, &mut running.task).await.is_ok() {
            return true;
        }
        tracing::warn!(sink = %self.slot.name, "The sink could not deliver everything before the agent's end; what is left is sent again at the next start.");
        running.task.abort();
        false
    }

    fn order(&self, order: Order) {
        self.wiring.orders.send(order);
    }
}
