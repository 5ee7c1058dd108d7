//! Who was held back at the bound of something that all share: for `status` and the metrics.
//!
//! It bounds nothing itself. Whoever enforces a bound notes here whom it held back; so a bound that somebody
//! reaches is never silent. Of the process, as descriptors are: parts that know nothing of each other share it.
//! It remembers the latest only, whoever makes up names.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Names that are remembered.
const MOST: usize = 256;
/// For so long after somebody was last held back.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Characters of a name that are kept.
const LONGEST: usize = 300;

/// What all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Connections to the admin port.
    AdminConnections,
    /// A name in `Host` that is not this machine's.
    AdminHosts,
    /// `/metrics` and `/status`, which take memory until they are read.
    AdminLargeAnswers,
    /// Descriptors of log files.
    Descriptors,
    /// The time it takes to look through holes.
    Holes,
    /// Files and directories that are known at once.
    KnownFiles,
    /// The time it takes to list a directory.
    Listing,
    /// Lines of the agent's own log.
    Messages,
    /// Room on disk for compressed files that are unpacked.
    Unpacking,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AdminConnections,
        Self::AdminHosts,
        Self::AdminLargeAnswers,
        Self::Descriptors,
        Self::Holes,
        Self::KnownFiles,
        Self::Listing,
        Self::Messages,
        Self::Unpacking,
    ];

    /// Its name in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminConnections => "admin_connections",
            Self::AdminHosts => "admin_hosts",
            Self::AdminLargeAnswers => "admin_large_answers",
            Self::Descriptors => "descriptors",
            Self::Holes => "holes",
            Self::KnownFiles => "known_files",
            Self::Listing => "listing",
            Self::Messages => "messages",
            Self::Unpacking => "unpacking",
        }
    }
}

/// Somebody who was held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// At which bound.
    pub resource: Resource,
    /// Who: a path, an address. Somebody else's text.
    pub who: String,
    /// How often since.
    pub times: u64,
    /// Since when.
    pub since: jiff::Timestamp,
}

static ALL: LazyLock<Table> = LazyLock::new(Table::default);

/// Notes that somebody was held back.
pub fn note(resource: Resource, who: &str) {
    ALL.note(resource, who, 1, Instant::now());
}

/// How often anybody was, since the agent's start.
pub fn count(resource: Resource) -> u64 {
    ALL.counts[resource as usize].load(Ordering::Relaxed)
}

/// Who was lately.
pub fn lately() -> Vec<HeldBack> {
    ALL.lately(Instant::now())
}

#[derive(Debug, Default)]
struct Table {
    counts: [AtomicU64; Resource::ALL.len()],
    entries: Mutex<HashMap<(Resource, Box<str>), Entry>>,
}

#[derive(Debug)]
struct Entry {
    times: u64,
    since: jiff::Timestamp,
    last: Instant,
}

impl Table {
    fn note(&self, resource: Resource, who: &str, times: u64, now: Instant) {
        self.counts[resource as usize].fetch_add(times, Ordering::Relaxed);
        let end = who.char_indices().nth(LONGEST).map_or(who.len(), |(at, _)| at);
        let key = (resource, Box::from(&who[..end]));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&key) {
            if entry.is_over(now) {
                (entry.times, entry.since) = (0, jiff::Timestamp::now());
            }
            (entry.times, entry.last) = (entry.times + times, now);
            return;
        }
        if entries.len() >= MOST
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.last)
        {
            let oldest = oldest.0.clone();
            entries.remove(&oldest);
        }
        entries.insert(key, Entry { times, since: jiff::Timestamp::now(), last: now });
    }

    fn lately(&self, now: Instant) -> Vec<HeldBack> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| !entry.is_over(now));
        let told = |((resource, who), entry): (&(Resource, Box<str>), &Entry)| HeldBack {
            resource: *resource,
            who: who.to_string(),
            times: entry.times,
            since: entry.since,
        };
        let mut all: Vec<_> = entries.iter().map(told).collect();
        all.sort_by(|a, b| {
            a.resource.cmp(&b.resource).then(b.times.cmp(&a.times)).then_with(|| a.who.cmp(&b.who))
        });
        all
    }
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_held_back_is_known_for_a_while() {
        let table = Table::default();
        let start = Instant::now();
        for who in ["/a", "/b", "/b"] {
            table.note(Resource::Messages, who, 1, start);
        }
        let all = table.lately(start);
        let all: Vec<_> = all.iter().map(|it| (it.who.as_str(), it.times)).collect();
        assert_eq!(all, [("/b", 2), ("/a", 1)]);
        assert_eq!(table.counts[Resource::Messages as usize].load(Ordering::Relaxed), 3);
        table.note(Resource::Messages, "/a", 1, start + REMEMBERED);
        let all = table.lately(start + REMEMBERED);
        assert_eq!((all.len(), all[0].times), (1, 1), "it begins anew");
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let table = Table::default();
        let start = Instant::now();
        for n in 0..10_000 {
            table.note(Resource::Messages, &format!("/{n}/{}", "ä".repeat(5_000)), 1, start);
        }
        let all = table.lately(start);
        assert!(all.len() <= MOST && all.iter().all(|it| it.who.chars().count() <= LONGEST));
    }

    #[test]
    fn each_resource_has_its_own_count() {
        for (at, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource as usize, at, "{resource:?}");
        }
    }
}
