//! What the registry is told while it runs: sinks that come and go, sources that change.
//!
//! The registry passes sinks on to the readers, because it makes the accounts: where a new sink begins
//! is written into every account before any reader has a cursor for it.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Registry, last_line::LastLine};
use crate::{
    batch::{encoding::Grouping, lane::Outlet},
    config::Start,
    discover::Discovery,
    identity::{FileId, guard::Guard},
    ledger::{FileAccount, SinkSlot},
    read::reader::Message,
    settle::Command,
    watch::{Event, Waker},
};

/// What the registry is told.
pub enum Order {
    /// A sink begins.
    AddSink {
        /// Its slot and name.
        slot: SinkSlot,
        /// Where it gets its memory and sends its batches.
        outlet: Box<Outlet>,
        /// Where in the files.
        begin: Begin,
    },
    /// A sink gets no more.
    RemoveSink {
        /// Its slot.
        slot: u16,
        /// It will be added again: files are held for it.
        awaited: bool,
    },
    /// A sink's batches have other bounds.
    Regroup(u16, Grouping),
    /// Logs are looked for as configured anew; how much one is unpacked at most.
    Sources(Box<Discovery>, u64),
    /// Everything is looked at again, as if events had been lost.
    LookAtAll,
}

/// Where a sink begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Where it stood.
    Again,
    /// It is new; in what is there already it begins here.
    At(Start),
}

/// Gives orders. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    sender: Sender<Order>,
    waker: Waker,
}

impl Orders {
    /// For the registry whose watcher this waker wakes.
    pub fn new(waker: Waker) -> (Self, Receiver<Order>) {
        let (sender, receiver) = unbounded();
        (Self { sender, waker }, receiver)
    }

    /// Gives an order.
    pub fn send(&self, order: Order) {
        // The registry is gone only when the agent is going down.
        let _going_down = self.sender.send(order);
        self.waker.wake();
    }
}

impl Registry {
    pub(super) fn heed_orders(&mut self) {
        while let Ok(order) = self.setup.orders.try_recv() {
            match order {
                Order::AddSink { slot, outlet, begin } => self.add_sink(slot, &outlet, begin),
                Order::RemoveSink { slot, awaited } => {
                    if !awaited {
                        self.setup.sinks.retain(|sink| sink.number != slot);
                    }
                    self.tell_readers(|| Message::RemoveSink { slot, awaited });
                }
                Order::Regroup(slot, grouping) => {
                    self.tell_readers(|| Message::Regroup(slot, grouping));
                }
                Order::Sources(discovery, max_unpacked) => {
                    self.setup.max_unpacked = max_unpacked;
                    self.change_sources(*discovery);
                }
                Order::LookAtAll => {
                    self.setup.discovery.list_many(true);
                    self.heed_watcher(&[Event::Overflow]);
                    self.setup.discovery.list_many(false);
                }
            }
        }
    }

    fn add_sink(&mut self, slot: SinkSlot, outlet: &Outlet, begin: Begin) {
        let number = slot.number;
        self.setup.sinks.retain(|sink| sink.number != number);
        self.setup.sinks.push(slot);
        let known: HashSet<FileId> = self.held.values().map(|held| held.account.id).collect();
        for account in self.setup.accounts.all() {
            match begin {
                Begin::Again => account.sink(number).restart(),
                // What is not there under its own name was done with before this sink was there.
                Begin::At(_) if !known.contains(&account.id) => account.sink(number).exclude(),
                Begin::At(Start::Beginning) => {}
                Begin::At(Start::End) => {
                    account.refresh();
                    self.start_at_end(&account, number);
                }
            }
            // The entry is to name the sink.
            account.stale.store(true, Ordering::Release);
        }
        let new = begin != Begin::Again;
        if new {
            let _going_down = self.setup.settler.send(Command::Joined(number));
        }
        let _going_down = self.setup.settler.send(Command::Refresh);
        self.tell_readers(|| Message::AddSink { outlet: Box::new(outlet.clone()), new });
        if begin == Begin::At(Start::Beginning) {
            self.wake_all();
        }
    }

    /// Hands the files that were let go back to their readers: a new sink is to have them from their
    /// beginning. Each is put before the one handed back last, so the latest goes first.
    fn wake_all(&mut self) {
        let dormant = self.held.tokens().into_iter();
        let mut dormant: Vec<_> = dormant
            .filter_map(|token| self.held.get(token).map(|held| (token, held)))
            .filter(|(_, held)| held.dormant)
            .map(|(token, held)| (token, Arc::clone(&held.account)))
            .collect();
        dormant.sort_by_key(|(_, account)| std::cmp::Reverse(account.identity.key.born_ns));
        for (token, account) in dormant {
            self.wake_up(token, &account);
        }
    }

    /// A file that was none of a sink's, because it was done with when the sink came, is read again:
    /// what comes from now on is for the sink too.
    pub(super) fn include(&self, account: &Arc<FileAccount>) {
        for slot in self.slots().filter(|slot| account.sink(*slot).is_excluded()) {
            self.start_at_end(account, slot);
            let _going_down = self.setup.settler.send(Command::Skipped(Arc::clone(account), slot));
        }
    }

    /// What is there is nothing to this sink.
    fn start_at_end(&self, account: &FileAccount, sink: u16) {
        let seen = account.seen.load(Ordering::Acquire);
        let file = self.bytes_of(account);
        let offset = file.as_ref().map_or(seen, |file| LastLine::of(file, seen).end);
        let guard = file.and_then(|file| Guard::in_file(&file, offset).ok());
        account.sink(sink).start_at(offset, guard.unwrap_or_default());
    }

    fn tell_readers(&self, message: impl Fn() -> Message) {
        for reader in &self.setup.readers {
            // A reader is gone only when the agent is going down.
            let _going_down = reader.send(message());
        }
    }
}
