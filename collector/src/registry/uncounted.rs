//! Files that are gone and that nobody had claimed, until it is asked what they were.
//!
//! Asking costs as much as their directories have entries, and whoever may write there can have it asked again and
//! again. So after that took long nothing is asked for twenty times as long, and then once for all that went
//! meanwhile. The kernel keeps what waits here until it is counted, and has no room for more than some thousands:
//! when many wait, they are asked about at once.

use std::time::{Duration, Instant};

use super::Registry;
use crate::{
    identity::KernelInode,
    watch::{DEPARTURES, Departed},
};

/// What took less time costs nobody anything.
const LONG: Duration = Duration::from_millis(10);
/// So many times as long as asking took nothing is asked.
const TIMES: u32 = 20;
/// No longer than this.
const LONGEST: Duration = Duration::from_secs(5);
/// Half of what the kernel has room for: what is deleted until these are counted needs the rest.
const MOST: usize = DEPARTURES / 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Uncounted {
    gone: Vec<Departed>,
    rest_until: Option<Instant>,
}

impl Uncounted {
    /// These are gone. Those that never held a byte are nobody's loss.
    pub(super) fn extend(&mut self, gone: impl IntoIterator<Item = Departed>) {
        self.gone.extend(gone.into_iter().filter(Departed::held_bytes));
    }

    /// What the kernel calls them.
    pub(super) fn inodes(&self) -> impl Iterator<Item = KernelInode> {
        self.gone.iter().map(|gone| gone.inode)
    }

    /// When to ask about them; None: there are none.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let rests = self.rest_until.filter(|_| self.gone.len() < MOST);
        (!self.gone.is_empty()).then(|| rests.unwrap_or(now))
    }

    /// Those to ask about now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Departed> {
        if self.due(now).is_some_and(|due| due <= now) { self.take() } else { Vec::new() }
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.gone)
    }

    /// Asking took so long.
    pub(super) fn asked(&mut self, took: Duration, now: Instant) {
        self.rest_until = (took >= LONG).then(|| now + (took * TIMES).min(LONGEST));
    }
}

impl Registry {
    /// When files that are gone are to be counted.
    pub(super) fn strangers_due(&self) -> Option<Instant> {
        // While files are looked for that were known, these are counted with what is gone of those.
        if self.is_looking() { None } else { self.uncounted.due(Instant::now()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(inode: u64, size: u64) -> Departed {
        let inode = KernelInode { inode, device: 1, generation: 1 };
        let (id, truncated, ended, path, directory) = (None, 0, true, None, None);
        Departed { id, inode, size, truncated, ended, path, directory }
    }

    #[test]
    fn what_takes_long_to_ask_is_asked_once_for_all_that_went_meanwhile() {
        let mut uncounted = Uncounted::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        uncounted.extend([gone(1, 0)]);
        assert_eq!(uncounted.due(at(0)), None, "nothing is lost with an empty file");
        uncounted.extend([gone(2, 5), Departed { truncated: 7, ..gone(3, 0) }]);
        assert_eq!(uncounted.due(at(0)), Some(at(0)));
        assert_eq!(uncounted.take_due(at(0)).len(), 2);
        uncounted.asked(Duration::from_millis(1), at(1));
        uncounted.extend([gone(4, 5)]);
        assert_eq!(uncounted.take_due(at(1)).len(), 1, "that took no time");
        uncounted.asked(Duration::from_millis(100), at(100));
        assert_eq!(uncounted.due(at(100)), None, "none wait");
        uncounted.extend([gone(5, 5), gone(6, 5)]);
        assert_eq!(uncounted.due(at(101)), Some(at(2_100)));
        assert!(uncounted.take_due(at(2_099)).is_empty());
        assert_eq!(uncounted.inodes().map(|it| it.inode).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(uncounted.take_due(at(2_100)).len(), 2);
        uncounted.asked(Duration::from_secs(60), at(3_000));
        uncounted.extend([gone(7, 5)]);
        assert_eq!(uncounted.due(at(3_001)), Some(at(8_000)), "never for long");
        uncounted.extend((0..MOST as u64).map(|n| gone(n, 5)));
        assert_eq!(uncounted.due(at(3_001)), Some(at(3_001)), "the kernel has room for few");
        assert_eq!(uncounted.take().len(), MOST + 1);
    }
}
