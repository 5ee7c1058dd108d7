//! Sources that a sink has parked: it refuses one of their records, and is sent nothing else of them
//! until it takes that one.
//!
//! Nothing of a parked source is kept in memory; its files are the buffer. The cursor goes back to
//! what is settled, waits, and sends one record by itself, the refused one: what the batch had before
//! it was delivered and is left out. If that is taken, the source goes on as any other.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use super::{Reader, Tail, Turn, lane_of};
use crate::{identity::FileId, read::tail::TailId};

/// The parked sources of a reader, by sink and path.
pub(super) type Parked = HashMap<(u16, Arc<Path>), State, foldhash::fast::RandomState>;

/// How many records of which file are left out.
pub(super) type Skip = Vec<(FileId, u32)>;

/// Where a parked source stands.
pub(super) enum State {
    /// Nothing is sent before this instant.
    Waiting(Instant, Skip),
    /// The record is looked for.
    Looking(Skip),
    /// It was sent; what became of it is to be heard.
    Sent,
}

impl Reader {
    /// A sink has parked a source.
    pub(super) fn park(&mut self, slot: u16, source: &Arc<Path>, skip: Skip, until: Instant) {
        let Some(at) = self.place_of(slot) else { return };
        let Some(id) = self.tail_of(source) else { return };
        let Some(mut tail) = self.tails.remove(&id) else { return };
        tail.rewind(at, slot);
        self.forget_unfinished_for(id, slot);
        self.parked.insert((slot, Arc::clone(source)), State::Waiting(until, skip));
        self.look_again(id, &mut tail, until);
        self.tails.insert(id, tail);
    }

    /// A parked source's record is settled: the source goes on.
    pub(super) fn unpark(&mut self, slot: u16, source: &Arc<Path>) {
        if self.parked.remove(&(slot, Arc::clone(source))).is_none() {
            return;
        }
        if let (Some(id), Some(at)) = (self.tail_of(source), self.place_of(slot)) {
            self.with_tail(id, |tail| tail.cursors[at].again = false);
            self.enqueue(id);
        }
    }

    /// The tail is closed: nothing of it waits any more.
    pub(super) fn forget_parked(&self, tail: &Tail) {
        for (slot, source) in self.parked.keys().filter(|(_, of)| *of == tail.source.path) {
            if let Some(at) = self.place_of(*slot) {
                self.sinks[at].outlet.troubles.unpark(source);
            }
        }
    }

    /// Parkings are few, and sources have no other name that their sinks know.
    fn tail_of(&self, source: &Path) -> Option<TailId> {
        self.tails.iter().find(|(_, tail)| *tail.source.path == *source).map(|(id, _)| *id)
    }

    /// One cursor's turn, of a source that may be parked.
    pub(super) fn take_turn(&mut self, id: TailId, tail: &mut Tail, sink: usize) -> Turn {
        if self.parked.is_empty() {
            return self.turn(id, tail, sink);
        }
        let key = (self.sinks[sink].outlet.sink, Arc::clone(&tail.source.path));
        let skip = match self.parked.get_mut(&key) {
            None => return self.turn(id, tail, sink),
            Some(State::Waiting(until, _)) if *until > Instant::now() => {
                return Turn::Later(*until);
            }
            Some(State::Sent) => return Turn::Idle,
            Some(State::Waiting(_, skip) | State::Looking(skip)) => std::mem::take(skip),
        };
        tail.cursors[sink].again = true;
        let lanes = &mut self.sinks[sink];
        let lane = lane_of(id.0, lanes.lanes.len() as u32) as usize;
        if let Err(error) = lanes.seal_lane(lane) {
            tracing::error!(%error, "Compressing a batch failed; it is tried again.");
            self.parked.insert(key, State::Looking(skip));
            return Turn::Later(Instant::now() + std::time::Duration::from_secs(1));
        }
        lanes.lanes[lane].begin_probe(skip);
        let turn = self.turn(id, tail, sink);
        let lanes = &mut self.sinks[sink];
        // What the end of a file yields is not sealed by itself.
        let sealed = !lanes.lanes[lane].has_lines() || lanes.seal_lane(lane).is_ok();
        let (skip, sent) = lanes.lanes[lane].end_probe();
        if sent || !sealed {
            self.parked.insert(key, State::Sent);
            return Turn::Idle;
        }
        self.parked.insert(key, State::Looking(skip));
        turn
    }
}
