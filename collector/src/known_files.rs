//! How many log files, and directories that are looked through for them, are known at once: a bound for all, a share for
//! each tenant, and a reserve for those who have few.
//!
//! What is known of a file takes memory as long as the file is there, read or not, and whoever may create files decides how
//! many there are. So each has a place, counted by tenant, from the moment it is known until it is forgotten. A file
//! that finds no place is not known: it waits on disk until its tenant has one for it.

use std::sync::{
    Arc, LazyLock, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::tenants::{Tenant, Tenants};

/// A tenant has this part of all places.
const PART: u64 = 4;
/// The last places of all, this part, are for tenants that have few.
const RESERVE: u64 = 8;
/// Few are so many times fewer than there are places.
const FEW: u64 = 64;
/// Former and further files of logs that are known may take a tenant beyond its share by this part of it: a log's files
/// are read in their order.
const MORE: u64 = 4;
/// A longer path takes a further place for each beginning piece of this length.
const LONG: usize = 512;

static ALL: LazyLock<Places> = LazyLock::new(Places::default);
static WAITING: Mutex<Vec<Waits>> = Mutex::new(Vec::new());
static MOST: AtomicU64 = AtomicU64::new(u64::MAX);

/// What asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A log of which nothing is known, or a directory.
    New,
    /// A further file of a known log.
    Further,
}

/// What waits of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waits {
    /// Whose.
    pub tenant: Arc<str>,
    /// Files that were seen and are not collected yet.
    pub files: u64,
    /// What they held when they were seen first, at least.
    pub bytes: u64,
    /// Directories that are not looked through.
    pub directories: u64,
}

/// A file or directory is known. Given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    tenant: Tenant,
    places: u32,
}

/// So many places are there from now on. Who has one keeps it.
pub fn share_out(most: u64) {
    MOST.store(most, Ordering::Relaxed);
}

/// How many places there are.
pub fn most() -> u64 {
    MOST.load(Ordering::Relaxed)
}

/// How many of them a tenant may have.
pub fn share() -> u64 {
    most().div_ceil(PART)
}

/// How many are taken.
pub fn taken() -> u64 {
    ALL.taken.load(Ordering::Relaxed)
}

/// Whether a tenant finds so many places.
pub fn has_room(tenant: &str, wanted: Wanted, places: u64) -> bool {
    ALL.has_room(tenant, wanted, places.saturating_sub(1), most())
}

/// What waits for places by now, by tenant.
pub fn note_waiting(all: Vec<Waits>) {
    *WAITING.lock().unwrap_or_else(PoisonError::into_inner) = all;
}

/// What waits for places, by tenant; most first.
pub fn waiting() -> Vec<Waits> {
    let mut all = WAITING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    all.sort_by(|a, b| b.files.cmp(&a.files).then_with(|| a.tenant.cmp(&b.tenant)));
    all
}

/// A place for something of a tenant whose path has this length. Whether there is one, [`has_room`] says: what is known
/// from before has one in any case.
pub fn enter(tenant: &Arc<str>, length: usize) -> Place {
    ALL.enter(tenant, length)
}

impl Place {
    /// Whose it is.
    pub fn tenant(&self) -> &Arc<str> {
        self.tenant.name()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tenant.give_back(u64::from(self.places));
        ALL.taken.fetch_sub(u64::from(self.places), Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Places {
    taken: AtomicU64,
    tenants: Tenants,
}

impl Places {
    /// `more`: places that are as good as taken.
    fn has_room(&self, tenant: &str, wanted: Wanted, more: u64, most: u64) -> bool {
        let his = self.tenants.has(tenant);
        let taken = self.taken.load(Ordering::Relaxed);
        admits(his.saturating_add(more), taken.saturating_add(more), wanted, most)
    }

    fn enter(&self, name: &Arc<str>, length: usize) -> Place {
        let places = 1 + (length.saturating_sub(1) / LONG) as u32;
        let tenant = self.tenants.give(name, u64::from(places));
        self.taken.fetch_add(u64::from(places), Ordering::Relaxed);
        Place { tenant, places }
    }
}

fn admits(his: u64, taken: u64, wanted: Wanted, most: u64) -> bool {
    let share = most.div_ceil(PART);
    let few = most.div_ceil(FEW);
    let more = match wanted {
        Wanted::New => 0,
        Wanted::Further => share.div_ceil(MORE),
    };
    let reserve = if his < few { 0 } else { most / RESERVE };
    his < share.saturating_add(more) && taken < (most - reserve).saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_share_and_others_have_the_rest() {
        assert!(admits(249, 249, Wanted::New, 1_000));
        assert!(!admits(250, 250, Wanted::New, 1_000), "it has its share");
        assert!(admits(250, 250, Wanted::Further, 1_000), "its logs go on");
        assert!(!admits(313, 313, Wanted::Further, 1_000), "not without end");
        assert!(admits(100, 874, Wanted::New, 1_000));
        assert!(!admits(100, 875, Wanted::New, 1_000), "the rest is for those who have few");
        assert!(admits(15, 999, Wanted::New, 1_000));
        assert!(!admits(0, 1_000, Wanted::New, 1_000), "all are taken");
        assert!(admits(0, 0, Wanted::New, 1), "one is enough for one");
        assert!(admits(1 << 40, 1 << 50, Wanted::New, u64::MAX), "there is no bound");
    }

    #[test]
    fn what_is_forgotten_gives_its_place_back_and_long_paths_take_several() {
        let name = Arc::from("a_tenant_of_this_test");
        let kept = [1, 512, 513, 4_096].map(|length| enter(&name, length));
        assert_eq!(ALL.tenants.has(&name), 1 + 1 + 2 + 8);
        drop(kept);
        assert_eq!(ALL.tenants.has(&name), 0);
    }
}
