//! What happened to files while nobody looked: those that are gone, what truncations took away, and what
//! an earlier agent or nobody had claimed.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use collector_ebpf::{FILE, Key, Slot, State};

use super::{
    Kernel,
    told::{Counted, Departed, inode_of},
};
use crate::{
    identity::{FileId, KernelInode},
    watch::DirToken,
};

impl Kernel {
    /// Files that are gone, as far as the kernel remembers: each is told once. The next agent is told
    /// again, unless that was [`Kernel::counted`]: an agent that is killed before it has made durable what
    /// it counted takes nothing with it.
    pub(in crate::watch) fn departed(&mut self) -> Vec<Departed> {
        let tables = &self.loaded.tables;
        let mut gone = tables.departed();
        let there: HashSet<Key> = gone.iter().map(|(key, _)| *key).collect();
        self.told.retain(|key| there.contains(key));
        gone.retain(|(key, _)| !self.told.contains(key));
        // One that somebody holds open grows on, and ends later.
        let ended = gone.iter().filter(|(_, gone)| gone.ended != 0).map(|(key, _)| *key);
        self.told.extend(ended);
        gone.into_iter()
            .map(|(key, gone)| {
                let name = gone.name.get(..gone.name_len as usize).unwrap_or_default();
                let directory = gone.parent.checked_sub(1).and_then(|slot| tables.path(slot));
                let directory = directory.map(|text| PathBuf::from(OsString::from_vec(text)));
                let named = directory.as_deref().filter(|_| !name.is_empty());
                let path = named.map(|directory| directory.join(OsStr::from_bytes(name)));
                Departed {
                    id: (gone.file_id != 0).then_some(FileId(gone.file_id)),
                    inode: inode_of(key),
                    size: gone.size,
                    truncated: gone.truncated,
                    ended: gone.ended != 0,
                    path,
                    directory,
                }
            })
            .collect()
    }

    /// Gives back slots of files that nobody has claimed since the last call: they are no logs.
    pub(in crate::watch) fn forget_unclaimed(&mut self) {
        let unclaimed = self.loaded.tables.unclaimed();
        let (still, new): (Vec<_>, Vec<_>) =
            unclaimed.into_iter().partition(|(_, key)| self.unclaimed.contains(key));
        for (number, key) in still {
            if !self.owners.has(number) && !self.loaded.tables.is_departing(&key) {
                self.loaded.tables.leave(key);
            }
        }
        self.unclaimed = new.into_iter().map(|(_, key)| key).collect();
    }

    /// What was told so far, but for these: to be forgotten once it is durable that it was counted.
    pub(in crate::watch) fn counted(&self, but: &HashSet<KernelInode>) -> Counted {
        let told = self.told.iter().copied().filter(|key| !but.contains(&inode_of(*key))).collect();
        Counted { departures: self.loaded.tables.departures(), told, all: true }
    }

    /// The same, of these lives alone.
    pub(in crate::watch) fn counted_of(&self, ids: &[FileId]) -> Counted {
        let ids: HashSet<u64> = ids.iter().map(|id| id.0).collect();
        let gone = self.loaded.tables.departed().into_iter();
        let theirs = gone.filter(|(_, gone)| gone.ended != 0 && ids.contains(&gone.file_id));
        let told = theirs.map(|(key, _)| key).collect();
        Counted { departures: self.loaded.tables.departures(), told, all: false }
    }

    /// Gives back what an earlier agent had entered and this one has not.
    pub(in crate::watch) fn forget_strangers(&mut self) {
        self.fresh = HashSet::new();
        self.loaded.tables.forget_full();
        for (key, number) in self.loaded.tables.known() {
            if !self.owners.has(number) && !self.loaded.tables.is_departing(&key) {
                self.loaded.tables.leave(key);
            }
        }
    }

    /// How many bytes truncations have taken away of an inode, modulo 2³²; without a generation, of the one
    /// that has this life. None: it was not counted.
    pub(in crate::watch) fn truncated(
        &self,
        id: FileId,
        (inode, generation): (u64, Option<u32>),
    ) -> Option<u32> {
        let slots = &self.loaded.tables.slots;
        let is_it = |slot: &Slot| match generation {
            Some(generation) => (slot.inode, slot.generation) == (inode, generation),
            None => slot.file_id == id.0,
        };
        let files = (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0);
        let mut slots = files.map(|number| slots.slot(number));
        slots.find(is_it).map(|slot| slot.truncated)
    }

    /// A life's end is not to be told.
    pub(in crate::watch) fn disown(&mut self, id: FileId) {
        let slots = &self.loaded.tables.slots;
        let mut files = (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0);
        let named = files.find(|number| slots.slot(*number).file_id == id.0);
        if let Some(number) = named.filter(|number| !self.owners.has(*number)) {
            self.loaded.tables.leave_slot(number);
        }
    }

    /// Forgets what truncations have taken away so far.
    pub(in crate::watch) fn count_truncations_anew(&self) {
        let slots = &self.loaded.tables.slots;
        (0..slots.count()).filter(|number| slots.flags(*number) & FILE != 0).for_each(|number| {
            slots.forget_truncated(number);
        });
    }

    /// Whether the programs were at work in this directory while no agent ran, and missed nothing
    /// since the last agent's start.
    pub(in crate::watch) fn tallied_while_down(&self, token: DirToken) -> bool {
        let State { slots_full, departed_full, .. } = self.state;
        let had_room = slots_full == 0 && departed_full == 0;
        let entered = self.directories.contains_key(token) && !self.fresh.contains(&token);
        self.loaded.taken_over && had_room && entered
    }
}
