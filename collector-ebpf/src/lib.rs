//! What Everyline's eBPF programs and its user space share: the layout of every map.
//!
//! Nothing else; the programs are in `main.rs`, which the host's toolchain does not build. A changed
//! layout changes the object's digest, so that what an older agent pinned is not taken over by a
//! newer one.
#![no_std]

/// Slots there are at most, unless user space asks for another number.
pub const SLOTS: u32 = 32_768;
/// The ring of wake-ups, bytes.
pub const RING_BYTES: u32 = 256 << 10;
/// Files remembered after their end, at most.
pub const DEPARTED: u32 = 4_096;
/// Directories that a program entered itself and whose names are remembered, at most.
pub const BORN_DIRECTORIES: u32 = 2_048;
/// How many levels of directories that are born below a watched one are entered as well: a pod's and
/// its containers' while no agent runs.
pub const LEVELS: u64 = 2;
/// Bytes of a departed file's name that are kept.
pub const NAME_BYTES: usize = 96;
/// Bytes of a watched directory's path that are kept.
pub const PATH_BYTES: usize = 256;

/// The slot is in use, for a file.
pub const FILE: u16 = 1;
/// The slot is in use, for a directory.
pub const DIRECTORY: u16 = 2;
/// The program took the slot itself: the file or directory was born in a watched directory.
pub const BORN: u16 = 4;

/// How far a watched file was written, or that a watched directory changed. One cache line, mapped
/// into the agent: arming is a store, not a system call.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// The inode's number.
    pub inode: u64,
    /// The superblock's device, as the kernel keeps it (which `stat` may tell otherwise).
    pub device: u32,
    /// The inode's generation.
    pub generation: u32,
    /// The end of the furthest write. The size may not be there yet: see the hooks. Of a directory:
    /// how many levels of directories that are born below it are entered.
    pub end: u64,
    /// Bytes written since the slot was taken.
    pub bytes: u64,
    /// Writes since then; with ext4's tracepoints, one that crosses into another page counts twice.
    pub writes: u64,
    /// User space's name of the file's life; 0: nobody claimed it yet.
    pub file_id: u64,
    /// 1: the next write (or change of the directory) is to be told, once.
    pub armed: u32,
    /// [`FILE`], [`DIRECTORY`], [`BORN`]; 0: free.
    pub flags: u16,
    /// Which hook counts its writes: [`OWN`] or [`CHECKS`]; of a directory, those of files born in it.
    pub hook: u16,
    /// The slot of the directory that it was born in, plus one; 0: unknown.
    pub parent: u32,
    /// Bytes that truncations have taken away, all together, modulo 2³².
    pub truncated: u32,
}

/// The filesystem's own hook.
pub const OWN: u16 = 0;
/// The check that every filesystem makes of a write before it begins.
pub const CHECKS: u16 = 1;
/// With [`CHECKS`]: the last write was tried without waiting, and will be tried again if that failed.
pub const TRIED: u16 = 2;

/// What the kernel calls an inode. Never reused, unlike an inode's number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its number.
    pub inode: u64,
    /// The superblock's device.
    pub device: u32,
    /// Its generation.
    pub generation: u32,
}

/// What a write asks first: whether any inode with a number like this one's has a slot. Most have
/// none, and their writers shall not pay for a search.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    /// How many have one, or are about to: at no time less than there are entries by key. Whoever
    /// makes an entry adds itself before, and whoever took one away subtracts it afterwards; an agent
    /// that is killed in between leaves it too high, which costs time only.
    pub entered: u32,
    /// The slot that was found last: where to look before searching.
    pub last: u32,
}

/// How many cells there are for so many slots: enough that few inodes share one.
#[must_use]
pub const fn cells(slots: u32) -> u32 {
    slots * 4
}

/// Which of them an inode's number falls into. Files made together have numbers at regular distances:
/// times the golden ratio, whose fraction the product's upper bits are, they spread evenly.
#[must_use]
#[inline(always)]
pub const fn cell_of(inode: u64, cells: u32) -> u32 {
    let fraction = inode.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    ((fraction * cells as u64) >> 32) as u32
}

/// A wake-up in the ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Event {
    /// [`WRITTEN`], [`CHANGED`] or [`GONE`].
    pub kind: u32,
    /// Which slot.
    pub slot: u32,
}

/// The slot's file was written or truncated.
pub const WRITTEN: u32 = 1;
/// The slot's directory changed.
pub const CHANGED: u32 = 2;
/// A file nobody claimed is gone; see [`Departed`].
pub const GONE: u32 = 3;

/// What is kept of a file whose last name went.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// Its size when it ended (or when its last name went, while somebody holds it open).
    pub size: u64,
    /// User space's name of its life; 0: nobody had claimed it.
    pub file_id: u64,
    /// The slot of the directory it was last in, plus one; 0: unknown.
    pub parent: u32,
    /// 1 once the inode is gone.
    pub ended: u32,
    /// Bytes of `name`.
    pub name_len: u32,
    /// What its slot says that truncations took away of it.
    pub truncated: u32,
    /// Its last name, or the first bytes of it.
    pub name: [u8; NAME_BYTES],
}

impl Default for Departed {
    fn default() -> Self {
        Self {
            size: 0,
            file_id: 0,
            parent: 0,
            ended: 0,
            name_len: 0,
            truncated: 0,
            name: [0; NAME_BYTES],
        }
    }
}

/// A watched directory's path, for the time when nobody can ask for it any more.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Bytes of `bytes`.
    pub len: u32,
    /// 0: this is the whole path. Else it is a name in the directory of this slot, less one.
    pub parent: u32,
    /// The path, if it fits.
    pub bytes: [u8; PATH_BYTES],
}

/// What went wrong in the kernel, counted since the maps were made.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Wake-ups that found no room in the ring.
    pub ring_full: u64,
    /// Files that found no slot.
    pub slots_full: u64,
    /// Departed files that found no room.
    pub departed_full: u64,
    /// Not used.
    pub reserved: u64,
}

/// One of the agent's descriptors, as the iterator tells it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFile {
    /// The descriptor.
    pub fd: u32,
    /// Type and permissions.
    pub mode: u32,
    /// What the kernel calls it.
    pub key: Key,
    /// The filesystem's magic number.
    pub magic: u64,
}

const _: () = {
    assert!(size_of::<Slot>() == 64);
    assert!(size_of::<Key>() == 16);
    assert!(size_of::<Cell>() == 8);
    assert!(size_of::<Event>() == 8);
    assert!(size_of::<Departed>() == 128);
    assert!(size_of::<Path>() == 264);
    assert!(size_of::<State>() == 32);
    assert!(size_of::<OpenFile>() == 32);
};

#[cfg(all(feature = "user", not(target_arch = "bpf")))]
#[expect(unsafe_code, reason = "the loader copies these types byte by byte")]
mod user {
    use super::{Departed, Key, Path};

    // SAFETY: integers only, no padding (the sizes are asserted above), any bytes are valid.
    unsafe impl aya::Pod for Key {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Departed {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Path {}
}
