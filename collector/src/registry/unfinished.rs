//! Compressed files that could not be told yet: since when, and when they are looked at again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::Registry;
use crate::{
    discover::Found,
    identity::{self, Look},
};

/// A compressed file that is not whole is read as far as it goes after this long without a change.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_millis(700);
/// How soon at the earliest, whatever happens in its directory.
const SOON: Duration = Duration::from_millis(100);

/// A compressed file that could not be told yet.
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
    pub(super) source: Arc<Path>,
    /// Size and last modification.
    pub(super) state: (u64, i64),
    /// Since when it is so.
    pub(super) since: Instant,
    /// When it was looked into last.
    pub(super) looked: Instant,
    /// It was unpacked in this state, and is not whole.
    pub(super) is_cut: bool,
}

impl Registry {
    /// How long ago it was written to: by its own time, or by when it was seen first, if that is later.
    pub(super) fn age(&self, look: &Look) -> Duration {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.get(&look.key).filter(|known| known.state == state);
        let own = age(look);
        match known {
            Some(known) => own.min(known.since.elapsed()),
            None if self.scanning => own,
            None => Duration::ZERO,
        }
    }

    pub(super) fn wait_for(&mut self, found: &Found, look: &Look, is_cut: bool, again: bool) {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.entry(look.key).or_insert_with(|| Unfinished {
            path: found.path.clone(),
            source: Arc::clone(&found.source.path),
            state,
            since: Instant::now(),
            looked: Instant::now(),
            is_cut,
        });
        if known.state != state {
            (known.state, known.since) = (state, Instant::now());
        }
        known.looked = Instant::now();
        known.is_cut = is_cut;
        known.path.clone_from(&found.path);
        if again && let Some(directory) = found.path.parent() {
            self.retries.insert(directory.to_owned(), Instant::now() + AGAIN);
        }
    }

    /// Whether one that could not be told was looked into a moment ago: what is being rotated is listed
    /// again and again, and to unpack it each time would take the time of others.
    pub(super) fn was_looked_into(&mut self, found: &Found, look: &Look) -> bool {
        let state = (look.size, look.modified_ns);
        let known = self.unfinished.get_mut(&look.key).filter(|known| known.state == state);
        let Some(known) = known.filter(|known| known.looked.elapsed() < SOON) else { return false };
        known.path.clone_from(&found.path);
        let at = known.looked + SOON;
        if let Some(directory) = found.path.parent() {
            let due = self.retries.entry(directory.to_owned()).or_insert(at);
            *due = at.min(*due);
        }
        true
    }

    /// Whether files of this source are there that may turn out to be copies.
    pub(super) fn has_unfinished(&self, source: &Path) -> bool {
        self.unfinished.values().any(|unfinished| {
            *unfinished.source == *source && unfinished.since.elapsed() < PATIENCE * 2
        })
    }

    /// Forgets those that are gone.
    pub(super) fn forget_unfinished(&mut self) {
        self.unfinished.retain(|key, unfinished| {
            identity::look_at(&unfinished.path).is_ok_and(|look| look.key == *key)
        });
    }
}

/// How long ago it was written to, by its own time; one in the future (the clock was set back) is long
/// ago.
pub(super) fn age(look: &Look) -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    match u64::try_from(now.saturating_sub(look.modified_ns)) {
        Ok(age) => Duration::from_nanos(age),
        Err(_in_the_future) => PATIENCE,
    }
}
