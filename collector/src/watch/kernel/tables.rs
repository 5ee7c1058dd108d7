//! The programs' maps, as the agent uses them.
//!
//! Knows what is in each and in which order entries are made and taken away; knows no tokens.

use std::{
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, Queue, RingBuf},
};
use collector_ebpf::{BORN, Departed, Event, Key, LEVELS, PATH_BYTES, Path, Slot, State, cells};

use super::{
    LoadError,
    mapped::{Cells, Mapped},
};

/// See the module.
pub(super) struct Tables {
    pub(super) slots: Arc<Mapped<Slot>>,
    state: Mapped<State>,
    pub(super) cells: Cells,
    known: HashMap<MapData, Key, u32>,
    free: Queue<MapData, u32>,
    departed: Departures,
    paths: HashMap<MapData, u32, Path>,
    born_names: HashMap<MapData, u32, Path>,
    events: RingBuf<MapData>,
}

/// What is known of departed files. Cheap to clone.
#[derive(Clone)]
pub(super) struct Departures(Arc<Mutex<HashMap<MapData, Key, Departed>>>);

impl Departures {
    /// Files are not to be told again.
    pub(super) fn forget(&self, keys: &[Key]) {
        let mut departed = self.lock();
        for key in keys {
            let _none = departed.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MapData, Key, Departed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kernel's flag for an entry that must be new.
const NOEXIST: u64 = 1;

/// The maps' names in the object, all of which are pinned.
pub(super) const NAMES: [&str; 9] =
    ["SLOTS", "STATE", "CELLS", "KNOWN", "FREE", "DEPARTED_FILES", "PATHS", "BORN_NAMES", "EVENTS"];

impl Tables {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, slots: u32) -> Result<Self, LoadError> {
        let mapped = Mapped::new(array(ebpf, "SLOTS")?.fd(), slots);
        let state = Mapped::new(array(ebpf, "STATE")?.fd(), 1);
        let cells = Cells::new(array(ebpf, "CELLS")?.fd(), cells(slots));
        Ok(Self {
            slots: Arc::new(mapped.map_err(LoadError::Mapping)?),
            state: state.map_err(LoadError::Mapping)?,
            cells: cells.map_err(LoadError::Mapping)?,
            known: take(ebpf, "KNOWN")?,
            free: take(ebpf, "FREE")?,
            departed: Departures(Arc::new(Mutex::new(take(ebpf, "DEPARTED_FILES")?))),
            paths: take(ebpf, "PATHS")?,
            born_names: take(ebpf, "BORN_NAMES")?,
            events: take(ebpf, "EVENTS")?,
        })
    }

    /// Fills the queue of free slots, of maps that were just made.
    pub(super) fn fill_free(&mut self) -> Result<(), MapError> {
        (0..self.slots.count()).try_for_each(|number| self.free.push(number, 0))
    }

    /// What to wait for readability of.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.events)
    }

    /// The next wake-up.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        let item = self.events.next()?;
        let word = |at: usize| Some(u32::from_ne_bytes(item.get(at..at + 4)?.try_into().ok()?));
        Some(Event { kind: word(0)?, slot: word(4)? })
    }

    /// What went wrong in the kernel so far.
    pub(super) fn state(&self) -> State {
        self.state.state()
    }

    /// The slot of this inode, and whether it is new: its own if it has one, else a free one. None:
    /// there is none left.
    pub(super) fn enter(&mut self, key: Key, flags: u16) -> Option<(u32, bool)> {
        if let Some(number) = self.own(key, flags) {
            return Some((number, false));
        }
        let Ok(number) = self.free.pop(0) else {
            self.state.note_full();
            return None;
        };
        self.slots.set(number, key, flags);
        if self.cells.add(key.inode).is_err() {
            self.give_back(number);
            return None;
        }
        if self.known.insert(key, number, NOEXIST).is_err() {
            // A program was faster, or there is no room.
            self.cells.subtract(key.inode);
            self.give_back(number);
            return self.own(key, flags).map(|number| (number, false));
        }
        Some((number, true))
    }

    fn own(&self, key: Key, flags: u16) -> Option<u32> {
        let number = self.known.get(&key, 0).ok()?;
        (self.slots.flags(number) & flags != 0).then_some(number)
    }

    /// Ends the tally of an inode and gives its slot back; a program may have done so before.
    pub(super) fn leave(&mut self, key: Key) {
        let Ok(number) = self.known.get(&key, 0) else { return };
        if self.known.remove(&key).is_err() {
            return;
        }
        self.cells.subtract(key.inode);
        self.departed.forget(&[key]);
        let _none = self.paths.remove(&number);
        let _none = self.born_names.remove(&number);
        self.give_back(number);
    }

    /// The same, of the inode that has this slot.
    pub(super) fn leave_slot(&mut self, number: u32) {
        let Slot { inode, device, generation, .. } = self.slots.slot(number);
        let key = Key { inode, device, generation };
        if self.has(number, key) {
            self.leave(key);
        }
    }

    /// Whether an inode's slot is this one.
    pub(super) fn has(&self, number: u32, key: Key) -> bool {
        self.known.get(&key, 0).is_ok_and(|known| known == number)
    }

    /// Keeps a directory's path.
    pub(super) fn note_path(&mut self, number: u32, path: &std::path::Path) {
        let text = path.as_os_str().as_encoded_bytes();
        let mut kept = Path { len: 0, parent: 0, bytes: [0; PATH_BYTES] };
        if let Some(room) = kept.bytes.get_mut(..text.len()) {
            room.copy_from_slice(text);
            kept.len = text.len() as u32;
        }
        let _none_kept = self.paths.insert(number, kept, 0);
    }

    /// The path of the directory in this slot, as it was kept.
    pub(super) fn path(&self, number: u32) -> Option<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut number = number;
        // A program enters no more levels than these.
        for _level in 0..=LEVELS {
            let whole = self.paths.get(&number, 0).ok();
            let kept = whole.or_else(|| self.born_names.get(&number, 0).ok())?;
            let text = kept.bytes.get(..kept.len as usize).filter(|text| !text.is_empty())?;
            names.push(text.to_vec());
            match kept.parent.checked_sub(1) {
                None => {
                    names.reverse();
                    return Some(names.join(&b'/'));
                }
                Some(parent) => number = parent,
            }
        }
        None
    }

    /// What is known of departed files.
    pub(super) fn departed(&self) -> Vec<(Key, Departed)> {
        self.departed.lock().iter().filter_map(Result::ok).collect()
    }

    /// What is known of departed files, for whoever forgets it.
    pub(super) fn departures(&self) -> Departures {
        self.departed.clone()
    }

    /// What there was no room for was told.
    pub(super) fn forget_full(&self) {
        self.state.forget_full();
    }

    /// Whether an inode has a slot.
    pub(super) fn knows(&self, key: Key) -> bool {
        self.known.get(&key, 0).is_ok()
    }

    /// Whether this file's last name is gone and somebody holds it open: its end is still to be told.
    pub(super) fn is_departing(&self, key: &Key) -> bool {
        self.departed.lock().get(key, 0).is_ok()
    }

    /// Files and directories that a program entered and that nobody has claimed.
    pub(super) fn unclaimed(&self) -> Vec<(u32, Key)> {
        (0..self.slots.count())
            .filter(|number| self.slots.flags(*number) & BORN != 0)
            .map(|number| (number, self.slots.slot(number)))
            .filter(|(_, slot)| slot.file_id == 0)
            .map(|(number, slot)| {
                let Slot { inode, device, generation, .. } = slot;
                (number, Key { inode, device, generation })
            })
            .collect()
    }

    /// Everything that has a slot.
    pub(super) fn known(&self) -> Vec<(Key, u32)> {
        self.known.iter().filter_map(Result::ok).collect()
    }

    fn give_back(&mut self, number: u32) {
        self.slots.set(number, Key::default(), 0);
        let _full = self.free.push(number, 0);
    }
}

fn array<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a MapData, LoadError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(LoadError::Object(name)),
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::Object(name))?;
    T::try_from(map).map_err(LoadError::Map)
}
