//! How many deliveries may be on the way at once: as many as the server takes well.
//!
//! Additive increase, multiplicative decrease: doubling from one until the first sign of overload,
//! then one more for every round of successes at the limit, half at a sign of overload. Waiting lanes
//! are served in the order they came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::SinkMetrics;

/// The adaptive limit of one sink.
pub(super) struct Limit {
    slots: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    metrics: SinkMetrics,
}

/// The right to one delivery attempt.
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    state: Arc<Mutex<State>>,
    metrics: SinkMetrics,
    started: Started,
}

/// What an attempt says about the server's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// It was taken.
    Success,
    /// 429, 503, or no reply in time.
    Overload,
    /// Nothing (refused, unreachable, cancelled).
    Neutral,
}

struct State {
    window: Window,
    /// Slots that exist, free or taken.
    slots: u32,
}

impl Limit {
    /// At most `max`, at least one.
    pub(super) fn new(max: u32, metrics: SinkMetrics) -> Self {
        let state = State { window: Window::new(max), slots: 1 };
        Self { slots: Arc::new(Semaphore::new(1)), state: Arc::new(Mutex::new(state)), metrics }
    }

    /// Waits for a free slot.
    pub(super) async fn acquire(&self) -> Slot {
        // The semaphore is never closed; without a permit the bound would merely not hold.
        let permit = self.slots.clone().acquire_owned().await.ok();
        let mut state = lock(&self.state);
        let started = state.window.begin();
        self.metrics.concurrency(state.window.in_flight as usize);
        drop(state);
        Slot { permit, state: self.state.clone(), metrics: self.metrics.clone(), started }
    }
}

impl Slot {
    /// Gives the slot back and learns from the attempt.
    pub(super) fn done(mut self, signal: Signal) {
        self.release(signal);
    }

    fn release(&mut self, signal: Signal) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = lock(&self.state);
        state.window.end(self.started, signal);
        self.metrics.concurrency(state.window.in_flight as usize);
        let limit = state.window.limit;
        let semaphore = permit.semaphore().clone();
        if state.slots > limit {
            permit.forget();
            state.slots -= 1;
            // Free slots go at once, taken ones when they come back.
            let forgotten = semaphore.forget_permits((state.slots - limit) as usize);
            state.slots -= u32::try_from(forgotten).unwrap_or(0);
        } else {
            drop(permit);
            semaphore.add_permits((limit - state.slots) as usize);
            state.slots = limit;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release(Signal::Neutral);
    }
}

/// When an attempt began, as the window sees it.
#[derive(Debug, Clone, Copy)]
struct Started {
    /// Decreases before it.
    decreases: u64,
    /// Whether the limit was reached.
    saturated: bool,
}

/// The arithmetic, without any waiting.
#[derive(Debug)]
struct Window {
    max: u32,
    limit: u32,
    in_flight: u32,
    /// Successes at the limit since it last changed.
    successes: u32,
    decreases: u64,
}

impl Window {
    fn new(max: u32) -> Self {
        Self { max: max.max(1), limit: 1, in_flight: 0, successes: 0, decreases: 0 }
    }

    fn begin(&mut self) -> Started {
        self.in_flight += 1;
        Started { decreases: self.decreases, saturated: self.in_flight >= self.limit }
    }

    fn end(&mut self, started: Started, signal: Signal) {
        self.in_flight -= 1;
        match signal {
            Signal::Success if started.saturated => {
                self.successes += 1;
                // Until the first overload every success adds one, so a round doubles.
                if self.decreases == 0 || self.successes >= self.limit {
                    self.limit = (self.limit + 1).min(self.max);
                    self.successes = 0;
                }
            }
            // Attempts that began before the last decrease speak of the load before it.
            Signal::Overload if started.decreases == self.decreases => {
                self.limit = (self.limit / 2).max(1);
                self.successes = 0;
                self.decreases += 1;
            }
            _ => {}
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::testing::context;

    fn round(window: &mut Window, signal: Signal) {
        let started: Vec<Started> = (0..window.limit).map(|_| window.begin()).collect();
        for started in started {
            window.end(started, signal);
        }
    }

    #[test]
    fn it_doubles_halves_once_a_round_and_then_creeps() {
        let mut window = Window::new(32);
        let mut limits = Vec::new();
        for signal in [
            Signal::Success,
            Signal::Success,
            Signal::Success,
            Signal::Success,
            Signal::Overload,
            Signal::Success,
            Signal::Success,
            Signal::Neutral,
        ] {
            round(&mut window, signal);
            limits.push(window.limit);
        }
        // A round's first attempts do not find the limit reached, so doubling is a bit less.
        assert_eq!(limits[0], 2);
        assert!(limits[3] > limits[2] && limits[2] > limits[1], "{limits:?}");
        assert_eq!(limits[4], limits[3] / 2);
        assert!(limits[6] <= limits[4] + 2, "{limits:?}");
        assert_eq!(limits[7], limits[6]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Against a server that takes `capacity` at once, the limit settles around it.
        #[test]
        fn it_finds_what_the_server_takes(capacity in 1_u32..40, max in 1_u32..64) {
            let mut limit = Vec::new();
            let mut window = Window::new(max);
            for _ in 0..3_000 {
                let started: Vec<Started> = (0..window.limit).map(|_| window.begin()).collect();
                let overloaded = window.limit > capacity;
                for started in started {
                    window.end(started, if overloaded { Signal::Overload } else { Signal::Success });
                }
                limit.push(window.limit);
            }
            let settled = &limit[2_000..];
            let best = *settled.iter().max().unwrap();
            prop_assert!(best >= capacity.min(max) && best <= (capacity + 1).min(max));
            prop_assert!(settled.iter().all(|&l| l >= (capacity.min(max) / 2).max(1)));
        }

        #[test]
        fn it_stays_within_its_bounds(max in 0_u32..20, signals in proptest::collection::vec(0_u8..3, 0..300)) {
            let mut window = Window::new(max);
            let mut open = std::collections::VecDeque::new();
            for signal in signals {
                if window.in_flight < window.limit {
                    open.push_back(window.begin());
                }
                if let Some(started) = open.pop_front() {
                    let signal = [Signal::Success, Signal::Overload, Signal::Neutral][usize::from(signal)];
                    window.end(started, signal);
                }
                prop_assert!((1..=max.max(1)).contains(&window.limit));
            }
        }
    }

    #[tokio::test]
    async fn slots_follow_the_limit_up_and_down() {
        let limit = Limit::new(4, context("h", None).metrics);
        for _ in 0..10 {
            let slots = take_all(&limit).await;
            slots.into_iter().for_each(|slot| slot.done(Signal::Success));
        }
        let slots = take_all(&limit).await;
        assert_eq!(slots.len(), 4);
        // All of one round: halved once.
        slots.into_iter().for_each(|slot| slot.done(Signal::Overload));
        let slots = take_all(&limit).await;
        assert_eq!(slots.len(), 2);
        // Given up on the way: neither gained nor lost.
        drop(slots);
        assert_eq!(take_all(&limit).await.len(), 2);
    }

    async fn take_all(limit: &Limit) -> Vec<Slot> {
        let mut slots = Vec::new();
        while limit.slots.available_permits() > 0 {
            slots.push(limit.acquire().await);
        }
        slots
    }
}
