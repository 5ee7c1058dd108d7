//! The maps. What is in them and how it is laid out is said in the crate's library.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use collector_ebpf::{
    BORN_DIRECTORIES, Cell, DEPARTED, Departed, Key, Path, RING_BYTES, SLOTS as COUNT, Slot, State,
    cells,
};

/// Tallies, by number; mapped into the agent.
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(COUNT, BPF_F_MMAPABLE);

/// What is known by an inode's number; mapped into the agent.
#[map]
pub static CELLS: Array<Cell> = Array::with_max_entries(cells(COUNT), BPF_F_MMAPABLE);

/// The slot of a file or directory, by what the kernel calls it.
#[map]
pub static KNOWN: HashMap<Key, u32> = HashMap::with_max_entries(COUNT, 0);

/// Slots that nobody uses.
#[map]
pub static FREE: Queue<u32> = Queue::with_max_entries(COUNT, 0);

/// Files whose last name went.
#[map]
pub static DEPARTED_FILES: HashMap<Key, Departed> = HashMap::with_max_entries(DEPARTED, 0);

/// Watched directories' paths, by slot: written and read by user space alone.
#[map]
pub static PATHS: HashMap<u32, Path> = HashMap::with_max_entries(COUNT, 1);

/// Names of directories that a program entered, by slot: as they were when a file in them went.
#[map]
pub static BORN_NAMES: HashMap<u32, Path> = HashMap::with_max_entries(BORN_DIRECTORIES, 0);

/// Wake-ups.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Counts; mapped into the agent.
#[map]
pub static STATE: Array<State> = Array::with_max_entries(1, BPF_F_MMAPABLE);
