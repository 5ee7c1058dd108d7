//! A reader thread: visits the tails that have unread bytes, in turn, a quantum each.
//!
//! It owns its tails outright; everybody else sends it [`Message`]s. Bytes are copied once, into
//! the thread's buffer; a line is a slice of that until the encoder has written it into a batch.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};

use self::{
    ahead::LookedThrough, described::Undescribed, doubt::Doubts, parked::Parked, rest::Rests,
    set_back::Unfinished, unfinished::Waiting,
};
use super::{
    checksum::Finished,
    cursor::Cursor,
    encodings::Encodings,
    pump::{self},
    sink_lanes::SinkLanes,
    tail::{AtEnd, LogFile, Tail, TailId},
};
use crate::{
    batch::lane::lane_of,
    identity::guard::GUARD_BYTES,
    ledger::{Accounts, FileAccount},
    metrics::Metrics,
    source::Source,
};

pub use messages::{Feedback, Message, Registration};
pub use sinks::Caught;
use visit::Turn;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Room that a line needs in the buffer beyond its message (CRI's header, JSON's frame).
const LINE_OVERHEAD: usize = 4 << 10;
/// Sinks settle what they were given within this time, as a rule.
const SETTLES: Duration = Duration::from_secs(1);

/// Makes the cursor of the sink in a slot in a source.
pub type MakeCursor = Box<dyn Fn(u16, &Source) -> Cursor + Send>;

/// What a reader is made of.
pub struct Setup {
    /// Its messages.
    pub inbox: Receiver<Message>,
    /// For registrations to answer to.
    pub own_address: Sender<Message>,
    /// Which of the reader threads it is.
    pub number: u32,
    /// Makes a sink's cursor.
    pub cursor: MakeCursor,
    /// Files must be known there before they are sent.
    pub registrations: Sender<Registration>,
    /// What the registry is told. Followed by a call of `nudge`.
    pub feedback: Sender<Feedback>,
    /// For the checksums of finished files.
    pub checksums: Sender<Finished>,
    /// Makes the registry look at its feedback.
    pub nudge: Box<dyn Fn() + Send>,
    /// Where lines and reads are counted.
    pub metrics: Arc<Metrics>,
    /// Totals of lost and dropped bytes.
    pub accounts: Arc<Accounts>,
    /// Bytes read from one file before the next one's turn.
    pub quantum: usize,
    /// The longest message, bytes.
    pub max_line_bytes: usize,
    /// How long a message is waited for whose end is not there.
    pub unfinished_after: Duration,
    /// Bytes of unfinished messages that may be kept in memory.
    pub unfinished_bytes: usize,
}

/// A reader thread's state.
pub struct Reader {
    setup: Setup,
    tails: HashMap<TailId, Box<Tail>, foldhash::fast::RandomState>,
    ready: VecDeque<TailId>,
    timers: BinaryHeap<Reverse<(Instant, TailId)>>,
    /// Each tail has its cursors in the same order.
    sinks: Vec<SinkLanes>,
    /// Slots of sinks that will be added again.
    awaited: Vec<u16>,
    uncounted: truncation::Uncounted,
    follows: ends::Follows,
    /// Who wants to know when there is nothing to read.
    asked: Vec<Sender<Caught>>,
    encodings: Encodings,
    buffer: Vec<u8>,
    unregistered: Vec<(TailId, Arc<FileAccount>)>,
    /// How many tails wait for the checkpoint to know their files.
    registering: usize,
    /// Tails whose files may give way where descriptors are short; filled when that happens.
    idle: Vec<TailId>,
    /// When none of them was found idle; and none of a tenant that has more than its share.
    none_idle: [Option<Instant>; 2],
    looked_through: LookedThrough,
    doubts: Doubts,
    waiting: Waiting,
    parked: Parked,
    rests: Rests,
    unfinished: Unfinished,
    undescribed: Undescribed,
}

impl Reader {
    /// A reader without tails and sinks.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            tails: HashMap::default(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            sinks: Vec::new(),
            awaited: Vec::new(),
            uncounted: truncation::Uncounted::new(),
            follows: ends::Follows::default(),
            asked: Vec::new(),
            encodings: Encodings::default(),
            buffer: vec![0; CHUNK + GUARD_BYTES],
            unregistered: Vec::new(),
            registering: 0,
            idle: Vec::new(),
            none_idle: [None; 2],
            looked_through: HashMap::default(),
            doubts: Doubts::default(),
            waiting: HashMap::default(),
            parked: Parked::default(),
            rests: Rests::default(),
            unfinished: Unfinished::default(),
            undescribed: Undescribed::default(),
        }
    }

    /// Runs until it is told to stop; what was read by then is sealed.
    pub fn run(mut self) {
        loop {
            if !self.receive() {
                self.sinks.iter_mut().for_each(SinkLanes::seal);
                return;
            }
            self.expire_timers();
            if let Some(id) = self.ready.pop_front() {
                self.visit(id);
            }
            self.request_registrations();
            self.seal_due();
            self.answer_waiting();
        }
    }

    /// Takes messages; waits for one if there is nothing to do. False: stop.
    fn receive(&mut self) -> bool {
        if self.ready.is_empty() {
            let message = match self.next_deadline() {
                None => self.setup.inbox.recv().ok(),
                Some(at) => match self.setup.inbox.recv_deadline(at) {
                    Ok(message) => Some(message),
                    Err(crossbeam_channel::RecvTimeoutError::Timeout) => return true,
                    Err(crossbeam_channel::RecvTimeoutError::Disconnected) => None,
                },
            };
            if !message.is_some_and(|message| self.handle(message)) {
                return false;
            }
        }
        while let Ok(message) = self.setup.inbox.try_recv() {
            if !self.handle(message) {
                return false;
            }
        }
        true
    }

    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Open(id, mut tail) => {
                for sink in &self.sinks {
                    let cursor = (self.setup.cursor)(sink.outlet.sink, &tail.source);
                    tail.add_cursor(cursor);
                }
                self.tails.insert(id, tail);
            }
            Message::Append(id, file, before) => {
                self.with_tail(id, |tail| {
                    tail.closed = false;
                    tail.append(file, before);
                    tail.close_new();
                });
                self.enqueue(id);
            }
            Message::Wake(files) => {
                for (id, token) in files {
                    self.with_tail(id, |tail| tail.hint(token));
                    self.enqueue(id);
                }
            }
            Message::Return(id, file) => {
                self.with_tail(id, |tail| tail.take_back(file));
                self.enqueue(id);
            }
            Message::Registered(ids) => {
                self.registering = self.registering.saturating_sub(ids.len());
                for id in ids {
                    self.enqueue(id);
                }
            }
            Message::Gone(id, token) => {
                self.with_tail(id, |tail| tail.mark_gone(token, Instant::now()));
                self.enqueue(id);
            }
            Message::Named(id, token, live) => {
                self.with_tail(id, |tail| tail.mark_named(token, live));
            }
            Message::Close(id) => {
                self.with_tail(id, |tail| tail.closed = true);
                self.enqueue(id);
            }
            Message::Cut(ids) => {
                for id in ids {
                    self.cut_is_made(id);
                    self.enqueue(id);
                }
            }
            Message::Parked(slot, source, skip, until) => self.park(slot, &source, skip, until),
            Message::Unparked(slot, source) => self.unpark(slot, &source),
            Message::Await(id, until) => self.await_description(id, until),
            Message::Follow(id, until) => self.follows.note(id, until),
            Message::Describe(id, source) => self.describe(id, source),
            Message::Exclude(id, excluded) => self.exclude(id, excluded),
            Message::GiveWay => self.give_way(),
            Message::Freed(slot, freed) => self.freed(slot, freed),
            Message::AddSink { outlet, new } => self.add_sink(*outlet, new),
            Message::RemoveSink { slot, awaited } => self.remove_sink(slot, awaited),
            Message::Regroup(slot, grouping) => self.regroup(slot, &grouping),
            Message::Catch(reply) => self.ask(reply),
            Message::Stop => return false,
        }
        true
    }

    fn with_tail(&mut self, id: TailId, change: impl FnOnce(&mut Tail)) {
        if let Some(tail) = self.tails.get_mut(&id) {
            change(tail);
        }
    }

    fn enqueue(&mut self, id: TailId) {
        if let Some(tail) = self.tails.get_mut(&id)
            && !tail.queued
        {
            tail.queued = true;
            self.ready.push_back(id);
        }
    }

    fn tell(&self, feedback: Feedback) {
        // The registry is gone only when the agent is going down.
        let _going_down = self.setup.feedback.send(feedback);
        (self.setup.nudge)();
    }

    fn request_registrations(&mut self) {
        if self.unregistered.is_empty() || !self.ready.is_empty() && self.unregistered.len() < 256 {
            return;
        }
        let (tails, accounts): (Vec<_>, _) = self.unregistered.drain(..).unzip();
        self.registering += tails.len();
        let reply = self.setup.own_address.clone();
        let registration = Registration { accounts, cuts: Vec::new(), tails, reply };
        let _going_down = self.setup.registrations.send(registration);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let lanes = self
            .sinks
            .iter()
            .flat_map(|sink| sink.lanes.iter().filter_map(|lane| lane.deadline(&sink.outlet)));
        lanes.chain(timer).min()
    }
}

mod ahead;
mod chunk;
mod described;
mod doubt;
mod earlier;
mod ends;
mod exclude;
mod known;
mod messages;
mod parked;
mod rest;
mod set_back;
mod sinks;
#[cfg(test)]
mod tests;
mod timers;
mod trouble;
mod truncation;
mod turns;
mod unfinished;
mod visit;
