//! How long a sink's oldest batch has been on its way: from its first byte to its settlement.
//!
//! One entry for every batch that is not settled. Batches are bounded by the sink's memory budget,
//! and so are the entries. A receipt takes out its own batch's entry and touches no other.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The batches of one sink that are not settled. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ages(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    begun: BTreeSet<(Instant, u64)>,
    next: u64,
}

/// A batch that is not settled; it is once this is dropped.
#[derive(Debug)]
pub struct Begun {
    ages: Ages,
    key: (Instant, u64),
}

impl Ages {
    /// A batch is begun now.
    pub fn begin(&self) -> Begun {
        let mut inner = self.inner();
        inner.next += 1;
        let key = (Instant::now(), inner.next);
        inner.begun.insert(key);
        drop(inner);
        Begun { ages: self.clone(), key }
    }

    /// How long ago the oldest of them was begun. None: all are settled.
    pub fn oldest(&self) -> Option<Duration> {
        let first = self.inner().begun.first().map(|(at, _)| *at);
        first.map(|at| at.elapsed())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// When it was begun.
    pub fn at(&self) -> Instant {
        self.key.0
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.ages.inner().begun.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn the_oldest_batch_tells_whatever_becomes_of_the_others() {
        let ages = Ages::default();
        assert_eq!(ages.oldest(), None);
        let first = ages.begin();
        sleep(Duration::from_millis(20));
        let second = ages.begin();
        for _ in 0..100 {
            drop(ages.begin());
        }
        assert!(ages.oldest().unwrap() >= Duration::from_millis(20), "a receipt reset the clock");
        drop(first);
        assert!(ages.oldest().unwrap() <= second.at().elapsed());
        drop(second);
        assert_eq!(ages.oldest(), None);
        assert!(ages.inner().begun.is_empty());
    }
}
