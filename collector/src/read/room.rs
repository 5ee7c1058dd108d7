//! Room on disk for compressed files that are being unpacked: how much all of them may take, and each tenant.
//!
//! Whoever reads a compressed file takes room for the piece that it is at, and gives it back. A tenant who has
//! his share, or comes when all is taken, waits; a room that nobody has used for a while, or whose file is read to
//! its end, is taken away for him, and whoever had it unpacks again. So a sink that is down keeps no room.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use crate::held_back::{self, Resource};

/// A room that nobody used for so long can be taken away.
const IDLE: Duration = Duration::from_secs(10);
/// The same where its reader waits for a sink: one that works makes it wait for moments only.
const STALLED: Duration = Duration::from_secs(1);
/// A tenant has at most this part of all.
const PART: u64 = 4;

static ROOMS: LazyLock<Rooms> = LazyLock::new(|| Rooms::new(64 << 20));

/// How the room is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Bytes for all.
    pub total: u64,
    /// Bytes for one tenant.
    pub share: u64,
    /// Bytes taken.
    pub used: u64,
}

/// Says how many bytes all files that are being unpacked may take.
pub fn share_out(total: u64) {
    ROOMS.lock().total = total;
}

/// How it is shared out now.
pub fn shares() -> Shares {
    let table = ROOMS.lock();
    Shares { total: table.total, share: table.share(), used: table.used() }
}

/// Takes room for a tenant in an unlinked file in `directory`. None: he has to wait.
///
/// # Errors
/// The file cannot be made.
pub(super) fn take(tenant: &Arc<str>, bytes: u64, directory: &Path) -> io::Result<Option<Room>> {
    ROOMS.take(tenant, bytes, directory, Instant::now())
}

#[derive(Debug)]
struct Rooms(Mutex<Table>);

#[derive(Debug)]
struct Table {
    total: u64,
    began: Instant,
    taken: Vec<Arc<Taken>>,
}

#[derive(Debug)]
struct Taken {
    tenant: Arc<str>,
    bytes: u64,
    /// None: it was taken away.
    file: Mutex<Option<Arc<File>>>,
    /// Milliseconds since the table began.
    used: AtomicU64,
    /// Its file is read to its end.
    done: AtomicBool,
    /// Its reader waits for a sink.
    waits: AtomicBool,
}

/// Room for a piece of one file. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    taken: Arc<Taken>,
    began: Instant,
}

impl Rooms {
    fn new(total: u64) -> Self {
        Self(Mutex::new(Table { total, began: Instant::now(), taken: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(
        &self,
        tenant: &Arc<str>,
        bytes: u64,
        directory: &Path,
        now: Instant,
    ) -> io::Result<Option<Room>> {
        let mut table = self.lock();
        table.taken.retain(|taken| Arc::strong_count(taken) > 1);
        // One file each, however small the share is.
        let full = |table: &Table| {
            let his: u64 = table.of(tenant).map(|taken| taken.bytes).sum();
            (his > 0 && his + bytes > table.share(), table.used() + bytes > table.total)
        };
        loop {
            match full(&table) {
                (false, false) => break,
                (true, _) if table.give_up(now, |taken| taken.tenant == *tenant) => {}
                (false, true) if table.give_up(now, |_| true) => {}
                // The rest is small, or somebody has all of it: one file at a time goes on.
                (false, true) if table.taken.is_empty() => break,
                (true, _) | (false, true) => {
                    held_back::note(Resource::Unpacking, tenant);
                    return Ok(None);
                }
            }
        }
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(directory, flags, 0o600.into())?);
        let taken = Arc::new(Taken {
            tenant: Arc::clone(tenant),
            bytes,
            file: Mutex::new(Some(Arc::new(file))),
            used: AtomicU64::new(table.millis(now)),
            done: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        });
        table.taken.push(Arc::clone(&taken));
        Ok(Some(Room { taken, began: table.began }))
    }
}

impl Table {
    fn share(&self) -> u64 {
        self.total / PART
    }

    fn used(&self) -> u64 {
        self.taken.iter().map(|taken| taken.bytes).sum()
    }

    fn of(&self, tenant: &Arc<str>) -> impl Iterator<Item = &Arc<Taken>> {
        self.taken.iter().filter(move |taken| taken.tenant == *tenant)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes away the room, of those meant, that was not used for longest. False: all are in use.
    fn give_up(&mut self, now: Instant, meant: impl Fn(&Taken) -> bool) -> bool {
        let now = self.millis(now);
        let all = self.taken.iter().enumerate();
        let gone = all.filter(|(_, taken)| meant(taken) && taken.can_go(now));
        let Some(at) = gone.max_by_key(|(_, taken)| taken.idle(now)).map(|(at, _)| at) else {
            return false;
        };
        let taken = self.taken.swap_remove(at);
        *taken.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        true
    }
}

impl Taken {
    fn idle(&self, now: u64) -> u64 {
        now.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn can_go(&self, now: u64) -> bool {
        let patience = if self.waits.load(Ordering::Relaxed) { STALLED } else { IDLE };
        self.done.load(Ordering::Relaxed) || u128::from(self.idle(now)) >= patience.as_millis()
    }
}

impl Room {
    /// The file, to be used now. None: the room was taken away.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.taken.used.store(now, Ordering::Relaxed);
        self.taken.waits.store(false, Ordering::Relaxed);
        self.taken.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has another file in its place, for tests of writes that fail.
    #[cfg(test)]
    pub(super) fn replace_file(&self, file: File) -> Option<Arc<File>> {
        let mut held = self.taken.file.lock().unwrap_or_else(PoisonError::into_inner);
        held.replace(Arc::new(file))
    }

    /// Whether it was not taken away.
    pub(super) fn is_there(&self) -> bool {
        self.taken.file.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> u64 {
        self.taken.bytes
    }

    /// Whether it may be taken away.
    pub(super) fn can_go(&self) -> bool {
        self.taken.can_go(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Its reader waits for a sink.
    pub(super) fn wait(&self) {
        self.taken.waits.store(true, Ordering::Relaxed);
    }

    /// Whether its file is read to its end, so that it will hardly be needed.
    pub(super) fn set_done(&self, done: bool) {
        self.taken.done.store(done, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_tenant_has_his_share_and_others_have_theirs() {
        let (rooms, dir) = (Rooms::new(16), tempfile::tempdir().unwrap());
        let now = Instant::now();
        let take = |name: &str, now| rooms.take(&tenant(name), 2, dir.path(), now).unwrap();
        let loud: Vec<_> = (0..2).map(|_| take("loud", now).unwrap()).collect();
        assert!(take("loud", now).is_none(), "a quarter is his");
        let others: Vec<_> = (0..6).map(|n| take(&n.to_string(), now).unwrap()).collect();
        assert!(take("late", now).is_none(), "all is taken");
        drop(others);
        assert!(take("late", now).is_some());
        assert!(take("loud", now).is_none());
        drop(loud);
        assert!(take("loud", now).is_some());
    }

    #[test]
    fn what_nobody_uses_or_needs_is_taken_away() {
        let (rooms, dir) = (Rooms::new(8), tempfile::tempdir().unwrap());
        let now = Instant::now();
        let take = |name: &str, now| rooms.take(&tenant(name), 2, dir.path(), now).unwrap();
        let first = take("a", now).unwrap();
        assert!(take("a", now).is_none());
        first.set_done(true);
        let second = take("a", now).unwrap();
        assert!(first.file().is_none() && second.file().is_some());
        let others: Vec<_> = ["b", "c", "d"].iter().map(|name| take(name, now).unwrap()).collect();
        assert!(take("e", now).is_none());
        let late = take("e", now + IDLE + Duration::from_secs(1)).unwrap();
        let gone = [&second].into_iter().chain(&others).filter(|room| room.file().is_none());
        assert_eq!(gone.count(), 1);
        assert!(late.file().is_some());
    }

    #[test]
    fn one_file_goes_on_however_small_the_room_is() {
        let (rooms, dir) = (Rooms::new(1), tempfile::tempdir().unwrap());
        let now = Instant::now();
        let only = rooms.take(&tenant("a"), 2, dir.path(), now).unwrap().unwrap();
        assert!(rooms.take(&tenant("b"), 2, dir.path(), now).unwrap().is_none());
        drop(only);
        assert!(rooms.take(&tenant("b"), 2, dir.path(), now).unwrap().is_some());
    }
}
