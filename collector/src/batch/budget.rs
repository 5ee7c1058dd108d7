//! The memory budget of one sink: bytes that may be in flight between reader and acknowledgement.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Called when bytes came back to a budget that had refused somebody.
pub type OnFreed = Box<dyn Fn() + Send + Sync>;

/// Bytes one sink may hold in flight. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limit: usize,
    used: AtomicUsize,
    refused: std::sync::atomic::AtomicBool,
    on_freed: OnFreed,
}

impl Budget {
    /// A budget of `limit` bytes. `on_freed` runs (on the releasing thread, briefly) when bytes
    /// come back after a refusal.
    pub fn new(limit: usize, on_freed: OnFreed) -> Self {
        Self(Arc::new(Inner {
            limit,
            used: AtomicUsize::new(0),
            refused: std::sync::atomic::AtomicBool::new(false),
            on_freed,
        }))
    }

    /// Takes `bytes`, or nothing. A request larger than the whole budget is granted when nothing
    /// else is in flight, so that one oversized record cannot stop a sink for good.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let mut used = self.0.used.load(Ordering::Relaxed);
        let mut announced = false;
        loop {
            if used != 0 && used.saturating_add(bytes) > self.0.limit {
                if announced {
                    return None;
                }
                // Announce the refusal first, then look once more: a release between the look and
                // the announcement would otherwise wake nobody.
                self.0.refused.store(true, Ordering::SeqCst);
                announced = true;
                used = self.0.used.load(Ordering::SeqCst);
                continue;
            }
            match self.0.used.compare_exchange_weak(
                used,
                used + bytes,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Permit { budget: self.clone(), bytes }),
                Err(now) => used = now,
            }
        }
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The bound, bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    fn release(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::SeqCst);
        if bytes > 0 && self.0.refused.swap(false, Ordering::SeqCst) {
            (self.0.on_freed)();
        }
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("used", &self.used()).field("limit", &self.limit()).finish()
    }
}

/// Bytes taken from a [`Budget`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: usize,
}

impl Permit {
    /// Gives back all but `bytes` (a sealed batch is smaller than what it was reserved for).
    pub fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.budget.release(self.bytes - bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
