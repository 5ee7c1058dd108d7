//! Looking instead of being told: what a file or directory looks like, and when to look again.
//!
//! Holds no tokens' meaning and makes no events; `combined` asks it and draws conclusions.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    hash::BuildHasher,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use foldhash::fast::FixedState;

use crate::identity::beneath;

/// A quiet file is looked at at least so often (or at the poll interval, if that is longer).
const SLOWEST: Duration = Duration::from_secs(1);

/// A directory's time stamp is no proof while it is younger than this: the kernel's clock for it
/// ticks in up to 10 ms, and two changes in one tick leave the same stamp.
const SETTLED: Duration = Duration::from_millis(100);

/// Every so many looks a directory is read through whatever its time stamp says.
const THOROUGH: u32 = 16;

/// As many entries share a moment, so that few entries wake nobody often and many do not come at
/// once.
const GROUP: u64 = 256;

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    size: u64,
    inode: u64,
    /// A hash of when it was modified and changed.
    times: u64,
}

/// Nanoseconds since the epoch, for comparing: some centuries from now it begins anew.
type Stamp = i64;

impl FileState {
    /// Now; `None` if the kernel does not say (a network filesystem that went away).
    pub(super) fn of(file: &File) -> Option<Self> {
        Some(Self::from(&file.metadata().ok()?))
    }

    /// The same of a file that nobody holds open, by its path; `None` if that leads to none.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let about = fs::symlink_metadata(path).ok()?;
        about.is_file().then(|| Self::from(&about))
    }

    /// Whether both are of one file.
    pub(super) fn is_same_file(self, other: Self) -> bool {
        self.inode == other.inode
    }

    /// The file's length in bytes, as last seen.
    pub(super) fn size(self) -> u64 {
        self.size
    }

    fn from(about: &Metadata) -> Self {
        let modified = stamp(about.mtime(), about.mtime_nsec());
        let changed = stamp(about.ctime(), about.ctime_nsec());
        let times = FixedState::with_seed(0).hash_one((modified, changed));
        Self { size: about.size(), inode: about.ino(), times }
    }
}

/// What a directory looked like: itself, and its entries, as hashes.
#[derive(Debug, Clone, Default)]
pub(super) struct DirectoryState {
    seen: Option<Seen>,
    looks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Of device and inode.
    identity: u64,
    modified: Stamp,
    /// Of the entries' names and inodes.
    entries: u64,
    /// Whether the stamp was old enough when the entries were read to stand for them.
    settled: bool,
    /// It has gone since.
    gone: bool,
}

impl DirectoryState {
    /// Looks; true if anything is different from the last time. `thorough`: reads the entries
    /// even where the time stamp says that nothing changed (it comes from another machine).
    pub(super) fn look(&mut self, path: &Path, thorough: bool) -> bool {
        self.looks = self.looks.wrapping_add(1);
        let thorough = thorough || self.looks.is_multiple_of(THOROUGH);
        // Only whether something changed is asked here; where a link leads is not. What is there is listed
        // without one.
        let Some(about) = fs::symlink_metadata(path).ok().filter(Metadata::is_dir) else {
            return self.seen.as_mut().is_some_and(|seen| !std::mem::replace(&mut seen.gone, true));
        };
        let same = self.seen.is_some_and(|seen| {
            (seen.identity, seen.modified, seen.gone) == (identity(&about), modified(&about), false)
        });
        if let (true, false, Some(Seen { settled: true, .. })) = (same, thorough, &self.seen) {
            return false;
        }
        // The stamp was taken before the entries are read: a change in between looks unsettled.
        let settled = is_settled(&about);
        let now = Seen {
            identity: identity(&about),
            modified: modified(&about),
            entries: entries(path),
            settled,
            gone: false,
        };
        let before = self.seen.replace(now);
        before.is_none_or(|before| {
            (before.identity, before.entries, before.gone) != (now.identity, now.entries, false)
        })
    }

    /// Which directory it was when it was last there.
    pub(super) fn identity(&self) -> Option<u64> {
        self.seen.map(|seen| seen.identity)
    }

    /// Whether it was there at the last look.
    pub(super) fn exists(&self) -> bool {
        self.seen.is_some_and(|seen| !seen.gone)
    }
}

fn identity(about: &Metadata) -> u64 {
    FixedState::with_seed(0).hash_one((about.dev(), about.ino()))
}

fn modified(about: &Metadata) -> Stamp {
    stamp(about.mtime(), about.mtime_nsec())
}

fn stamp(seconds: i64, nanos: i64) -> Stamp {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

fn is_settled(about: &Metadata) -> bool {
    let (seconds, nanos) = (about.mtime(), about.mtime_nsec());
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        return false;
    };
    now.checked_sub(Duration::new(seconds, nanos)).is_some_and(|age| age > SETTLED)
}

/// A sum over the entries, whatever their order.
fn entries(path: &Path) -> u64 {
    let Ok(listing) = beneath::entries(path) else { return 0 };
    let hash = FixedState::with_seed(0);
    // `..` is another directory's affair.
    let own = listing.flatten().filter(|entry| entry.file_name() != c"..");
    own.fold(1, |sum, entry| {
        sum.wrapping_add(hash.hash_one((entry.file_name().to_bytes(), entry.ino())))
    })
}

/// How long until something polled is looked at again: an eighth of the time that it has been
/// quiet, at least `interval`, at most [`SLOWEST`]. So a busy file is looked at every `interval`,
/// and ten thousand quiet ones cost ten thousand `fstat` a second, not forty thousand.
pub(super) fn pause(quiet: Duration, interval: Duration) -> Duration {
    (quiet / 8).clamp(interval, SLOWEST.max(interval))
}

/// What to look at when, in ticks.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    begun: Instant,
    tick: Duration,
    buckets: BTreeMap<u64, Vec<K>>,
    admitted: u64,
}

impl<K> Schedule<K> {
    /// An empty one. Looks happen at multiples of `tick` after now.
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            begun: Instant::now(),
            tick: tick.max(Duration::from_millis(1)),
            buckets: BTreeMap::new(),
            admitted: 0,
        }
    }

    /// Puts a newcomer in: within `interval`, at a moment that it shares with some others.
    pub(super) fn admit(&mut self, key: K, now: Instant, interval: Duration) {
        let interval = self.ticks(interval);
        let phase = (self.admitted / GROUP) % interval;
        self.admitted += 1;
        // The next tick that is in this phase of the interval.
        let next = self.at(now) + 1;
        let due = next + (phase + interval - next % interval) % interval;
        self.buckets.entry(due).or_default().push(key);
    }

    /// Puts something in again that was just looked at.
    pub(super) fn again(&mut self, key: K, now: Instant, interval: Duration) {
        let due = self.at(now) + self.ticks(interval);
        self.buckets.entry(due).or_default().push(key);
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let (tick, _) = self.buckets.first_key_value()?;
        Some(self.begun + self.tick * u32::try_from(*tick).unwrap_or(u32::MAX))
    }

    /// Takes out what is due by now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<K>> {
        let first = self.buckets.first_entry()?;
        let passed = now.duration_since(self.begun).as_nanos() / self.tick.as_nanos();
        (u128::from(*first.key()) <= passed).then(|| first.remove())
    }

    fn ticks(&self, interval: Duration) -> u64 {
        u64::try_from(interval.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(u64::MAX).max(1)
    }

    fn at(&self, now: Instant) -> u64 {
        let passed = now.duration_since(self.begun).as_nanos() / self.tick.as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_files_are_looked_at_less_often_but_at_least_every_second() {
        let interval = Duration::from_millis(250);
        assert_eq!(pause(Duration::ZERO, interval), interval);
        assert_eq!(pause(Duration::from_secs(4), interval), Duration::from_millis(500));
        assert_eq!(pause(Duration::from_secs(3_600), interval), SLOWEST);
        let slow = Duration::from_secs(3);
        assert_eq!(pause(Duration::from_secs(3_600), slow), slow);
    }

    #[test]
    fn many_newcomers_are_spread_over_the_interval_and_few_are_not() {
        let interval = Duration::from_secs(5);
        let mut schedule = Schedule::new(Duration::from_millis(50));
        let now = schedule.begun;
        (0..10).for_each(|key| schedule.admit(key, now, interval));
        assert_eq!(schedule.buckets.len(), 1);
        (10..10_000).for_each(|key| schedule.admit(key, now, interval));
        assert_eq!(schedule.buckets.len(), 10_000_usize.div_ceil(GROUP as usize));
        assert!(schedule.buckets.values().all(|bucket| bucket.len() <= GROUP as usize));
        let mut seen = Vec::new();
        while let Some(keys) = schedule.due(now + interval + Duration::from_millis(50)) {
            seen.extend(keys);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..10_000));
    }

    #[test]
    fn nothing_is_due_early() {
        let mut schedule = Schedule::new(Duration::from_millis(10));
        let now = schedule.begun;
        schedule.again("a", now, Duration::from_millis(25));
        assert_eq!(schedule.next(), Some(now + Duration::from_millis(30)));
        assert_eq!(schedule.due(now + Duration::from_millis(29)), None);
        assert_eq!(schedule.due(now + Duration::from_millis(30)), Some(vec!["a"]));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_directory_looks_different_after_each_kind_of_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        let mut state = DirectoryState::default();
        assert!(!state.look(&path, false), "still missing");
        fs::create_dir(&path).unwrap();
        assert!(state.look(&path, false), "appeared");
        assert!(!state.look(&path, false));
        fs::write(path.join("a"), "").unwrap();
        assert!(state.look(&path, false), "created");
        fs::rename(path.join("a"), path.join("b")).unwrap();
        assert!(state.look(&path, false), "renamed");
        let kept = File::open(path.join("b")).unwrap();
        fs::remove_file(path.join("b")).unwrap();
        fs::write(path.join("b"), "").unwrap();
        assert!(state.look(&path, false), "replaced under the same name");
        drop(kept);
        assert!(!state.look(&path, true));
        fs::remove_dir_all(&path).unwrap();
        assert!(state.look(&path, false), "removed");
        assert!(!state.exists() && !state.look(&path, false));
        let former = state.identity();
        fs::create_dir(dir.path().join("other")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(state.look(&path, false), "another one came");
        assert!(state.exists() && former.is_some());
    }

    #[test]
    fn a_settled_stamp_spares_reading_the_entries() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = DirectoryState::default();
        std::thread::sleep(SETTLED + Duration::from_millis(50));
        state.look(dir.path(), false);
        assert!(state.seen.unwrap().settled);
        let times = fs::FileTimes::new()
            .set_modified(fs::metadata(dir.path()).unwrap().modified().unwrap());
        fs::write(dir.path().join("hidden by a forged stamp"), "").unwrap();
        File::open(dir.path()).unwrap().set_times(times).unwrap();
        assert!(!state.look(dir.path(), false), "trusted the stamp");
        assert!(state.look(dir.path(), true), "did not when told to be thorough");
    }
}
