//! The memory budget of one sink: bytes that may be in flight between reader and acknowledgement.
//!
//! Every lane takes from it through a [`Share`], which bounds what this lane may hold. Lanes that know
//! nothing of each other get equal shares of the whole: one that is stuck fills its own and leaves
//! the others theirs. Lanes that one writer serves in turn (a file) have no bound but the whole.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicUsize, Ordering},
};

/// Called when bytes came back and somebody who was refused can go on.
pub type OnFreed = Box<dyn Fn(Freed) + Send + Sync>;

/// Who can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// The lane of this number.
    Lane(u32),
    /// Any lane.
    All,
}

/// Bytes one sink may hold in flight. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    whole: Pool,
    /// What one lane may hold.
    share: AtomicUsize,
    /// How many shares there are in the whole.
    shares: usize,
    lanes: Mutex<Vec<Weak<LaneShare>>>,
    on_freed: OnFreed,
}

/// One lane's part of a [`Budget`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Share(Arc<LaneShare>);

#[derive(Debug)]
struct LaneShare {
    lane: u32,
    pool: Pool,
    budget: Budget,
}

/// A bound on bytes, and what somebody waits for who was refused.
#[derive(Debug)]
struct Pool {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// The least that was refused since somebody was last told; 0: nothing was.
    wanted: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes, of which each lane may hold `share`. `on_freed` runs (on the
    /// releasing thread, briefly) when enough came back for somebody who was refused.
    pub fn new(limit: usize, share: usize, on_freed: OnFreed) -> Self {
        let shares = limit / share.clamp(1, limit.max(1));
        let (share, lanes) = (AtomicUsize::new(share), Mutex::default());
        Self(Arc::new(Inner { whole: Pool::new(limit), share, shares, lanes, on_freed }))
    }

    /// The part of a lane.
    pub fn share(&self, lane: u32) -> Share {
        let pool = Pool::new(self.0.share.load(Ordering::Relaxed));
        let share = Arc::new(LaneShare { lane, pool, budget: self.clone() });
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(&share));
        Share(share)
    }

    /// The bound is another one from now on. What is in flight beyond it stays until it is settled.
    pub fn resize(&self, limit: usize) {
        let Inner { whole, share, shares, lanes, on_freed } = &*self.0;
        if whole.limit.swap(limit, Ordering::SeqCst) == limit {
            return;
        }
        let part = limit / (*shares).max(1);
        share.store(part, Ordering::SeqCst);
        let lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            lane.pool.limit.store(part, Ordering::SeqCst);
        }
        on_freed(Freed::All);
    }

    /// The bound, bytes.
    pub fn limit(&self) -> usize {
        self.0.whole.limit.load(Ordering::Relaxed)
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.0.whole.used.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("whole", &self.0.whole).finish_non_exhaustive()
    }
}

impl Share {
    /// Takes `bytes`, or nothing. A request larger than the bound is granted when nothing else is
    /// in flight, so that one oversized record cannot stop a lane for good.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let LaneShare { pool, budget, .. } = &*self.0;
        if !pool.try_take(bytes) {
            return None;
        }
        if !budget.0.whole.try_take(bytes) {
            // A release meanwhile may have found no room because of what is given back here.
            if pool.give_back(bytes) {
                (budget.0.on_freed)(Freed::Lane(self.0.lane));
            }
            return None;
        }
        Some(Permit { share: self.clone(), bytes })
    }

    /// Takes bytes that are in memory already.
    fn take_beyond(&self, bytes: usize) {
        let LaneShare { pool, budget, .. } = &*self.0;
        for pool in [pool, &budget.0.whole] {
            pool.used.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let LaneShare { lane, pool, budget } = &*self.0;
        let (lane_can, any_can) = (pool.give_back(bytes), budget.0.whole.give_back(bytes));
        if any_can {
            (budget.0.on_freed)(Freed::All);
        } else if lane_can {
            (budget.0.on_freed)(Freed::Lane(*lane));
        }
    }
}

impl Pool {
    fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
        }
    }

    fn has_room(&self, used: usize, bytes: usize) -> bool {
        used == 0 || used.saturating_add(bytes) <= self.limit.load(Ordering::SeqCst)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut announced = false;
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            if !self.has_room(used, bytes) {
                if announced {
                    return false;
                }
                // Announce the refusal first, then look once more: a release between the look and
                // the announcement would otherwise wake nobody.
                let least = |now: usize| Some(if now == 0 { bytes } else { now.min(bytes) });
                let _always = self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, least);
                announced = true;
                used = self.used.load(Ordering::SeqCst);
                continue;
            }
            match self.used.compare_exchange_weak(
                used,
                used + bytes,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
    }

    /// Whether somebody who was refused can go on now. He is told once.
    fn give_back(&self, bytes: usize) -> bool {
        let used = self.used.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        let wanted = self.wanted.load(Ordering::SeqCst);
        wanted > 0 && self.has_room(used, wanted) && self.wanted.swap(0, Ordering::SeqCst) > 0
    }
}

/// Bytes taken from a [`Share`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    share: Share,
    bytes: usize,
}

impl Permit {
    /// Holds `bytes` from now on. A sealed batch is smaller than what it was reserved for, as a rule.
    /// With a record that is longer than a batch it is larger: that is in memory whether there is
    /// room or not, and whoever comes next waits the longer.
    pub fn resize(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        match bytes.checked_sub(before) {
            Some(more) => self.share.take_beyond(more),
            None => self.share.release(before - bytes),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.release(self.bytes);
    }
}

#[cfg(test)]
mod tests;
