//! What was committed is there again; what was not wholly written was never there.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use proptest::prelude::*;

use super::world::{PLAIN, POSITIONED, World, commits, entry, moved, sample_commits};
use crate::checkpoint::{Change, Recovered, State, Store, journal};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_commits_is_there_after_reopening(
        commits in commits(),
        reopen in prop::collection::vec(any::<bool>(), 25),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let mut world = World::default();
        let mut expected = State::default();
        let (mut store, recovered) = Store::open(temp.path()).unwrap();
        prop_assert!(recovered.fresh);
        for (ops, reopen) in commits.iter().zip(reopen) {
            let changes = world.live(ops);
            store.commit(changes.clone()).unwrap();
            changes.into_iter().for_each(|change| expected.apply(change));
            if reopen {
                drop(store);
                store = Store::open(temp.path()).unwrap().0;
            }
            prop_assert_eq!(store.state(), &expected);
        }
        world.check_safe(&expected).unwrap();
        let (store, recovered) = Store::open(temp.path()).unwrap();
        prop_assert_eq!(store.state(), &expected);
        prop_assert!(recovered.damage.is_empty() && !recovered.fresh);
        let looked = Store::read(temp.path()).unwrap();
        prop_assert!(recovered.written.is_some());
        prop_assert_eq!(looked, Recovered { written: None, ..recovered });
    }
}

/// The journal of the sample history, and the state and the journal's length after each commit.
fn sample_journal() -> (Vec<u8>, Vec<(usize, State)>) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("checkpoint");
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let mut world = World::default();
    let mut states = vec![(fs::read(&path).unwrap().len(), State::default())];
    for ops in sample_commits() {
        store.commit(world.live(&ops)).unwrap();
        states.push((fs::read(&path).unwrap().len(), store.state().clone()));
    }
    (fs::read(&path).unwrap(), states)
}

#[test]
fn journal_cut_at_any_byte_holds_exactly_the_whole_commits() {
    let (bytes, states) = sample_journal();
    let header = states[0].0;
    for cut in 0..=bytes.len() {
        let recovery = journal::recover(&bytes[..cut]);
        let whole = states.iter().rev().find(|(len, _)| *len <= cut);
        let expected = whole.map_or_else(State::default, |(_, state)| state.clone());
        assert_eq!(recovery.state, expected, "cut at {cut}");
        assert_eq!(recovery.is_damaged(), cut < header, "cut at {cut}");
        assert_eq!(recovery.whole_len, whole.map_or(0, |(len, _)| *len), "cut at {cut}");
    }
}

#[test]
fn commits_go_on_after_a_torn_record() {
    let (bytes, states) = sample_journal();
    let after_header = states[0].0 + 1..bytes.len();
    for cut in after_header.step_by(29) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("checkpoint"), &bytes[..cut]).unwrap();
        let (mut store, recovered) = Store::open(temp.path()).unwrap();
        assert!(recovered.damage.is_empty() && !recovered.fresh);
        // Shorter than most of the torn records, so that it cannot just cover them.
        store.commit(vec![Change::Total { name: "n".into(), value: 1 }]).unwrap();
        let expected = store.state().clone();
        drop(store);
        let (store, recovered) = Store::open(temp.path()).unwrap();
        assert!(recovered.damage.is_empty(), "cut at {cut}: {:?}", recovered.damage);
        assert_eq!(store.state(), &expected, "cut at {cut}");
    }
}

#[test]
fn leftover_of_an_unfinished_rewrite_is_ignored_and_removed() {
    let (bytes, states) = sample_journal();
    let stale = &bytes[..states[3].0];
    for leftover in [&b""[..], &stale[..stale.len() / 2], stale, b"\0\0\0\n garbage"] {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("checkpoint"), &bytes).unwrap();
        fs::write(temp.path().join("checkpoint.new"), leftover).unwrap();
        let (store, recovered) = Store::open(temp.path()).unwrap();
        assert_eq!(store.state(), &states.last().unwrap().1);
        assert!(recovered.damage.is_empty());
        assert!(!temp.path().join("checkpoint.new").exists());
    }
}

#[test]
fn journal_stays_bounded_and_rewriting_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let files = 300;
    let born: Vec<Change> = (0..files).map(|n| Change::File(Box::new(entry(n)))).collect();
    store.commit(born).unwrap();
    let (mut longest, mut written) = (0, 0);
    for round in 1..=200_u64 {
        let mut changes: Vec<Change> =
            (0..files).map(|n| moved(n, POSITIONED, round * 1000 + n)).collect();
        changes.push(Change::Position { sink: POSITIONED.into(), position: round.to_string() });
        written += serde_json::to_vec(&changes).unwrap().len() as u64;
        store.commit(changes).unwrap();
        longest = longest.max(fs::metadata(temp.path().join("checkpoint")).unwrap().len());
    }
    assert!(written > 3 << 20, "{written} bytes are too few to be rewritten several times");
    assert!(longest < (1 << 20) + (64 << 10), "the journal grew to {longest} bytes");
    let expected = store.state().clone();
    assert_eq!(expected.entries.len() as u64, files);
    drop(store);
    let (store, recovered) = Store::open(temp.path()).unwrap();
    assert_eq!(store.state(), &expected);
    assert!(recovered.damage.is_empty());
}

#[test]
fn reader_beside_a_writer_sees_only_whole_commits() {
    let temp = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let files = 200;
    store.commit((0..files).map(|n| Change::File(Box::new(entry(n)))).collect()).unwrap();
    let done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Over 1 MiB, so that the journal is replaced under the reader too.
            for round in 1..=150_u64 {
                let mut changes: Vec<Change> = (0..files).map(|n| moved(n, PLAIN, round)).collect();
                changes.push(Change::Total { name: "round".into(), value: round });
                store.commit(changes).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let (mut last, mut looks) = (0, 0);
        while !done.load(Ordering::Acquire) {
            let seen = Store::read(temp.path()).unwrap();
            assert!(seen.damage.is_empty(), "{:?}", seen.damage);
            let round = seen.totals.get("round").copied().unwrap_or(0);
            assert!(round >= last, "{round} after {last}");
            for entry in &seen.entries {
                let settled = entry.sinks.get(PLAIN).map_or(0, |offset| offset.settled);
                assert_eq!(settled, round, "half a commit was seen");
            }
            last = round;
            looks += 1;
        }
        looks
    });
    assert!(looks > 5, "only {looks} looks");
    assert_eq!(Store::read(temp.path()).unwrap().totals["round"], 150);
}

#[test]
fn ten_thousand_offsets_are_committed_in_one_small_record() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("checkpoint");
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let files = 10_000;
    store.commit((0..files).map(|n| Change::File(Box::new(entry(n)))).collect()).unwrap();
    drop(store);
    let before = fs::metadata(&path).unwrap().len();
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let changes: Vec<Change> =
        (0..files).map(|n| moved(n, "archive", 10_000_000 + 7919 * n)).collect();
    let begun = Instant::now();
    store.commit(changes).unwrap();
    let took = begun.elapsed();
    let bytes = fs::metadata(&path).unwrap().len() - before;
    drop(store);
    let begun = Instant::now();
    let (store, _) = Store::open(temp.path()).unwrap();
    println!(
        "10,000 files: {} B of entries; 10,000 offsets committed in {:.1} ms, {bytes} B; \
         reopened in {:.1} ms",
        before,
        took.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64() * 1e3
    );
    assert_eq!(store.state().entries[&entry(1).id].sinks["archive"].settled, 10_007_919);
    assert!(bytes < 1_000_000, "{bytes} bytes");
    // Unoptimised, on a busy machine, fsync included: an order of magnitude above what it takes.
    assert!(took.as_secs_f64() < 3.0, "{took:?}");
}
