//! Receipts to offsets to disk: the one thread that moves offsets.
//!
//! Applies what sinks acknowledge to the accounts and commits the changes, with the sinks' own
//! positions, in one journal record. Files are registered here before anything of them is sent.
//! A commit that fails (disk full) is tried again; collection goes on meanwhile, and what is not
//! durable is sent again after a crash.

pub mod books;
mod command;
mod commit;
pub mod slots;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, never, select_biased};

use self::books::Books;
pub use self::command::{Command, Went};
use crate::{
    batch::{Outcome, Range, Receipt},
    checkpoint::{FileEntry, Store},
    identity::FileId,
    ledger::{FileAccount, SinkSlot, is_settled},
    metrics::{Metrics, SinkLabel},
    read::reader::{Message, Registration},
    reason::Reason,
    watch::Counted,
};

/// How often sizes of files that nobody reads are looked at for the checkpoint.
const REFRESH: Duration = Duration::from_secs(5);

/// Receipts that come in quick succession are taken together: waking this thread for each would cost
/// more than its work. Nobody waits for it but files to be registered, and these not longer.
const GATHER: Duration = Duration::from_millis(2);

/// The settling thread.
pub struct Settler {
    /// Where offsets are made durable.
    pub store: Store,
    /// Accounts, totals and counts.
    pub books: Books,
    /// From the sinks.
    pub receipts: Receiver<Receipt>,
    /// For what concerns single sources.
    pub readers: Vec<Sender<Message>>,
    /// From the readers.
    pub registrations: Receiver<Registration>,
    /// From the registry and the supervisor.
    pub commands: Receiver<Command>,
    /// How often to commit.
    pub interval: Duration,
    /// When the last commit was durable, milliseconds since the epoch.
    pub last_commit_ms: Arc<AtomicU64>,
}

/// What is not durable yet.
#[derive(Default)]
struct Unsaved {
    files: HashMap<FileId, Arc<FileAccount>>,
    positions: BTreeMap<Arc<str>, String>,
    totals: BTreeMap<String, u64>,
    forgotten: HashSet<FileId>,
    cuts: HashSet<FileId>,
    counted: Vec<Counted>,
    failing: bool,
}

impl Unsaved {
    fn forget(&mut self, id: FileId) {
        self.files.remove(&id);
        self.forgotten.insert(id);
    }
}

impl Settler {
    /// Runs until told to stop; hands the store back.
    pub fn run(mut self) -> Store {
        let mut unsaved = Unsaved::default();
        let mut due = Instant::now() + self.interval;
        let mut refresh = Instant::now() + REFRESH;
        let mut gather = false;
        loop {
            let mut stop = false;
            let mut waiting = Vec::new();
            if std::mem::take(&mut gather) {
                std::thread::sleep(GATHER);
            }
            select_biased! {
                recv(self.commands) -> command => match command {
                    Ok(Command::Stop) | Err(_) => stop = true,
                    Ok(Command::Interval(interval)) => {
                        self.interval = interval;
                        due = Instant::now() + interval;
                    }
                    Ok(Command::Refresh) => refresh = Instant::now(),
                    Ok(Command::Stand { sink, first, reply }) => {
                        // It is gone only where the agent is going down.
                        let _gone = reply.send(self.stand(sink, first, &mut unsaved));
                    }
                    Ok(command) => self.obey(command, &mut unsaved),
                },
                recv(self.receipts) -> receipt => match receipt {
                    Ok(receipt) => {
                        self.apply(receipt, &mut unsaved);
                        gather = true;
                    }
                    // Readers and sinks are gone: a closed channel is always ready.
                    Err(_) => self.receipts = never(),
                },
                recv(self.registrations) -> registration => match registration {
                    Ok(registration) => waiting.push(registration),
                    Err(_) => self.registrations = never(),
                },
                default(due.saturating_duration_since(Instant::now())) => {}
            }
            while let Ok(receipt) = self.receipts.try_recv() {
                self.apply(receipt, &mut unsaved);
            }
            waiting.extend(self.registrations.try_iter());
            let now = Instant::now();
            if now >= refresh {
                refresh = now + REFRESH;
                self.refresh(&mut unsaved);
            }
            if !waiting.is_empty() || now >= due || stop {
                self.register(&waiting, &mut unsaved);
                let durable = self.commit(&mut unsaved);
                due = Instant::now() + self.interval;
                waiting.into_iter().for_each(|registration| self.answer(registration, durable));
            }
            if stop {
                return self.store;
            }
        }
    }

    fn obey(&self, command: Command, unsaved: &mut Unsaved) {
        match command {
            Command::Forget(ids) => self.forget(ids, unsaved),
            Command::Lose(entry, reason) => self.lose(*entry, reason, unsaved),
            Command::Went(Went { lost, unknown, counted }) => {
                for (path, size, reason) in lost {
                    self.books.lose_unseen(&path, size, reason);
                }
                unknown.iter().for_each(|why| self.books.note_unknown(*why));
                unsaved.counted.extend(counted.filter(|counted| counted.inodes().next().is_some()));
            }
            Command::CutOff { account, copied, read_anew } => {
                self.books.cut_off(&account, copied, read_anew);
                if !account.is_forgotten() {
                    unsaved.files.insert(account.id, account);
                }
            }
            Command::Together(commands) => {
                commands.into_iter().for_each(|command| self.obey(command, unsaved));
            }
            Command::Keep(account) => {
                account.stale.store(true, Ordering::Release);
                unsaved.files.insert(account.id, account);
            }
            Command::Complete => self.books.accounts.set_complete(),
            Command::Unknown(why) => self.books.note_unknown(why),
            Command::Joined(sink) => self.books.join(sink),
            Command::Skipped(file, sink) => self.books.skip(&file, sink),
            Command::Interval(_) | Command::Refresh | Command::Stand { .. } | Command::Stop => {}
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.books.metrics
    }

    fn apply(&self, receipt: Receipt, unsaved: &mut Unsaved) {
        fail::fail_point!("settle.receipt");
        let Receipt { sink, ranges, lines, outcome, position } = receipt;
        if let Outcome::Parked(until) = outcome {
            return self.park(sink, &ranges, until);
        }
        self.unpark(sink, &ranges);
        let Some(name) = self.books.sinks.name(sink) else { return };
        for range in ranges {
            self.books.settle((sink, &name), &range, outcome);
            if !range.file.is_forgotten() {
                unsaved.files.insert(range.file.id, range.file);
            }
        }
        match outcome {
            Outcome::Delivered => {
                let label = SinkLabel { sink: name.to_string() };
                self.metrics().delivered_lines.get_or_create(&label).inc_by(u64::from(lines));
            }
            Outcome::Dropped(reason) => self.metrics().dropped_lines(reason, u64::from(lines)),
            Outcome::Parked(_) => {}
        }
        if let Some(position) = position {
            unsaved.positions.insert(name, position);
        }
    }

    /// Everything that the sink acknowledged is settled, durably if the disk allows; its position.
    fn stand(&mut self, sink: u16, first: Option<String>, unsaved: &mut Unsaved) -> Option<String> {
        while let Ok(receipt) = self.receipts.try_recv() {
            self.apply(receipt, unsaved);
        }
        let name = self.books.sinks.name(sink)?;
        let committed = || self.store.state().positions.get(&name).cloned();
        let position = unsaved.positions.get(&name).cloned().or_else(committed);
        if position.is_none()
            && let Some(first) = &first
        {
            unsaved.positions.insert(name, first.clone());
        }
        self.commit(unsaved);
        position.or(first)
    }

    /// Tells the source's reader to go back to what is settled. What the sink delivered before is.
    fn park(&self, sink: u16, ranges: &[Range], until: Instant) {
        let Some(first) = ranges.first() else { return };
        let delivered = ranges.iter().filter(|range| range.lines > 0);
        let skip: Vec<_> = delivered.map(|range| (range.file.id, range.lines)).collect();
        let source = &first.file.source.path;
        self.tell_readers(|| Message::Parked(sink, Arc::clone(source), skip.clone(), until));
    }

    /// Tells readers which of their parked sources can go on.
    fn unpark(&self, sink: u16, ranges: &[Range]) {
        for range in ranges.iter().filter(|range| range.again && range.lines > 0) {
            let source = &range.file.source.path;
            self.tell_readers(|| Message::Unparked(sink, Arc::clone(source)));
        }
    }

    /// Which of them reads a source only they know.
    fn tell_readers(&self, message: impl Fn() -> Message) {
        for reader in &self.readers {
            let _going_down = reader.send(message());
        }
    }

    fn register(&self, waiting: &[Registration], unsaved: &mut Unsaved) {
        for account in waiting.iter().flat_map(|registration| &registration.accounts) {
            self.books.begin(account);
            account.stale.store(true, Ordering::Release);
            unsaved.files.insert(account.id, Arc::clone(account));
        }
        for (file, _) in waiting.iter().flat_map(|registration| &registration.cuts) {
            fail::fail_point!("cut.requested");
            unsaved.cuts.insert(*file);
        }
    }

    /// Tells a reader that it can go on. A file that is not durable yet is sent all the same: its
    /// offsets are not durable either. Not so a cut: what it ends could end elsewhere after a crash.
    fn answer(&self, registration: Registration, durable: bool) {
        let Registration { accounts, cuts, tails, reply } = registration;
        for account in accounts {
            account.registered.store(true, Ordering::Release);
        }
        if !durable {
            cuts.iter().for_each(|(file, at)| self.books.accounts.cuts.withdraw(*file, *at));
        }
        let message = match cuts.is_empty() {
            true => Message::Registered(tails),
            false => {
                fail::fail_point!("cut.durable");
                Message::Cut(tails)
            }
        };
        let _going_down = reply.send(message);
    }

    /// Notes sizes of files that grow while nobody reads them (a dead sink): the audit of a file
    /// that is deleted while the agent is down rests on them. Of one that is read to its end, whoever
    /// reads it notes the size.
    fn refresh(&self, unsaved: &mut Unsaved) {
        let slots = self.books.sinks.wanted();
        for account in self.books.accounts.all() {
            let stale = account.stale.load(Ordering::Acquire);
            if stale && account.registered.load(Ordering::Acquire) {
                unsaved.files.insert(account.id, Arc::clone(&account));
            }
            if account.ended.load(Ordering::Acquire) {
                continue;
            }
            let before = account.seen.load(Ordering::Acquire);
            let behind =
                |slot: &SinkSlot| account.sink(slot.number).read.load(Ordering::Acquire) < before;
            if slots.iter().any(behind) {
                account.refresh();
            }
            let grown = account.seen.load(Ordering::Acquire) > before;
            if account.registered.load(Ordering::Acquire) && grown {
                unsaved.files.insert(account.id, account);
            }
        }
    }

    /// Forgets files that are settled to the last byte: their sums go to the totals.
    fn forget(&self, ids: Vec<FileId>, unsaved: &mut Unsaved) {
        for id in ids {
            let account = self.books.accounts.get(id);
            match self.last_entry(id, account.as_deref(), unsaved) {
                Some(entry) if !entry.ended || !is_settled(&entry, &self.books.sinks.wanted()) => {
                    tracing::debug!(%id, "A file that is not finished with is not forgotten.");
                }
                Some(entry) => {
                    self.books.finish(&entry, entry.size, Reason::DeletedWhileDown);
                    unsaved.forget(id);
                    self.books.accounts.forget_details(id);
                }
                None => {}
            }
        }
    }

    /// Forgets a file that is gone, with what is open of it lost. `entry`: the last that is known of
    /// it if neither an account nor the checkpoint says more.
    fn lose(&self, entry: FileEntry, reason: Reason, unsaved: &mut Unsaved) {
        let id = entry.id;
        let account = self.books.accounts.get(id);
        if account.is_none() && unsaved.forgotten.contains(&id) {
            return;
        }
        let size = entry.size;
        let entry = self.last_entry(id, account.as_deref(), unsaved).unwrap_or(entry);
        // The checkpoint may say more than is lost: a copy has taken over the end of a former life.
        let size = if account.is_some() { entry.size.max(size) } else { size };
        self.books.finish(&entry, size, reason);
        unsaved.forget(id);
        self.books.accounts.forget_details(id);
    }

    /// What is known of a file now, or was before it was let go. None: it is forgotten.
    fn last_entry(
        &self,
        id: FileId,
        account: Option<&FileAccount>,
        unsaved: &Unsaved,
    ) -> Option<FileEntry> {
        let stored =
            self.store.state().entries.get(&id).filter(|_| !unsaved.forgotten.contains(&id));
        let Some(account) = account else { return stored.map(|entry| (**entry).clone()) };
        let mut entry = account.entry(&self.books.sinks.wanted());
        // An account knows the configured sinks; what it was for others, the checkpoint knows.
        for (sink, offset) in stored.iter().flat_map(|stored| stored.sinks.iter()) {
            if !self.books.sinks.wants(sink) {
                entry.sinks.insert(Arc::clone(sink), *offset);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
