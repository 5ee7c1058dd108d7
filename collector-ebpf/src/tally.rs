//! The tally: what every hook does once it knows which inode it is about.
//!
//! Decides nothing by itself; which hook may call what is user space's choice of programs.

use core::{arch::asm, ptr::read_volatile};

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_probe_read_kernel};
use collector_ebpf::{
    BORN, CHANGED, CHECKS, Cell, DIRECTORY, Departed, Event, FILE, GONE, Key, NAME_BYTES,
    PATH_BYTES, Path, Slot, TRIED, WRITTEN,
};

use crate::{
    fields::Object,
    maps::{BORN_NAMES, CELLS, DEPARTED_FILES, EVENTS, FREE, KNOWN, SLOTS, STATE},
};

const TYPE: u16 = 0o170_000;
const REGULAR: u16 = 0o100_000;
const FOLDER: u16 = 0o040_000;

/// How many cells there are; set before loading.
#[unsafe(no_mangle)]
static CELL_COUNT: u64 = 0;

/// What the kernel calls an inode.
#[inline(always)]
pub fn key_of(inode: Object) -> Key {
    let device = inode.super_block().device();
    Key { inode: inode.inode_number(), device, generation: inode.generation() }
}

/// Whether it is a directory.
#[inline(always)]
pub fn is_directory(inode: Object) -> bool {
    inode.mode() & TYPE == FOLDER
}

/// Bytes up to `end` were written (`exits`), or are about to be under the inode's lock (tracepoints).
#[inline(always)]
pub fn wrote(inode: Object, end: u64, bytes: u64) {
    if let Some((number, slot)) = slot_of(inode) {
        count(number, slot, end, bytes);
    }
}

/// The same, told by a hook that sees every filesystem's writes before they are made: those that have
/// a better one are passed by. One that must not wait may fail and come again (io_uring does that):
/// it is counted once, unless somebody else appended in between.
#[inline(always)]
pub fn may_write(inode: Object, end: u64, bytes: u64, must_not_wait: bool) {
    let Some((number, slot)) = slot_of(inode) else { return };
    // SAFETY: the map's lookup checked the pointer.
    let hook = unsafe { (*slot).hook };
    if hook & CHECKS == 0 {
        return;
    }
    // SAFETY: as above.
    let again = unsafe { hook & TRIED != 0 && !must_not_wait && end == (*slot).end };
    let now = if must_not_wait { CHECKS | TRIED } else { CHECKS };
    if now != hook {
        // SAFETY: as above.
        unsafe { (*slot).hook = now };
    }
    count(number, slot, end, if again { 0 } else { bytes });
}

#[inline(always)]
fn count(number: u32, slot: *mut Slot, end: u64, bytes: u64) {
    // SAFETY: the map's lookup checked the pointer. Mostly the inode's lock is held, and nobody else
    // moves `end`; in `exits` it is given back already, and `end` may end up at the lesser of two:
    // the agent heeds `writes` there (see its bell).
    unsafe {
        if end > (*slot).end {
            (*slot).end = end;
        }
        add(&raw mut (*slot).bytes, bytes);
        // A full barrier: `end` is visible before `armed` is read. Its other half is the agent's,
        // which arms, and then looks at `end`.
        fetch_add(&raw mut (*slot).writes, 1);
        ring(slot, Event { kind: WRITTEN, slot: number });
    }
}

/// The inode is as long as it says now; what was written beyond that is gone.
#[inline(always)]
pub fn truncated(inode: Object) {
    let Some((number, slot)) = slot_of(inode) else { return };
    // SAFETY: as above.
    unsafe {
        // A directory ends with a truncation too, on some filesystems.
        if (*slot).flags & FILE == 0 {
            return;
        }
        let (size, end) = (inode.size(), (*slot).end);
        if end > size {
            add_short(&raw mut (*slot).truncated, (end - size) as u32);
            (*slot).end = size;
        }
        // A full barrier: whoever hears of it sees how much it took away.
        fetch_add(&raw mut (*slot).writes, 1);
        ring(slot, Event { kind: WRITTEN, slot: number });
    }
}

/// An entry of a directory came, went or changed its name, or the directory itself did.
#[inline(always)]
pub fn changed(directory: Object) {
    let Some((number, slot)) = slot_of(directory) else { return };
    // SAFETY: as above.
    unsafe {
        if (*slot).flags & DIRECTORY != 0 {
            ring(slot, Event { kind: CHANGED, slot: number });
        }
    }
}

/// A file or a directory was born in a directory. If that is watched, a file's first write shall be
/// counted: nobody could enter it in time but this. A directory is entered as far down as the watched
/// one says: a pod may come and go while no agent runs.
#[inline(always)]
pub fn born(inode: Object, directory: Object) {
    let Some((parent, folder)) = slot_of(directory) else { return };
    // SAFETY: as above; the new slot is nobody else's once it was taken from the queue.
    unsafe {
        if (*folder).flags & DIRECTORY == 0 {
            return;
        }
        let (flags, levels) = match inode.mode() & TYPE {
            REGULAR => (FILE | BORN, 0),
            FOLDER if (*folder).end > 0 => (DIRECTORY | BORN, (*folder).end - 1),
            _ => return,
        };
        // It has one where another hook told of its birth too, and where it gets another name.
        if slot_of(inode).is_some() {
            return;
        }
        let key = key_of(inode);
        let Some(cell) = cell_of(key.inode) else { return };
        let Ok(Some(number)) = FREE.pop() else { return count_full() };
        let Some(slot) = SLOTS.get_ptr_mut(number) else { return };
        (*slot).inode = key.inode;
        (*slot).device = key.device;
        (*slot).generation = key.generation;
        (*slot).end = levels;
        (*slot).bytes = 0;
        (*slot).writes = 0;
        (*slot).file_id = 0;
        (*slot).armed = 0;
        (*slot).parent = parent + 1;
        (*slot).truncated = 0;
        (*slot).hook = (*folder).hook & CHECKS;
        (*slot).flags = flags;
        add_short(&raw mut (*cell).entered, 1);
        if KNOWN.insert(&key, &number, BPF_NOEXIST.into()).is_err() {
            add_short(&raw mut (*cell).entered, ONE_LESS);
            (*slot).flags = 0;
            let _full = FREE.push(&number, 0);
            count_full();
        }
    }
}

/// A name of a file goes; `dentry` is that name.
#[inline(always)]
pub fn unlinked(directory: Object, dentry: Object) {
    let inode = dentry.dentry_inode();
    if inode.0.is_null() || inode.links() > 1 {
        return;
    }
    let Some((_, slot)) = slot_of(inode) else { return };
    let key = key_of(inode);
    let parent = slot_of(directory).map_or(0, |(number, _)| number + 1);
    let mut gone = Departed { size: inode.size(), parent, ..Departed::default() };
    let length = dentry.dentry_name_len().min(NAME_BYTES as u32);
    // SAFETY: the slot as above; the name is copied by a helper that survives a bad address.
    unsafe {
        if (*slot).flags & FILE == 0 {
            return;
        }
        gone.file_id = (*slot).file_id;
        gone.truncated = (*slot).truncated;
        let name = dentry.dentry_name() as *const core::ffi::c_void;
        if bpf_probe_read_kernel(gone.name.as_mut_ptr().cast(), length & 0x7f, name) == 0 {
            gone.name_len = length;
        }
        if DEPARTED_FILES.insert(&key, &gone, 0).is_err() {
            count_departed_full();
        }
    }
    let folder = dentry.dentry_parent();
    if name_born(folder) {
        name_born(folder.dentry_parent());
    }
}

/// Nothing, to make an entry of.
#[unsafe(no_mangle)]
static NO_NAME: Path = Path { len: 0, parent: 0, bytes: [0; PATH_BYTES] };

/// Keeps the name of a directory that a program entered: no agent can ask for it any more once it is
/// gone. False for any other, whose path the agent has kept.
#[inline(always)]
fn name_born(dentry: Object) -> bool {
    let Some((number, slot)) = slot_of(dentry.dentry_inode()) else { return false };
    // SAFETY: the maps' lookups checked the pointers; the name is copied by a helper that survives a
    // bad address.
    unsafe {
        if (*slot).flags & BORN == 0 {
            return false;
        }
        let _known = BORN_NAMES.insert(&number, &NO_NAME, BPF_NOEXIST.into());
        let Some(kept) = BORN_NAMES.get_ptr_mut(&number) else { return true };
        if (*kept).len == 0 {
            let length = dentry.dentry_name_len().min(PATH_BYTES as u32 - 1) & 0xff;
            let name = dentry.dentry_name() as *const core::ffi::c_void;
            (*kept).parent = (*slot).parent;
            if bpf_probe_read_kernel((&raw mut (*kept).bytes).cast(), length, name) == 0 {
                (*kept).len = length;
            }
        }
    }
    true
}

/// An inode leaves memory; with its last name gone, for good.
#[inline(always)]
pub fn evicted(inode: Object) {
    if inode.links() != 0 {
        return;
    }
    let Some((number, slot)) = slot_of(inode) else { return };
    let key = key_of(inode);
    // SAFETY: as above.
    unsafe {
        if (*slot).flags & FILE == 0 {
            return;
        }
        let size = inode.size();
        match DEPARTED_FILES.get_ptr_mut(&key) {
            Some(gone) => {
                (*gone).size = size;
                (*gone).file_id = (*slot).file_id;
                (*gone).truncated = (*slot).truncated;
                (*gone).ended = 1;
            }
            None => {
                let gone = Departed {
                    size,
                    file_id: (*slot).file_id,
                    parent: (*slot).parent,
                    truncated: (*slot).truncated,
                    ended: 1,
                    ..Departed::default()
                };
                if DEPARTED_FILES.insert(&key, &gone, 0).is_err() {
                    count_departed_full();
                }
            }
        }
        // Who removes the entry gives the slot back: user space may be at the same.
        if KNOWN.remove(&key).is_err() {
            return;
        }
        if let Some(cell) = cell_of(key.inode) {
            add_short(&raw mut (*cell).entered, ONE_LESS);
        }
        (*slot).flags = 0;
        (*slot).armed = 0;
        let _full = FREE.push(&number, 0);
        let _full = EVENTS.output::<Event>(&Event { kind: GONE, slot: number }, 0);
    }
}

/// An inode's slot. A write pays for this, watched or not: it searches only where it has to.
#[inline(always)]
fn slot_of(inode: Object) -> Option<(u32, *mut Slot)> {
    let cell = cell_of(inode.inode_number())?;
    // SAFETY: the map's lookup checked the pointer; others change the cell meanwhile.
    let Cell { entered, last } = unsafe { read_volatile(cell) };
    if entered == 0 {
        return None;
    }
    let slot = SLOTS.get_ptr_mut(last)?;
    // SAFETY: as above. A slot that was given back may still say whose it was.
    let found = unsafe {
        (*slot).inode == inode.inode_number()
            && (*slot).generation == inode.generation()
            && (*slot).device == inode.super_block().device()
            && (*slot).flags != 0
    };
    if found {
        return Some((last, slot));
    }
    // SAFETY: as above; the map's entries are never freed, only replaced.
    let number = unsafe { *KNOWN.get_ptr(key_of(inode))? };
    // SAFETY: as above. Only a hint: it does not matter who writes it last.
    unsafe { (*cell).last = number };
    Some((number, SLOTS.get_ptr_mut(number)?))
}

#[inline(always)]
fn cell_of(inode_number: u64) -> Option<*mut Cell> {
    // SAFETY: a global.
    let count = unsafe { read_volatile(&raw const CELL_COUNT) };
    CELLS.get_ptr_mut(collector_ebpf::cell_of(inode_number, count as u32))
}

/// Wakes user space, if it asked for that; once.
///
/// # Safety
/// `slot` is an element of the map.
#[inline(always)]
unsafe fn ring(slot: *mut Slot, event: Event) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*slot).armed == 0 {
            return;
        }
        (*slot).armed = 0;
        if EVENTS.output::<Event>(&event, 0).is_err() {
            // Still owed: the next write tries again, and user space looks at everything.
            (*slot).armed = 1;
            if let Some(state) = STATE.get_ptr_mut(0) {
                add(&raw mut (*state).ring_full, 1);
            }
        }
    }
}

#[inline(always)]
fn count_full() {
    if let Some(state) = STATE.get_ptr_mut(0) {
        // SAFETY: the map's lookup checked the pointer.
        unsafe { add(&raw mut (*state).slots_full, 1) };
    }
}

#[inline(always)]
fn count_departed_full() {
    if let Some(state) = STATE.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { add(&raw mut (*state).departed_full, 1) };
    }
}

/// Adds atomically, in no order.
#[inline(always)]
unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller's pointer is an element of a map.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {value}", to = in(reg) to, value = in(reg) value) }
}

/// What to add to a short to have one less.
const ONE_LESS: u32 = u32::MAX;

/// Adds atomically, in no order.
#[inline(always)]
unsafe fn add_short(to: *mut u32, value: u32) {
    // SAFETY: as above. Rust has no name for any half register, so these are fixed ones.
    unsafe { asm!("lock *(u32 *)(r1 + 0) += w2", in("r1") to, in("r2") value) }
}

/// Adds atomically, and is a full barrier (`Documentation/bpf/standardization/instruction-set.rst`:
/// with FETCH an atomic operation is fully ordered).
#[inline(always)]
unsafe fn fetch_add(to: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: as above.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({to} + 0), {value})",
            to = in(reg) to, value = inout(reg) value);
    }
    value
}
