//! Who is granted what, who is told when something came back, and that nobody is forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

/// A budget that notes who is told.
fn noting(limit: usize, share: usize) -> (Budget, Arc<Mutex<Vec<Freed>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let budget =
        Budget::new(limit, share, Box::new(move |freed| noted.lock().unwrap().push(freed)));
    (budget, told)
}

#[test]
fn a_lane_that_gives_nothing_back_leaves_the_others_their_shares() {
    let (budget, _) = noting(80, 20);
    let lanes: Vec<Share> = (0..4).map(|lane| budget.share(lane)).collect();
    let stuck: Vec<Permit> = std::iter::from_fn(|| lanes[0].try_take(10)).collect();
    assert_eq!(stuck.len(), 2, "a share is all that one lane gets");
    for round in 0..10 {
        let taken: Vec<_> = lanes[1..].iter().map(|lane| lane.try_take(10)).collect();
        assert!(taken.iter().all(Option::is_some), "round {round}: {taken:?}");
    }
    // Also where each holds a batch on its way already.
    let _on_the_way: Vec<_> = lanes[1..].iter().map(|lane| lane.try_take(10).unwrap()).collect();
    assert!(lanes[1..].iter().all(|lane| lane.try_take(10).is_some()));
}

#[test]
fn a_lane_is_told_when_it_can_go_on_and_not_before() {
    let (budget, told) = noting(80, 20);
    let lane = budget.share(3);
    let other = budget.share(1);
    let mut first = lane.try_take(12).unwrap();
    let second = lane.try_take(8).unwrap();
    assert!(lane.try_take(10).is_none());
    drop(other.try_take(20));
    first.resize(11);
    first.resize(4);
    assert!(told.lock().unwrap().is_empty(), "8 bytes are free, 10 are wanted");
    first.resize(2);
    assert_eq!(*told.lock().unwrap(), [Freed::Lane(3)]);
    drop((first, second));
    assert_eq!(*told.lock().unwrap(), [Freed::Lane(3)], "told once for one refusal");
}

#[test]
fn lanes_of_one_writer_share_the_whole() {
    let (budget, told) = noting(20, 20);
    let (one, other) = (budget.share(0), budget.share(1));
    let taken = [one.try_take(10).unwrap(), one.try_take(10).unwrap()];
    assert!(other.try_take(10).is_none());
    drop(taken);
    assert_eq!(*told.lock().unwrap(), [Freed::All]);
    assert!(other.try_take(10).is_some());
}

#[test]
fn what_is_larger_than_the_bound_passes_alone() {
    let (budget, _) = noting(20, 10);
    let lane = budget.share(0);
    let small = lane.try_take(1).unwrap();
    assert!(lane.try_take(50).is_none());
    drop(small);
    assert!(lane.try_take(50).is_some());
}

#[test]
fn what_is_larger_than_its_reservation_keeps_others_waiting() {
    let (budget, told) = noting(80, 20);
    let (lane, other) = (budget.share(0), budget.share(1));
    let mut large = lane.try_take(10).unwrap();
    large.resize(75);
    assert_eq!(budget.used(), 75);
    assert!(lane.try_take(10).is_none() && other.try_take(10).is_none());
    drop(large);
    assert_eq!((budget.used(), &*told.lock().unwrap()), (0, &vec![Freed::All]));
    assert!(lane.try_take(10).is_some() && other.try_take(10).is_some());
}

#[derive(Debug, Clone)]
enum Act {
    Take(u32, usize),
    Resize(usize, usize),
    Drop(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0_u32..4, 1_usize..14).prop_map(|(lane, bytes)| Act::Take(lane, bytes)),
        1 => (0_usize..20, 0_usize..30).prop_map(|(at, bytes)| Act::Resize(at, bytes)),
        2 => (0_usize..20).prop_map(Act::Drop),
    ];
    proptest::collection::vec(act, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against bookkeeping of the plainest kind: what is granted, and that whoever was refused and
    /// has room again has been told.
    #[test]
    fn grants_and_wake_ups_are_those_of_a_naive_model(
        acts in acts(), apart: bool,
    ) {
        let (limit, share) = if apart { (40, 10) } else { (40, 40) };
        let (budget, told) = noting(limit, share);
        let lanes: Vec<Share> = (0..4).map(|lane| budget.share(lane)).collect();
        let mut held: Vec<(u32, usize, Permit)> = Vec::new();
        let mut waiting: BTreeMap<u32, usize> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Take(lane, bytes) => {
                    let own: usize = held.iter().filter(|h| h.0 == lane).map(|h| h.1).sum();
                    let all: usize = held.iter().map(|h| h.1).sum();
                    let fits = (own == 0 || own + bytes <= share) && (all == 0 || all + bytes <= limit);
                    let permit = lanes[lane as usize].try_take(bytes);
                    prop_assert_eq!(permit.is_some(), fits);
                    match permit {
                        Some(permit) => held.push((lane, bytes, permit)),
                        None => { waiting.insert(lane, bytes); }
                    }
                }
                Act::Resize(at, bytes) => {
                    if let Some((_, had, permit)) = held.get_mut(at) {
                        permit.resize(bytes);
                        *had = bytes;
                    }
                }
                Act::Drop(at) if at < held.len() => drop(held.remove(at)),
                Act::Drop(_) => {}
            }
            for freed in told.lock().unwrap().drain(..) {
                match freed {
                    Freed::All => waiting.clear(),
                    Freed::Lane(lane) => { waiting.remove(&lane); }
                }
            }
            let all: usize = held.iter().map(|h| h.1).sum();
            prop_assert_eq!(budget.used(), all);
            for (lane, bytes) in &waiting {
                let own: usize = held.iter().filter(|h| h.0 == *lane).map(|h| h.1).sum();
                let can = (own == 0 || own + bytes <= share) && (all == 0 || all + bytes <= limit);
                prop_assert!(!can, "lane {} waits for {} and was not told", lane, bytes);
            }
        }
    }
}

/// Readers that take until they are refused and then sleep until they are told, and a sink that
/// gives back. A wake-up that is lost leaves a reader asleep with everything given back.
#[test]
fn no_wake_up_is_lost_between_threads() {
    const LANES: u32 = 3;
    const BATCHES: usize = 20_000;
    for share in [20, 40] {
        let mut doors = Vec::new();
        let mut sleepers: Vec<Receiver<()>> = Vec::new();
        for _ in 0..LANES {
            let (door, sleeper) = channel();
            doors.push(door);
            sleepers.push(sleeper);
        }
        let on_freed = move |freed| {
            let wake = |door: &Sender<()>| {
                let _ended = door.send(());
            };
            match freed {
                Freed::All => doors.iter().for_each(wake),
                Freed::Lane(lane) => wake(&doors[lane as usize]),
            }
        };
        let budget = Budget::new(40, share, Box::new(on_freed));
        let (deliver, delivered) = channel::<Permit>();
        let sink = std::thread::spawn(move || delivered.into_iter().for_each(drop));
        let deadline = Instant::now() + Duration::from_secs(60);
        let readers: Vec<_> = (0..LANES)
            .zip(sleepers)
            .map(|(lane, sleeper)| {
                let (share, deliver) = (budget.share(lane), deliver.clone());
                std::thread::spawn(move || {
                    for batch in 0..BATCHES {
                        let mut permit = loop {
                            if let Some(permit) = share.try_take(10) {
                                break permit;
                            }
                            let left = deadline.saturating_duration_since(Instant::now());
                            sleeper.recv_timeout(left).expect("a wake-up was lost");
                        };
                        permit.resize(1 + batch % 10);
                        deliver.send(permit).unwrap();
                    }
                })
            })
            .collect();
        drop(deliver);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        sink.join().unwrap();
        assert_eq!(budget.used(), 0);
    }
}
