//! A reader thread: visits the tails that have unread bytes, in turn, a quantum each.
//!
//! It owns its tails outright; everybody else sends it [`Message`]s. Bytes are copied once, into
//! the thread's buffer; a line is a slice of that until the encoder has written it into a batch.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};

use self::{
    ahead::{Ahead, LookedThrough},
    described::Undescribed,
    known::begins_as_known,
    parked::Parked,
    rest::Rests,
    set_back::Unfinished,
    unfinished::Waiting,
};
use super::{
    checksum::Finished,
    cursor::Cursor,
    encodings::Encodings,
    pump::{self, Stop},
    sink_lanes::SinkLanes,
    tail::{AtEnd, Gone, LINGER, LogFile, Tail, TailId},
    zeros,
};
use crate::{
    batch::{
        budget::Freed,
        encoding::Grouping,
        lane::{Outlet, lane_of},
    },
    identity::{FileId, guard::GUARD_BYTES},
    ledger::{Accounts, FileAccount},
    metrics::Metrics,
    source::Source,
    watch::{FileToken, Heard},
};

pub use sinks::Caught;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Room that a line needs in the buffer beyond its message (CRI's header, JSON's frame).
const LINE_OVERHEAD: usize = 4 << 10;
/// Sinks settle what they were given within this time, as a rule.
const SETTLES: Duration = Duration::from_secs(1);

/// What a reader thread is told.
pub enum Message {
    /// A new source.
    Open(TailId, Box<Tail>),
    /// Another file of a source, later than all before, or older than the one named.
    Append(TailId, LogFile, Option<FileToken>),
    /// These files may have unread bytes; the null token stands for all of a source.
    Wake(Vec<(TailId, FileToken)>),
    /// A file that was let go has grown.
    Return(TailId, LogFile),
    /// A file lost its last collected name.
    Gone(TailId, FileToken),
    /// A file has a collected name (again); whether it is the live one's.
    Named(TailId, FileToken, bool),
    /// More is told of the source soon; nothing of it is read before that, or this instant.
    Await(TailId, Instant),
    /// Newer files of the source, or of any, may be there that are not handed over yet: until then no file
    /// is its last.
    Follow(Option<TailId>, Instant),
    /// What is known of the source from here on.
    Describe(TailId, Arc<Source>),
    /// The source is excluded: nothing more of it is read; or it is not any more.
    Exclude(TailId, bool),
    /// The source's directory is gone: no file will follow.
    Close(TailId),
    /// The checkpoint knows these tails' files now.
    Registered(Vec<TailId>),
    /// The cuts of these tails' files are durable, or were withdrawn.
    Cut(Vec<TailId>),
    /// A sink has parked a source: it goes back to what is settled, and leaves out so many records of
    /// these files, which were delivered. Not before this instant.
    Parked(u16, Arc<Path>, Vec<(FileId, u32)>, Instant),
    /// The record that a sink had parked a source for is settled.
    Unparked(u16, Arc<Path>),
    /// A sink's budget has room again, for one lane or for any.
    Freed(u16, Freed),
    /// Descriptors are short: idle files are to give way.
    GiveWay,
    /// A sink begins where the accounts say, in every file.
    AddSink {
        /// Where it gets its memory and sends its batches.
        outlet: Box<Outlet>,
        /// It was not there before: what was truncated by now is no loss of its.
        new: bool,
    },
    /// A sink gets no more; `awaited`: until it is added again.
    RemoveSink {
        /// Its slot.
        slot: u16,
        /// Files that it has not settled are held until then.
        awaited: bool,
    },
    /// Other bounds for the batches of the sink in this slot.
    Regroup(u16, Grouping),
    /// Say so when everything is read that there is room for.
    Catch(Sender<Caught>),
    /// Seal everything, read no more, end.
    Stop,
}

/// What a reader thread tells the registry.
pub enum Feedback {
    /// Nobody needs the file any more.
    Released(FileToken, Arc<FileAccount>),
    /// A truncated file goes on under a new account; the former one's life is over.
    Truncated(FileToken, Arc<FileAccount>, Arc<FileAccount>),
    /// All that was read of a life that a truncation ended is settled.
    CutOff(Arc<FileAccount>),
    /// A closed source is finished.
    Closed(TailId),
}

/// A request to make files known to the checkpoint before anything of them is sent.
pub struct Registration {
    /// The files.
    pub accounts: Vec<Arc<FileAccount>>,
    /// Where some of them are cut.
    pub cuts: Vec<(FileId, u64)>,
    /// Their tails, to be named in [`Message::Registered`].
    pub tails: Vec<TailId>,
    /// Whom to tell.
    pub reply: Sender<Message>,
}

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
    /// Counts.
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
    waiting: Waiting,
    parked: Parked,
    rests: Rests,
    unfinished: Unfinished,
    undescribed: Undescribed,
}

/// What one cursor's turn came to.
enum Turn {
    /// Nothing to read now.
    Idle,
    /// The quantum is used up.
    More,
    /// The lane's share of the sink's budget is used up.
    Stalled,
    /// The file must be registered first.
    Unregistered(Arc<FileAccount>),
    /// A cut must be made durable first.
    Cutting,
    /// Look again then.
    Later(Instant),
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

    /// One tail's turn: every sink's cursor, a quantum each.
    fn visit(&mut self, id: TailId) {
        if self.awaits_description(id) || self.rests(id) {
            return;
        }
        let began = Instant::now();
        if self.is_cutting(id) {
            return self.with_tail(id, |tail| tail.queued = false);
        }
        let Some(mut tail) = self.tails.remove(&id) else { return };
        tail.queued = false;
        if !tail.excluded {
            tail.return_to_late_writes(Instant::now());
        }
        let mut again = false;
        for sink in 0..self.sinks.len() {
            if tail.cursors[sink].stalled {
                continue;
            }
            let turn = self.whole_turn(id, &mut tail, sink);
            let cutting = self.give_back(id, &mut tail, sink, &turn);
            match if cutting { Turn::Cutting } else { turn } {
                Turn::Idle => {}
                Turn::More => again = true,
                Turn::Stalled => {
                    tail.cursors[sink].stalled = true;
                    self.sinks[sink].stall(id);
                    tail.lend_unpacked(sink);
                }
                Turn::Unregistered(account) => {
                    self.unregistered.push((id, account));
                    break;
                }
                Turn::Cutting => break,
                Turn::Later(at) => self.look_again(id, &mut tail, at),
            }
        }
        self.close_the_rest(&mut tail);
        self.let_go(id, &mut tail);
        if tail.closed && tail.is_empty() {
            self.forget_parked(&tail);
            self.looked_through.retain(|(tail, _), _| *tail != id);
            self.waiting.remove(&id);
            self.forget_unfinished(id);
            self.tell(Feedback::Closed(id));
            return;
        }
        let again = again && !self.is_to_rest(id, &mut tail, began);
        tail.queued = again;
        if again {
            self.ready.push_back(id);
        }
        self.tails.insert(id, tail);
    }

    /// One cursor's turn.
    fn turn(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> Turn {
        let mut left = self.setup.quantum;
        loop {
            let index = tail.cursors[sink].index;
            if let Err(turn) = self.reopen(id, tail, sink) {
                return turn;
            }
            let Some(slot) = tail.slot(index) else { return Turn::Idle };
            let (file, truncated) = (slot.file.clone(), slot.truncated);
            if truncated && tail.comes_again(index) {
                // This cursor came after the file had been given a later place.
                tail.cursors[sink].pass();
                continue;
            }
            if let Some(turn) = self.stays_set_back(id, tail, sink, &file) {
                return turn;
            }
            let same = match self.enter(id, tail, sink, (&file, truncated)) {
                Ok(same) => same,
                Err(turn) => return turn,
            };
            if truncated || !same || self.is_overlooked(&tail.cursors[sink], &file) {
                if let Err(turn) = self.truncated(id, tail, sink, &file) {
                    // It is entered, and compared, once more.
                    tail.cursors[sink].entered = same;
                    return turn;
                }
                continue;
            }
            if tail.excluded {
                if !self.leave_rest(id, tail, sink, &file) {
                    return Turn::Stalled;
                }
                continue;
            }
            let piece = match self.read(&tail.cursors[sink], &file) {
                Ok(piece) => piece,
                Err(error) => return Self::unreadable(&file, &error),
            };
            if piece.bytes < tail.cursors[sink].guard_len() {
                if !piece.at_end {
                    // A compressed file that is not unpacked up to the offset yet.
                    return Turn::More;
                }
                if file.content.damage().is_some() {
                    // It ends before the offset: nothing to compare, and nothing to read.
                    match self.at_end(id, tail, sink, &file, 0..0) {
                        Some(turn) => return turn,
                        None => continue,
                    }
                }
            }
            let cursor = &tail.cursors[sink];
            if !cursor.is_continued_by(&self.buffer[..piece.bytes])
                || cursor.offset == 0 && !begins_as_known(&file, &self.buffer[..piece.bytes])
            {
                if let Err(turn) = self.truncated(id, tail, sink, &file) {
                    return turn;
                }
                continue;
            }
            let is_short = piece.bytes < self.buffer.len();
            let fresh = piece.bytes - cursor.guard_len();
            let new = &self.buffer[cursor.guard_len()..piece.bytes];
            file.account.see(zeros::certain(new, cursor.offset, cursor.decoder.unit()));
            let read = &self.buffer[cursor.guard_len()..piece.bytes];
            if fresh > 0 && !self.is_known(&file, cursor.offset, read) {
                return Turn::Unregistered(file.account);
            }
            let (piece, at_cut) = self.up_to_cut(&tail.cursors[sink], &file, piece);
            let fresh = piece.bytes - tail.cursors[sink].guard_len();
            let pumped = self.pump(id, tail, sink, &file, piece);
            left = left.saturating_sub(pumped.consumed);
            let mut at_end = piece.at_end;
            let line = piece.bytes - fresh + pumped.consumed;
            let line = line..line + pumped.rest;
            let mut size = tail.cursors[sink].offset + line.len() as u64;
            match pumped.stop {
                None if at_cut => {
                    if !self.apply_cut(id, tail, sink, &file, line) {
                        return Turn::Stalled;
                    }
                    continue;
                }
                None => {}
                Some(Stop::Budget) => return Turn::Stalled,
                Some(Stop::Probed) => return Turn::Idle,
                Some(Stop::Failed) => return Turn::Later(Instant::now() + Duration::from_secs(1)),
                Some(Stop::Zeros) => {
                    match self.past_zeros(id, tail, sink, &file, (piece, line.clone())) {
                        Ok(Ahead::Skipped) if left <= CHUNK => return Turn::More,
                        // Whatever its length, the read that found it counts.
                        Ok(Ahead::Skipped) => {
                            left -= CHUNK;
                            continue;
                        }
                        Ok(Ahead::Nothing(end)) => (size, at_end) = (end, true),
                        Ok(Ahead::Over(turn)) => return turn,
                        Err(error) => return Self::unreadable(&file, &error),
                    }
                }
            }
            if !at_end {
                if is_short {
                    self.rests.unpacked(fresh);
                    return Turn::More;
                }
                if pumped.consumed == 0 {
                    self.enlarge_buffer();
                } else if left == 0 {
                    return Turn::More;
                }
                continue;
            }
            match heard(&file, size) {
                Heard::Nothing => {}
                Heard::More => {
                    // The size follows within microseconds; the writer may need this core.
                    std::thread::yield_now();
                    continue;
                }
                Heard::Soon => return Turn::Later(Instant::now() + Duration::from_millis(1)),
            }
            match self.at_end(id, tail, sink, &file, line) {
                Some(turn) => return turn,
                None if left == 0 => return Turn::More,
                None => {}
            }
        }
    }

    /// Leaves a file for the next one.
    fn next_file(&mut self, id: TailId, tail: &mut Tail, sink: usize, file: &LogFile) {
        if let Some(why) = file.content.damage() {
            self.damaged(id, tail, sink, file, &why);
        }
        tail.cursors[sink].leave(&file.account);
        self.leave_set_back(id, tail.cursors[sink].sink(), file.account.id);
        self.look_again(id, tail, Instant::now() + LINGER + Duration::from_millis(50));
    }

    /// Lets go of the files that nobody needs any more.
    fn let_go(&mut self, id: TailId, tail: &mut Tail) {
        let released = tail.release(Instant::now(), &self.awaited);
        for Gone { file, is_former_life } in released {
            if is_former_life {
                self.tell(Feedback::CutOff(file.account));
                continue;
            }
            if tail.files().any(|other| other.token == file.token) {
                continue;
            }
            if let Some(plain) = file.content.plain() {
                let finished = (Arc::clone(plain), Arc::clone(&file.account));
                let _going_down = self.setup.checksums.send(finished);
            }
            self.tell(Feedback::Released(file.token, file.account));
        }
        if tail.is_hinted() {
            self.look_again(id, tail, Instant::now());
            return;
        }
        let mut wait = None;
        for slot in tail.left_behind() {
            slot.file.content.rest();
            // The sinks are all that a compressed one waits for.
            let longest = if slot.file.content.is_compressed() { SETTLES } else { LINGER };
            wait.get_or_insert(longest);
        }
        if let Some(wait) = wait {
            self.look_again(id, tail, Instant::now() + wait);
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

/// Asks to be woken when the file is written beyond `size`; what was written already is told now.
fn heard(file: &LogFile, size: u64) -> Heard {
    file.bell.as_ref().map_or(Heard::Nothing, |bell| bell.set(size))
}

mod ahead;
mod chunk;
mod described;
mod earlier;
mod ends;
mod exclude;
mod known;
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
