//! What is wrong with a sink at present: its last error, since when and how often, for `status` and
//! the metrics. A sink notes every failure here; the note goes with a delivery, once nothing is in
//! trouble any more. What is given up (at a stop, with a removed sink, a dropped record) mends nothing.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::shown;

/// Characters of an error that are kept.
const LONGEST: usize = 600;

/// One sink's troubles. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failure: Option<Failure>,
    /// Batches on their way that have failed at least once.
    batches: usize,
    /// Sources that wait behind a refused record.
    parked: HashSet<Arc<Path>>,
}

/// Deliveries that fail.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The last error. Holds no secret and nothing that could steer a terminal.
    pub text: String,
    /// When the first of them was.
    pub since: jiff::Timestamp,
    /// The same on a clock that nobody sets.
    pub began: Instant,
    /// How many there were since.
    pub times: u64,
}

impl Troubles {
    /// A delivery failed. `text` holds no secret.
    pub fn failed(&self, text: &str) {
        let text = shown::excerpt(text.as_bytes(), LONGEST);
        let mut state = self.state();
        match &mut state.failure {
            Some(failure) => {
                failure.text = text;
                failure.times += 1;
            }
            none => {
                let (since, began) = (jiff::Timestamp::now(), Instant::now());
                *none = Some(Failure { text, since, began, times: 1 });
            }
        }
    }

    /// Something was delivered. True: nothing is in trouble, so deliveries go through.
    pub fn mended(&self) -> bool {
        let mut state = self.state();
        let over = state.batches == 0 && state.parked.is_empty();
        if over {
            state.failure = None;
        }
        over
    }

    /// A batch has failed for the first time. Keep what this gives until the batch is settled or given up.
    pub(crate) fn begin(&self) -> Trouble {
        self.state().batches += 1;
        Trouble(self.clone())
    }

    /// A source waits behind a record that was refused.
    pub fn park(&self, source: &Arc<Path>) {
        self.state().parked.insert(Arc::clone(source));
    }

    /// It waits no more: the record was taken, or is gone with its file.
    pub fn unpark(&self, source: &Path) {
        self.state().parked.remove(source);
    }

    /// Sources that wait behind a record that was refused.
    pub fn parked(&self) -> usize {
        self.state().parked.len()
    }

    /// Why deliveries fail at present, if they do.
    pub fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch in trouble. A lane that is stuck must not be called well because another one moves.
#[derive(Debug)]
pub(crate) struct Trouble(Troubles);

impl Drop for Trouble {
    fn drop(&mut self) {
        self.0.state().batches -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_until_nothing_is_in_trouble() {
        let troubles = Troubles::default();
        let source = Arc::from(Path::new("/x.log"));
        let (first, second) = (troubles.begin(), troubles.begin());
        troubles.failed("one");
        let began = troubles.failure().unwrap();
        troubles.failed("two\u{1b}[2J\nthree");
        let failure = troubles.failure().unwrap();
        assert_eq!((failure.text.as_str(), failure.times), ("two\\x1b[2J\\nthree", 2));
        assert_eq!(failure.since, began.since);
        drop(first);
        troubles.park(&source);
        troubles.park(&source);
        drop(second);
        assert!(!troubles.mended());
        assert_eq!((troubles.parked(), troubles.failure().is_some()), (1, true));
        troubles.unpark(&source);
        assert!(troubles.mended());
        assert_eq!((troubles.parked(), troubles.failure().is_some()), (0, false));
    }

    #[test]
    fn what_is_given_up_mends_nothing() {
        let troubles = Troubles::default();
        let source = Arc::from(Path::new("/x.log"));
        let given_up = troubles.begin();
        troubles.failed("one");
        troubles.park(&source);
        drop(given_up);
        troubles.unpark(&source);
        assert!(troubles.failure().is_some(), "nothing was delivered");
        assert!(troubles.mended() && troubles.failure().is_none());
    }

    #[test]
    fn a_server_cannot_fill_memory_with_its_answer() {
        let troubles = Troubles::default();
        troubles.failed(&"x".repeat(1 << 20));
        assert!(troubles.failure().unwrap().text.chars().count() <= LONGEST + 1);
    }
}
