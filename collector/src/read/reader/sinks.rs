//! A reader's sinks: they come and go while it reads, and it says how far it is with each.
//!
//! A sink that goes takes its lanes, its cursors and whatever waits for it along; the other sinks'
//! cursors do not notice. Files are not let go for want of a cursor: a sink that is to come back (its
//! configuration changes) is waited for.

use std::time::Instant;

use crossbeam_channel::Sender;

use super::{Reader, SinkLanes};
use crate::{
    batch::{budget::Freed, encoding::Grouping, lane::Outlet},
    read::tail::TailId,
};

/// How far a reader is, once it has read everything that it had room for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caught {
    /// Sinks (their slots) for which something is left to read, but their memory is spent.
    pub stalled: Vec<u16>,
    /// A cursor is about to go on to a later file of its source, or the first lines of a file are about to
    /// be read.
    pub passing: bool,
}

impl Reader {
    /// A sink begins, or goes on as configured anew, where the accounts say.
    pub(super) fn add_sink(&mut self, outlet: Outlet, new: bool) {
        let slot = outlet.sink;
        let lanes = match SinkLanes::new(outlet, self.setup.number) {
            Ok(lanes) => lanes,
            Err(error) => {
                tracing::error!(%error, "A sink's compressor cannot be made; it gets nothing until the agent is started again.");
                return;
            }
        };
        self.awaited.retain(|awaited| *awaited != slot);
        self.sinks.push(lanes);
        for tail in self.tails.values_mut() {
            let cursor = (self.setup.cursor)(slot, &tail.source);
            if new {
                tail.skip_truncated(slot);
            }
            tail.add_cursor(cursor);
        }
        self.enqueue_all();
    }

    /// A sink gets no more. `awaited`: it comes back, and what is not settled is kept for it.
    pub(super) fn remove_sink(&mut self, slot: u16, awaited: bool) {
        if awaited && !self.awaited.contains(&slot) {
            self.awaited.push(slot);
        } else if !awaited {
            self.awaited.retain(|other| *other != slot);
        }
        self.parked.retain(|(of, _), _| *of != slot);
        self.forget_unfinished_of(slot);
        if let Some(at) = self.place_of(slot) {
            self.parked.retain(|(parked, _), _| *parked != slot);
            let mut lanes = self.sinks.remove(at);
            lanes.seal();
            for tail in self.tails.values_mut() {
                tail.remove_cursor(at);
            }
        }
        // Some may have been held for this sink alone.
        self.enqueue_all();
    }

    /// Other bounds for a sink's batches.
    pub(super) fn regroup(&mut self, slot: u16, grouping: &Grouping) {
        let Some(at) = self.place_of(slot) else { return };
        self.sinks[at].regroup(grouping);
    }

    /// A sink's memory has room again, for one lane or for any.
    pub(super) fn freed(&mut self, slot: u16, freed: Freed) {
        let Some(at) = self.place_of(slot) else { return };
        for id in self.sinks[at].take_stalled(freed) {
            self.with_tail(id, |tail| tail.cursors[at].stalled = false);
            self.enqueue(id);
        }
    }

    /// Answers those who asked, once there is nothing to read: what was read is sealed.
    pub(super) fn answer_waiting(&mut self) {
        if self.asked.is_empty() || !self.ready.is_empty() || !self.setup.inbox.is_empty() {
            return;
        }
        self.sinks.iter_mut().for_each(SinkLanes::seal);
        let stalled: Vec<u16> = self
            .sinks
            .iter()
            .filter(|sink| sink.is_stalled())
            .map(|sink| sink.outlet.sink)
            .collect();
        let passing = self.registering > 0
            || self.doubts.is_any_open()
            || self.tails.values().any(|tail| tail.is_passing());
        for waiting in self.asked.drain(..) {
            // Whoever asked may have given up.
            let _gone: Result<(), _> = waiting.send(Caught { stalled: stalled.clone(), passing });
        }
    }

    /// Somebody wants to know when there is nothing to read.
    pub(super) fn ask(&mut self, reply: Sender<Caught>) {
        self.asked.push(reply);
        self.read_undescribed();
    }

    pub(super) fn place_of(&self, slot: u16) -> Option<usize> {
        self.sinks.iter().position(|sink| sink.outlet.sink == slot)
    }

    fn enqueue_all(&mut self) {
        let ids: Vec<TailId> = self.tails.keys().copied().collect();
        ids.into_iter().for_each(|id| self.enqueue(id));
    }

    /// Seals what is old enough (with no age to wait for: as soon as there is nothing to read).
    pub(super) fn seal_due(&mut self) {
        let now = Instant::now();
        let idle = self.ready.is_empty();
        for sink in &mut self.sinks {
            let age = sink.outlet.encoding.max_age;
            if age.is_zero() && !idle {
                continue;
            }
            let deadlines = sink.lanes.iter().filter_map(|lane| lane.deadline(&sink.outlet));
            if deadlines.min().is_none_or(|first| first > now) {
                continue;
            }
            // What is due soon goes along: whoever waits for batches is woken once for all.
            let soon = now + age / 4;
            for lane in &mut sink.lanes {
                if lane.deadline(&sink.outlet).is_some_and(|at| at <= soon)
                    && let Err(error) = lane.seal(&sink.outlet, &mut sink.compressor)
                {
                    tracing::error!(%error, "Compressing a batch failed; it is tried again.");
                }
            }
        }
    }
}
