//! Messages of the agent's log that others can cause: how often each is said, and how many were not.
//!
//! A tenant can create, truncate, delete and damage files without end, and a server can refuse without end. So
//! every message about what they do asks here first. Of each kind a few are said about a directory in a
//! minute, and some more about all. The next one that is said, or a line of its own, tells how many were not.
//! What is held here is bounded, whoever makes up names. What is lost is booked in any case: `audit` has all of it.

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    held_back::{self, Resource},
    reason::Reason,
};

/// Messages are counted in spans of this length.
const SPAN: Duration = Duration::from_secs(60);
/// Messages of a kind about one directory in a span.
const OF_ONE: u32 = 3;
/// Messages of a kind about all directories in a span.
const OF_ALL: u32 = 20;
/// Directories that are remembered. What is not has no share of its own.
const MOST: usize = 1_024;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes were lost.
    Lost,
    /// A file was truncated.
    Truncated,
    /// A compressed file is damaged.
    Damaged,
    /// A file cannot be read.
    Unreadable,
    /// A directory or file is not as it should be.
    Problem,
    /// Descriptors are short, or no more.
    Shortage,
    /// Files wait until others of their tenant are gone.
    Waiting,
    /// A file was found under another name.
    Found,
    /// A log is no longer collected, or is the agent's own.
    LeftOut,
    /// The format of a log cannot change now.
    Format,
    /// What was written can no longer be kept.
    Removed,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Lost,
        Self::Truncated,
        Self::Damaged,
        Self::Unreadable,
        Self::Problem,
        Self::Shortage,
        Self::Waiting,
        Self::Found,
        Self::LeftOut,
        Self::Format,
        Self::Removed,
    ];

    const fn about(self) -> &'static str {
        match self {
            Self::Lost => "bytes that were lost",
            Self::Truncated => "files that were truncated",
            Self::Damaged => "compressed files that are damaged",
            Self::Unreadable => "files that cannot be read",
            Self::Problem => "files and directories that are not as they should be",
            Self::Shortage => "descriptors that are short",
            Self::Waiting => "files that wait until others are gone",
            Self::Found => "files that were found under another name",
            Self::LeftOut => "logs that are not collected",
            Self::Format => "logs whose format cannot change now",
            Self::Removed => "segments of the archive that were removed",
        }
    }
}

/// How often one thing is said.
#[derive(Debug, Default, Clone, Copy)]
pub struct Limit {
    /// When the span began.
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Limit {
    /// Some: say it, and that so many were not said since it was last said. At most `most` in a `span`.
    pub fn admit(&mut self, now: Instant, (most, span): (u32, Duration)) -> Option<u64> {
        if self.is_over(now, span) {
            (self.began, self.said) = (Some(now), 0);
        }
        if self.said >= most {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }

    fn is_over(&self, now: Instant, span: Duration) -> bool {
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= span)
    }
}

/// How many messages of a kind were not said. Shown, it is the end of the message that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsaid {
    /// About the same directory.
    here: u64,
    /// About others.
    elsewhere: u64,
}

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { here: 0, elsewhere: 0 } => Ok(()),
            Self { here, elsewhere: 0 } => {
                write!(f, " {here} more like it in this directory since this was last said.")
            }
            Self { here: 0, elsewhere } => {
                write!(
                    f,
                    " {elsewhere} more like it in other directories since this was last said."
                )
            }
            Self { here, elsewhere } => write!(
                f,
                " {here} more like it in this directory, {elsewhere} in others, since this was last said."
            ),
        }
    }
}

static ALL: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// Whether a message of this kind about the file or directory at `path` is to be said. Some: with this at
/// its end.
pub fn admit(kind: Kind, path: &Path) -> Option<Unsaid> {
    let directory = path.parent().unwrap_or(path);
    let admitted = lock(&ALL).admit(kind, directory, Instant::now());
    if admitted.is_none() {
        held_back::note(Resource::Messages, &directory.to_string_lossy());
    }
    admitted
}

/// Says that bytes of a file are lost. They are booked whether it is said or not.
pub fn say_lost(path: &Path, reason: Reason, bytes: u64) {
    if let Some(unsaid) = admit(Kind::Lost, path) {
        tracing::error!(path = %path.display(), bytes, %reason, "Bytes of a log file were lost before they could be read.{unsaid}");
    }
}

/// Tells, of kinds of which nothing was said for a while, how many messages were not. To be called now and
/// then, and at the end (`all`: also of what was said just now).
pub fn tell_unsaid(all: bool) {
    let unsaid = lock(&ALL).take_unsaid(Instant::now(), all);
    for (kind, count) in unsaid {
        tracing::warn!(
            count,
            "Messages about {} were not said one by one, because there were too many.",
            kind.about()
        );
    }
}

fn lock(table: &Mutex<Table>) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Table {
    /// By kind and hash of the directory: its text would take more than all the rest.
    one: HashMap<(Kind, u64), Limit>,
    all: [Limit; Kind::ALL.len()],
    hasher: foldhash::fast::RandomState,
}

impl Table {
    fn admit(&mut self, kind: Kind, directory: &Path, now: Instant) -> Option<Unsaid> {
        let key = (kind, self.hasher.hash_one(directory));
        if self.one.len() >= MOST && !self.one.contains_key(&key) {
            self.forget(now);
        }
        let all = &mut self.all[kind as usize];
        let known = self.one.len() < MOST || self.one.contains_key(&key);
        let mut none_of_its_own = Limit::default();
        let one = if known { self.one.entry(key).or_default() } else { &mut none_of_its_own };
        let before = *one;
        let here = one.admit(now, (OF_ONE, SPAN))?;
        let Some(elsewhere) = all.admit(now, (OF_ALL, SPAN)) else {
            // Its own limit has room left for it.
            *one = before;
            return None;
        };
        Some(Unsaid { here, elsewhere })
    }

    /// Directories of which nothing was to be said lately are forgotten; their counts are not.
    fn forget(&mut self, now: Instant) {
        let all = &mut self.all;
        self.one.retain(|(kind, _), limit| {
            let over = limit.is_over(now, SPAN);
            if over {
                all[*kind as usize].unsaid += limit.unsaid;
            }
            !over
        });
    }

    fn take_unsaid(&mut self, now: Instant, all: bool) -> Vec<(Kind, u64)> {
        self.forget(if all { now + SPAN } else { now });
        let due = |kind: &Kind| {
            let limit = &mut self.all[*kind as usize];
            let due = limit.unsaid > 0 && (all || limit.is_over(now, SPAN));
            due.then(|| (*kind, std::mem::take(&mut limit.unsaid)))
        };
        Kind::ALL.iter().filter_map(due).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_storm_is_a_few_messages_and_the_number_of_the_others() {
        let mut table = Table::default();
        let start = Instant::now();
        let (loud, quiet) = (Path::new("/pods/loud"), Path::new("/pods/quiet"));
        let said = (0..100_000).filter_map(|_| table.admit(Kind::Lost, loud, start)).count();
        assert_eq!(said, OF_ONE as usize);
        let nothing = Unsaid { here: 0, elsewhere: 0 };
        assert_eq!(table.admit(Kind::Lost, quiet, start), Some(nothing), "it has its own share");
        assert_eq!(table.admit(Kind::Truncated, loud, start), Some(nothing), "another kind");
        let later = table.admit(Kind::Lost, loud, start + SPAN).unwrap();
        assert_eq!(later, Unsaid { here: 100_000 - u64::from(OF_ONE), elsewhere: 0 });
        assert!(later.to_string().contains(" 99997 more like it in this directory since"));
    }

    #[test]
    fn directories_without_end_are_bounded_too() {
        let mut table = Table::default();
        let start = Instant::now();
        let directory = |n: u32| format!("/pods/{n}").into();
        let directories: Vec<std::path::PathBuf> = (0..5_000).map(directory).collect();
        let said = directories.iter().filter_map(|it| table.admit(Kind::Found, it, start)).count();
        assert_eq!(said, OF_ALL as usize);
        assert!(table.one.len() <= MOST);
        assert_eq!(table.take_unsaid(start, false), [], "it may still be told with the next one");
        let told = table.take_unsaid(start + SPAN, false);
        assert_eq!(told, [(Kind::Found, 5_000 - u64::from(OF_ALL))]);
        assert_eq!(table.take_unsaid(start + SPAN, true), []);
        assert!(table.one.is_empty(), "nothing is kept of what is quiet");
    }

    proptest! {
        /// Said and counted are all that there was, whoever causes it when.
        #[test]
        fn nothing_is_left_uncounted(events in prop::collection::vec((0..20_u64, 0..3_usize, 0..40_u8), 0..300)) {
            let mut table = Table::default();
            let mut now = Instant::now();
            let (mut said, mut counted) = (0, 0);
            for (pause, kind, directory) in &events {
                now += Duration::from_secs(*pause);
                let directory = format!("/{directory}");
                if let Some(unsaid) = table.admit(Kind::ALL[*kind], Path::new(&directory), now) {
                    said += 1;
                    counted += unsaid.here + unsaid.elsewhere;
                }
                if *pause > 15 {
                    counted += table.take_unsaid(now, false).iter().map(|(_, n)| n).sum::<u64>();
                }
            }
            counted += table.take_unsaid(now, true).iter().map(|(_, n)| n).sum::<u64>();
            prop_assert_eq!(said + counted, events.len() as u64);
        }
    }

    #[test]
    fn each_kind_has_its_own_limit() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind:?}");
        }
    }
}
