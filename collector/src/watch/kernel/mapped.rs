//! Maps that lie in the agent's own memory: slots are armed and read without a system call.
#![expect(unsafe_code, reason = "memory shared with the kernel's programs")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

use collector_ebpf::{Cell, Key, Slot, State, cell_of};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

/// An array map, mapped.
pub(super) struct Mapped<T> {
    at: NonNull<T>,
    count: u32,
    _elements: PhantomData<T>,
}

// SAFETY: the memory is the kernel's, stays mapped as long as this lives, and is only touched by
// atomic operations.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps an array map of `count` values of type `T`, created with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: impl AsFd, count: u32) -> io::Result<Self> {
        Self::part(map, 0, count)
    }

    /// Maps `count` values from byte `offset` on, which must be a page's first.
    fn part(map: impl AsFd, offset: u64, count: u32) -> io::Result<Self> {
        let length = count as usize * size_of::<T>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the kernel refuses it where
        // the map is shorter.
        let at = unsafe {
            mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, map, offset)
                .map_err(io::Error::from)?
        };
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { at, count, _elements: PhantomData })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    fn element(&self, number: u32) -> *mut T {
        assert!(number < self.count, "slot {number} of {}", self.count);
        // SAFETY: within the mapping.
        unsafe { self.at.as_ptr().add(number as usize) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        let length = self.count as usize * size_of::<T>();
        // SAFETY: this mapping was made in `new` and nobody can use it any more.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A field of an element, as an atomic.
macro_rules! field {
    ($kind:ident, $self:expr, $number:expr, $field:ident) => {{
        let element = $self.element($number);
        // SAFETY: an aligned field of an element that lives as long as `self`; everybody touches
        // it atomically (a program's plain access to an aligned word is one access).
        unsafe { $kind::from_ptr(&raw mut (*element).$field) }
    }};
}

impl Mapped<Slot> {
    /// The next write (or change) shall be told. What was written before this returns is visible
    /// to whoever looks afterwards: the other half of the program's barrier.
    pub(super) fn arm(&self, number: u32) {
        field!(AtomicU32, self, number, armed).store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The end of the furthest write, and how many writes there were.
    pub(super) fn progress(&self, number: u32) -> (u64, u64) {
        let writes = field!(AtomicU64, self, number, writes).load(Ordering::Acquire);
        (field!(AtomicU64, self, number, end).load(Ordering::Acquire), writes)
    }

    /// All of a slot, one field after the other.
    pub(super) fn slot(&self, number: u32) -> Slot {
        Slot {
            inode: field!(AtomicU64, self, number, inode).load(Ordering::Acquire),
            device: field!(AtomicU32, self, number, device).load(Ordering::Acquire),
            generation: field!(AtomicU32, self, number, generation).load(Ordering::Acquire),
            end: field!(AtomicU64, self, number, end).load(Ordering::Acquire),
            bytes: field!(AtomicU64, self, number, bytes).load(Ordering::Acquire),
            writes: field!(AtomicU64, self, number, writes).load(Ordering::Acquire),
            file_id: field!(AtomicU64, self, number, file_id).load(Ordering::Acquire),
            armed: field!(AtomicU32, self, number, armed).load(Ordering::Acquire),
            flags: field!(AtomicU16, self, number, flags).load(Ordering::Acquire),
            hook: field!(AtomicU16, self, number, hook).load(Ordering::Acquire),
            parent: field!(AtomicU32, self, number, parent).load(Ordering::Acquire),
            truncated: self.truncated(number),
        }
    }

    /// What a slot is used for.
    pub(super) fn flags(&self, number: u32) -> u16 {
        field!(AtomicU16, self, number, flags).load(Ordering::Acquire)
    }

    /// Takes a free slot into use, or gives it back (`flags` 0).
    pub(super) fn set(&self, number: u32, key: Key, flags: u16) {
        field!(AtomicU64, self, number, inode).store(key.inode, Ordering::Release);
        field!(AtomicU32, self, number, device).store(key.device, Ordering::Release);
        field!(AtomicU32, self, number, generation).store(key.generation, Ordering::Release);
        for counter in [
            field!(AtomicU64, self, number, end),
            field!(AtomicU64, self, number, bytes),
            field!(AtomicU64, self, number, writes),
            field!(AtomicU64, self, number, file_id),
        ] {
            counter.store(0, Ordering::Release);
        }
        field!(AtomicU32, self, number, parent).store(0, Ordering::Release);
        field!(AtomicU32, self, number, truncated).store(0, Ordering::Release);
        field!(AtomicU32, self, number, armed).store(0, Ordering::Release);
        field!(AtomicU16, self, number, flags).store(flags, Ordering::Release);
    }

    /// Has directories that are born below this one entered as well, so many levels down.
    pub(super) fn levels(&self, number: u32, levels: u64) {
        field!(AtomicU64, self, number, end).store(levels, Ordering::Release);
    }

    /// Says which hook counts.
    pub(super) fn hook(&self, number: u32, hook: u16) {
        field!(AtomicU16, self, number, hook).store(hook, Ordering::Release);
    }

    /// How many bytes truncations have taken away of the file, modulo 2³².
    pub(super) fn truncated(&self, number: u32) -> u32 {
        field!(AtomicU32, self, number, truncated).load(Ordering::Acquire)
    }

    /// Counts anew what truncations take away of the file.
    pub(super) fn forget_truncated(&self, number: u32) {
        field!(AtomicU32, self, number, truncated).store(0, Ordering::Release);
    }

    /// Takes up the counts of a file whose slot is new, unless the programs have begun to: how long it
    /// is, and what truncations had taken away by then.
    pub(super) fn begin_at(&self, number: u32, size: u64, truncated: u32) {
        let (done, unless) = (Ordering::AcqRel, Ordering::Acquire);
        let end = field!(AtomicU64, self, number, end);
        let _begun = end.compare_exchange(0, size, done, unless);
        // Whatever the programs have added by now stays.
        field!(AtomicU32, self, number, truncated).fetch_add(truncated, done);
    }

    /// Names the life of the file.
    pub(super) fn name(&self, number: u32, file_id: u64) {
        field!(AtomicU64, self, number, file_id).store(file_id, Ordering::Release);
    }
}

/// The cells. The agent touches one where it enters or forgets something, and maps a page for that:
/// all of them would be a good part of a quiet agent's memory.
pub(super) struct Cells {
    map: OwnedFd,
    count: u32,
}

impl Cells {
    /// Of an array map of `count` cells, created with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: impl AsFd, count: u32) -> io::Result<Self> {
        Ok(Self { map: map.as_fd().try_clone_to_owned()?, count })
    }

    /// An inode with this number is about to have a slot.
    pub(super) fn add(&self, inode: u64) -> io::Result<()> {
        self.change(inode, |entered| entered.fetch_add(1, Ordering::SeqCst))
    }

    /// One has none any more. Where that fails, the cell stays too high, which costs time only.
    pub(super) fn subtract(&self, inode: u64) {
        let _too_high = self.change(inode, |entered| entered.fetch_sub(1, Ordering::SeqCst));
    }

    /// How many have one, all together.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        let all = Mapped::<Cell>::new(&self.map, self.count).unwrap();
        let entered = |cell| field!(AtomicU32, all, cell, entered).load(Ordering::SeqCst) as usize;
        (0..self.count).map(entered).sum()
    }

    fn change(&self, inode: u64, change: impl FnOnce(&AtomicU32) -> u32) -> io::Result<()> {
        let in_page = (page_size() / size_of::<Cell>()) as u32;
        let cell = cell_of(inode, self.count);
        let offset = u64::from(cell / in_page) * page_size() as u64;
        let page = Mapped::<Cell>::part(&self.map, offset, in_page)?;
        change(field!(AtomicU32, page, cell % in_page, entered));
        Ok(())
    }
}

impl Mapped<State> {
    /// What the programs have counted: events, and what they had no room for.
    pub(super) fn state(&self) -> State {
        State {
            ring_full: field!(AtomicU64, self, 0, ring_full).load(Ordering::Acquire),
            slots_full: field!(AtomicU64, self, 0, slots_full).load(Ordering::Acquire),
            departed_full: field!(AtomicU64, self, 0, departed_full).load(Ordering::Acquire),
            reserved: 0,
        }
    }

    /// A file found no slot.
    pub(super) fn note_full(&self) {
        field!(AtomicU64, self, 0, slots_full).fetch_add(1, Ordering::AcqRel);
    }

    /// What there was no room for is booked: from now on it is counted anew.
    pub(super) fn forget_full(&self) {
        field!(AtomicU64, self, 0, slots_full).store(0, Ordering::Release);
        field!(AtomicU64, self, 0, departed_full).store(0, Ordering::Release);
    }
}
