//! What is on its way to sinks of files whose copies are taken up meanwhile.
//!
//! A copy is taken up where its original is settled, so that a crash loses nothing. What was read beyond that and is
//! in batches still comes to the sink from there: a reader passes it by in the copy.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::identity::FileId;

/// How far each of the sinks in these slots is sent a copy's bytes otherwise.
type Sinks = Vec<(u16, u64)>;
type Copies = HashMap<FileId, Sinks, foldhash::fast::RandomState>;

/// By copy, what sinks are sent without it.
#[derive(Debug, Default)]
pub struct OnItsWay(Mutex<Copies>);

impl OnItsWay {
    /// Of a copy, these sinks are sent what is before these offsets without it.
    pub fn note(&self, copy: FileId, sinks: Sinks) {
        match sinks.is_empty() {
            true => self.forget(copy),
            false => _ = self.copies().insert(copy, sinks),
        }
    }

    /// Where a sink begins to read a copy, if that is not where it is settled.
    pub fn until(&self, copy: FileId, sink: u16) -> Option<u64> {
        let copies = self.copies();
        copies.get(&copy)?.iter().find(|(it, _)| *it == sink).map(|(_, until)| *until)
    }

    /// A sink's reader has passed it by.
    pub fn passed(&self, copy: FileId, sink: u16) {
        let mut copies = self.copies();
        let Some(sinks) = copies.get_mut(&copy) else { return };
        sinks.retain(|(it, _)| *it != sink);
        if sinks.is_empty() {
            copies.remove(&copy);
        }
    }

    /// A file is nobody's any more.
    pub fn forget(&self, copy: FileId) {
        self.copies().remove(&copy);
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sink_passes_its_own_by_once() {
        let (all, copy, other) = (OnItsWay::default(), FileId(1), FileId(2));
        all.note(copy, vec![(0, 7), (3, 9)]);
        all.note(other, vec![(0, 1)]);
        assert_eq!([0, 1, 3].map(|sink| all.until(copy, sink)), [Some(7), None, Some(9)]);
        all.passed(copy, 0);
        assert_eq!([0, 3].map(|sink| all.until(copy, sink)), [None, Some(9)]);
        all.passed(copy, 3);
        all.forget(other);
        assert!(all.copies().is_empty());
    }
}
