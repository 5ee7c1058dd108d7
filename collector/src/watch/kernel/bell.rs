//! A bell: the reader's side of a file that the kernel watches.
//!
//! The reader sets it at the end of the file and looks once more; a write after that rings it, and
//! the ring comes as [`Event::Written`](crate::watch::Event). Nothing is lost in between, and a
//! file that is written without pause rings once a look, not once a write.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use collector_ebpf::Slot;

use super::mapped::Mapped;

/// Looks in a row at a size that is promised and not there, before the reader does something else
/// meanwhile, and before it stops looking.
const AT_ONCE: u32 = 16;
const AT_MOST: u32 = 64;

/// No slot.
const NONE: u32 = u32::MAX;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Bell(Arc<Inner>);

struct Inner {
    slots: Arc<Mapped<Slot>>,
    /// The slot, once the kernel has the file; [`NONE`] before and after.
    number: AtomicU32,
    /// Where the reader found the end the last time.
    size: AtomicU64,
    /// Looks in a row that found no more than that although more was promised.
    fruitless: AtomicU32,
    /// The number of writes at which the reader stopped looking.
    given_up: AtomicU64,
    /// Whether writers of one file are counted without a lock between them: `end` may then be the
    /// one before the furthest, and the number of writes has to tell.
    unlocked: AtomicBool,
    /// The number of writes at the last look.
    writes: AtomicU64,
}

/// What a reader that set its bell has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Wait: the next write rings.
    Nothing,
    /// More was written: read on. The size may take some microseconds to follow.
    More,
    /// More was written, and the size takes its time: look again in about a millisecond.
    Soon,
}

impl Bell {
    pub(super) fn new(slots: &Arc<Mapped<Slot>>) -> Self {
        Self(Arc::new(Inner {
            slots: Arc::clone(slots),
            number: AtomicU32::new(NONE),
            size: AtomicU64::new(0),
            fruitless: AtomicU32::new(0),
            given_up: AtomicU64::new(0),
            unlocked: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        }))
    }

    /// The kernel has the file under this number (None: no more), and counts its writers `unlocked`.
    pub(super) fn bind(&self, number: Option<u32>, unlocked: bool) {
        self.0.unlocked.store(unlocked, Ordering::Release);
        self.0.number.store(number.unwrap_or(NONE), Ordering::Release);
    }

    /// How many bytes truncations have taken away of the file, modulo 2³². None: the kernel does not
    /// watch it.
    pub fn truncated(&self) -> Option<u32> {
        let number = self.0.number.load(Ordering::Acquire);
        (number != NONE).then(|| self.0.slots.truncated(number))
    }

    /// Asks to be told of the next write, and says whether the file was written beyond `size`,
    /// where the reader found its end.
    pub fn set(&self, size: u64) -> Heard {
        let Inner { slots, number, size: before, fruitless, given_up, .. } = &*self.0;
        let number = number.load(Ordering::Acquire);
        if number == NONE {
            return Heard::Nothing;
        }
        slots.arm(number);
        let (end, writes) = slots.progress(number);
        if before.swap(size, Ordering::Relaxed) != size || end <= size {
            fruitless.store(0, Ordering::Relaxed);
        }
        if end <= size {
            let unlocked = self.0.unlocked.load(Ordering::Relaxed);
            let written = unlocked && self.0.writes.swap(writes, Ordering::Relaxed) != writes;
            return if written { Heard::More } else { Heard::Nothing };
        }
        if given_up.load(Ordering::Relaxed) == writes {
            // A write that failed after it was announced, most likely. The sweep looks too.
            return Heard::Nothing;
        }
        match fruitless.fetch_add(1, Ordering::Relaxed) {
            looks if looks < AT_ONCE => Heard::More,
            looks if looks < AT_MOST => Heard::Soon,
            _ => {
                fruitless.store(0, Ordering::Relaxed);
                given_up.store(writes, Ordering::Relaxed);
                Heard::Nothing
            }
        }
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bell").field(&self.0.number).finish()
    }
}

#[cfg(test)]
impl Bell {
    /// The bell of a file that a write is announced for which ends at `end`. Not the kernel's memory: it never rings.
    pub fn announcing(end: u64) -> Self {
        use std::{mem::offset_of, os::unix::fs::FileExt};

        let memory = tempfile::tempfile().unwrap();
        memory.set_len(size_of::<Slot>() as u64).unwrap();
        for (at, value) in [(offset_of!(Slot, end), end), (offset_of!(Slot, writes), 1)] {
            memory.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
        }
        let slots = Arc::new(Mapped::new(&memory, 1).unwrap());
        let bell = Self::new(&slots);
        bell.bind(Some(0), false);
        bell
    }

    /// Whether the next write rings it.
    pub fn is_armed(&self) -> bool {
        self.0.slots.slot(0).armed == 1
    }
}
