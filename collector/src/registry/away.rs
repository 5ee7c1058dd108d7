//! Files whose filesystem is not mounted where they lay: they are neither deleted nor lost, and come back
//! with it. An agent may be started before a disk is mounted, and a disk mounted anew while it runs.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use super::Registry;
use crate::identity::{self, FileId};

/// What the checkpoint knows from before the start is waited for so long: after a reboot the same device may
/// have another number.
const AFTER_START: Duration = Duration::from_secs(600);
/// What went while the agent ran is kept so long: a volume may have gone for good, to another node.
const WHILE_RUNNING: Duration = Duration::from_secs(24 * 3_600);

/// Files that are away.
#[derive(Default)]
pub(super) struct Away {
    /// When they are waited for no longer.
    until: RefCell<HashMap<FileId, Instant>>,
}

impl Away {
    /// Forgets those that are back, or given up, for long.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        self.until.borrow_mut().retain(|_, until| *until + WHILE_RUNNING > now);
    }
}

impl Registry {
    /// Whether a file that is not there is away with its filesystem, which had this device number.
    pub(super) fn is_away(&self, id: FileId, device: u64, path: &Path) -> bool {
        let mut known = self.away.until.borrow_mut();
        if !lies_elsewhere(device, path) {
            known.remove(&id);
            return false;
        }
        let now = Instant::now();
        let wait = if self.complete { WHILE_RUNNING } else { AFTER_START };
        *known.entry(id).or_insert(now + wait) > now
    }
}

/// Whether a path leads, as far as it does, into another filesystem than the one with this number.
fn lies_elsewhere(device: u64, path: &Path) -> bool {
    // Those without a block device keep nothing when they are unmounted, or get another number by it.
    if rustix::fs::major(device) == 0 {
        return false;
    }
    let there = path.ancestors().skip(1).find_map(|it| identity::look_at(it).ok());
    there.is_some_and(|there| there.key.device != device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_to_another_filesystem_or_none_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let device = identity::look_at(dir.path()).unwrap().key.device;
        let gone = dir.path().join("pod/app/0.log");
        assert!(!lies_elsewhere(device, &gone), "deleted with its directories");
        if rustix::fs::major(device) != 0 {
            assert!(lies_elsewhere(device + 1, &gone));
            assert!(lies_elsewhere(device, Path::new("/proc/gone")));
        }
        assert!(
            !lies_elsewhere(rustix::fs::makedev(0, 77), &gone),
            "a tmpfs is empty when it comes"
        );
    }
}
