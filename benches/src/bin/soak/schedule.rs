//! What happens when, all of it from the seed.
//!
//! A deck with every kind of event is shuffled and dealt again and again until the time is over, so that
//! even a short run has seen each. Knows nothing of how an event is brought about.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

/// Something that happens to the agent or around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Event {
    /// SIGKILL, and a new start after so long.
    Kill { off: Duration },
    /// SIGTERM, and a new start so long after its end.
    Restart { off: Duration },
    /// SIGHUP with another configuration.
    Reload(Change),
    /// SIGSTOP, and SIGCONT after so long.
    Pause { length: Duration },
    /// The receiver of the `http` sink answers nothing for so long.
    DeadSink { length: Duration },
    /// No space is left under the state directory and the `file` sink for so long.
    FullDisk { length: Duration },
    /// The agent's clock is off by so many seconds for so long.
    ClockStep { seconds: i64, length: Duration },
    /// Every log rotates as fast as it can for so long.
    Storm { length: Duration },
    /// So many logs that are deleted so long after their birth.
    ShortLived { logs: u32, life: Duration },
}

/// What a reload changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Change {
    /// A further sink that takes everything comes or goes.
    ExtraSink,
    /// A further sink whose server never answers comes or goes.
    DeadSink,
    /// Another concurrency, path and timeout of the `http` sink.
    HttpSink,
    /// Another size at which the `file` sink rotates.
    FileSink,
    /// Another age of batches.
    Batches,
    /// A configuration that is wrong, which changes nothing.
    Wrong,
}

/// When what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// From the start.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// Nothing happens at the start …
const FIRST: Duration = Duration::from_secs(3);
/// … and in the end, when the agent has to catch up.
const LAST: Duration = Duration::from_secs(8);

const CHANGES: [Change; 6] = [
    Change::ExtraSink,
    Change::DeadSink,
    Change::HttpSink,
    Change::FileSink,
    Change::Batches,
    Change::Wrong,
];

/// All events of a run of this length, in order.
pub(crate) fn schedule(seed: u64, length: Duration) -> Vec<Planned> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed ^ 0x5eed_50a4);
    let mut planned = Vec::new();
    let (mut at, mut deck) = (FIRST, Vec::new());
    // A short run has little time for each.
    let pause = if length < Duration::from_secs(150) { 1_000..4_000 } else { 2_000..7_000 };
    while at + LAST < length {
        if deck.is_empty() {
            deck = shuffled(&mut rng);
        }
        let Some(event) = deck.pop() else { break };
        planned.push(Planned { at, event });
        at += Duration::from_millis(rng.random_range(pause.clone())) + event.blocks();
    }
    planned
}

/// How often each kind happens.
pub(crate) fn kinds(events: impl IntoIterator<Item = Event>) -> BTreeMap<&'static str, u32> {
    let mut kinds = BTreeMap::new();
    for event in events {
        *kinds.entry(event.kind()).or_default() += 1;
    }
    kinds
}

fn shuffled(rng: &mut Pcg64Mcg) -> Vec<Event> {
    let mut ms = |range: std::ops::Range<u64>| Duration::from_millis(rng.random_range(range));
    let mut deck = vec![
        Event::Kill { off: ms(0..300) },
        Event::Kill { off: ms(300..3_000) },
        Event::Kill { off: ms(3_000..8_000) },
        Event::Restart { off: ms(0..200) },
        Event::Restart { off: ms(500..4_000) },
        Event::Pause { length: ms(500..6_000) },
        Event::DeadSink { length: ms(2_000..15_000) },
        Event::FullDisk { length: ms(1_000..8_000) },
        Event::Storm { length: ms(1_000..4_000) },
        Event::Storm { length: ms(1_000..4_000) },
        Event::ShortLived { logs: 20, life: ms(20..60) },
        Event::ShortLived { logs: 10, life: ms(150..250) },
        Event::ShortLived { logs: 10, life: ms(150..250) },
    ];
    for sign in [1, -1] {
        let seconds = sign * rng.random_range(1..7_200);
        let length = Duration::from_millis(rng.random_range(1_000..6_000));
        deck.push(Event::ClockStep { seconds, length });
    }
    deck.extend(CHANGES.map(Event::Reload));
    // Those that toggle have to come and to go.
    deck.extend([Change::ExtraSink, Change::DeadSink].map(Event::Reload));
    deck.shuffle(rng);
    deck
}

impl Event {
    /// Its kind's name.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Restart { .. } => "restart",
            Self::Reload(_) => "reload",
            Self::Pause { .. } => "pause",
            Self::DeadSink { .. } => "dead sink",
            Self::FullDisk { .. } => "full disk",
            Self::ClockStep { .. } => "clock step",
            Self::Storm { .. } => "rotation storm",
            Self::ShortLived { .. } => "short-lived logs",
        }
    }

    /// How long nothing else happens meanwhile. The others end by themselves beside further events.
    fn blocks(self) -> Duration {
        match self {
            Self::Kill { off } | Self::Restart { off } => off,
            Self::Pause { length } => length,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides() {
        let length = Duration::from_secs(600);
        assert_eq!(schedule(7, length), schedule(7, length));
        assert_ne!(schedule(7, length), schedule(8, length));
    }

    #[test]
    fn a_longer_run_begins_like_a_shorter_one() {
        let (short, long) = (Duration::from_secs(300), Duration::from_secs(900));
        let (short, long) = (schedule(3, short), schedule(3, long));
        assert_eq!(short, long[..short.len()]);
        assert!(long.len() > short.len());
    }

    #[test]
    fn everything_happens_in_order_and_ends_in_time() {
        for seed in 0..50 {
            let length = Duration::from_secs(180);
            let events = schedule(seed, length);
            assert!(events.is_sorted_by_key(|planned| planned.at), "seed {seed}");
            assert!(events.iter().all(|planned| planned.at + LAST < length), "seed {seed}");
            let kinds = kinds(events.iter().map(|planned| planned.event));
            assert_eq!(kinds.len(), 9, "seed {seed}: {kinds:?}");
        }
    }
}
