//! Who may keep log files open: a permit for each, counted by tenant.
//!
//! A tenant that has more than its share of the descriptors gets one only outside of a reserve that is for
//! the others. So the files of one that has thousands take turns among themselves, and those of the others stay
//! open. What numbers log files may take at all is said in `descriptors`.

use std::{
    os::fd::AsRawFd,
    sync::{Arc, LazyLock},
};

use crate::{
    descriptors,
    held_back::{self, Resource},
    tenants::{Tenant, Tenants},
};

/// A tenant's share is this part of the descriptors for log files, and so many at least.
const PART: u64 = 8;
const AT_LEAST: u64 = 8;
/// The reserve for those within their share is this part. Who comes finds room in it at once; for more, idle
/// files of those beyond their share are closed.
const RESERVE: u64 = 16;

static ALL: LazyLock<Permits> = LazyLock::new(Permits::default);

/// A log file of a tenant may stay open. Given back when it is dropped.
#[derive(Debug)]
pub struct Permit(Tenant);

/// How many of `files` descriptors are a tenant's share, or a source's.
pub fn share(files: u64) -> u64 {
    (files / PART).max(AT_LEAST)
}

/// A permit for an open file of a tenant. None: it found no room, and is closed after its visit.
pub fn permit(tenant: Arc<str>, file: &impl AsRawFd) -> Option<Permit> {
    let numbers = (descriptors::for_files(), descriptors::for_permitted());
    let given = ALL.give(&tenant, file.as_raw_fd() as u64, numbers);
    given
        .inspect_err(|over| {
            if *over {
                held_back::note(Resource::Descriptors, &tenant);
            }
        })
        .ok()
}

/// Whether a tenant has more than its share.
pub fn is_over(tenant: &str) -> bool {
    ALL.0.has(tenant) > share(descriptors::for_files())
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

/// How many permits each tenant has.
#[derive(Debug, Default)]
struct Permits(Tenants);

impl Permits {
    /// A permit for a descriptor of this number; an error says whether it is refused to one that has his share.
    /// `files`: numbers that log files may have; `most`: the same for a tenant within its share.
    fn give(
        &self,
        name: &Arc<str>,
        number: u64,
        (files, most): (u64, u64),
    ) -> Result<Permit, bool> {
        let given = self.0.give_if(name, 1, |has| {
            let has_share = has >= share(files);
            let reserve = (files / RESERVE).max(1).min(files);
            let bound = if has_share { files - reserve } else { most };
            if number < bound { Ok(()) } else { Err(has_share) }
        });
        given.map(Permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_beyond_its_share_leaves_the_reserve_to_others() {
        let (permits, files) = (Permits::default(), (800, 850));
        let (loud, quiet) = (Arc::from("loud"), Arc::from("quiet"));
        let taken: Vec<_> = (0..750).map(|number| permits.give(&loud, number, files)).collect();
        assert!(taken.iter().all(Result::is_ok), "nobody else wants them");
        assert_eq!(permits.give(&loud, 750, files).err(), Some(true), "this one is the others'");
        let others: Vec<_> = (750..850).map(|number| permits.give(&quiet, number, files)).collect();
        assert!(
            others.iter().all(Result::is_ok),
            "within their share, and the agent has some of these"
        );
        assert_eq!(permits.give(&quiet, 799, files).err(), Some(true), "it has its share by now");
        assert!(permits.give(&Arc::from("third"), 849, files).is_ok());
        assert_eq!(permits.give(&Arc::from("third"), 850, files).err(), Some(false));
        drop(taken);
        let again: Vec<_> = (700..800).map(|number| permits.give(&loud, number, files)).collect();
        assert!(again.iter().all(Result::is_ok), "within its share it has the reserve too");
    }

    #[test]
    fn a_tenant_has_some_however_few_there_are() {
        let (permits, tenant) = (Permits::default(), Arc::from("a"));
        let given: Vec<_> = (0..8).map(|number| permits.give(&tenant, number, (8, 8))).collect();
        assert!(given.iter().all(Result::is_ok));
        assert!(permits.give(&tenant, 7, (8, 8)).is_err());
    }
}
