//! Damage costs a resend, is said, and never moves an offset ahead.

use std::fs;

use proptest::prelude::*;

use super::world::{Op, POSITIONED, World, commits, entry, moved, sample_commits};
use crate::checkpoint::{Change, Damage, State, Store, journal};

/// A journal of these commits, rewritten after one of them, and the world behind it.
fn journal_of(commits: &[Vec<Op>], rewritten_after: usize) -> (Vec<u8>, World, State) {
    let mut world = World::default();
    let mut bytes = Vec::new();
    let mut state = State::default();
    journal::encode_header(&mut bytes);
    for (index, ops) in commits.iter().enumerate() {
        let changes = world.live(ops);
        let owed = state.positions_owed(&changes);
        journal::encode_record(&changes, &owed, &mut bytes);
        changes.into_iter().for_each(|change| state.apply(change));
        if index == rewritten_after {
            bytes.clear();
            journal::encode_header(&mut bytes);
            for record in state.as_records(1) {
                journal::encode_record(&record, &[], &mut bytes);
            }
        }
    }
    (bytes, world, state)
}

#[test]
fn any_flipped_byte_is_reported_and_moves_no_offset_ahead() {
    let last = sample_commits().len() - 1;
    for rewritten_after in [5, last, usize::MAX] {
        let (bytes, world, whole) = journal_of(&sample_commits(), rewritten_after);
        world.check_safe(&whole).unwrap();
        assert_eq!(journal::recover(&bytes).state, whole);
        flip_each_byte(&bytes, &world);
    }
}

fn flip_each_byte(bytes: &[u8], world: &World) {
    let mut damaged = bytes.to_vec();
    for at in 0..bytes.len() {
        for byte in [bytes[at] ^ 1, bytes[at] ^ 0x20, bytes[at] ^ 0x80, b'\n', b' ', b'0', 0] {
            if byte == bytes[at] {
                continue;
            }
            damaged[at] = byte;
            let recovery = journal::recover(&damaged);
            assert!(recovery.is_damaged(), "byte {at} as {byte:#x} went unnoticed");
            world
                .check_safe(&recovery.state)
                .unwrap_or_else(|error| panic!("byte {at} as {byte:#x}: {error}"));
        }
        damaged[at] = bytes[at];
    }
}

/// One accident to a journal.
#[derive(Debug, Clone)]
enum Accident {
    Overwrite(prop::sample::Index, Vec<u8>),
    Zero(prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    RemoveRecord(prop::sample::Index),
}

fn accident() -> impl Strategy<Value = Accident> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), prop::collection::vec(any::<u8>(), 1..80))
            .prop_map(|(a, b)| Accident::Overwrite(a, b)),
        (at(), 1..600_usize).prop_map(|(at, count)| Accident::Zero(at, count)),
        (at(), 1..600_usize).prop_map(|(at, count)| Accident::Remove(at, count)),
        at().prop_map(Accident::RemoveRecord),
    ]
}

fn happen(accident: &Accident, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match accident {
        Accident::Overwrite(at, with) => {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + with.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Accident::Zero(at, count) => {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + count);
            bytes[at..end].fill(0);
        }
        Accident::Remove(at, count) => {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + count);
            bytes.drain(at..end);
        }
        Accident::RemoveRecord(which) => {
            let mut lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines.remove(which.index(lines.len()));
            *bytes = lines.concat();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_accident_moves_an_offset_ahead(
        commits in commits(),
        rewritten_after in any::<prop::sample::Index>(),
        accidents in prop::collection::vec(accident(), 1..4),
    ) {
        let (mut bytes, world, _) = journal_of(&commits, rewritten_after.index(commits.len()));
        accidents.iter().for_each(|accident| happen(accident, &mut bytes));
        let recovery = journal::recover(&bytes);
        prop_assert_eq!(world.check_safe(&recovery.state), Ok(()));
    }

    #[test]
    fn garbage_is_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let recovery = journal::recover(&bytes);
        prop_assert!(recovery.is_damaged());
        prop_assert_eq!(recovery.state, State::default());
    }
}

/// The trap that `positions_owed` is there for: the record that moved offset and position together
/// is damaged, a later one repeats the offset as part of the file's entry.
#[test]
fn renamed_files_offset_does_not_outlive_its_position() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("checkpoint");
    let (mut store, _) = Store::open(temp.path()).unwrap();
    let position = |at: &str| Change::Position { sink: POSITIONED.into(), position: at.into() };
    store.commit(vec![Change::File(Box::new(entry(1)))]).unwrap();
    store.commit(vec![moved(1, POSITIONED, 10), position("10")]).unwrap();
    let begin = fs::metadata(&path).unwrap().len() as usize;
    store.commit(vec![moved(1, POSITIONED, 20), position("20")]).unwrap();
    let mut renamed = store.state().entries[&entry(1).id].clone();
    renamed.name = "0.log.20261101-101112".into();
    store.commit(vec![Change::File(renamed)]).unwrap();
    drop(store);

    let mut bytes = fs::read(&path).unwrap();
    bytes[begin + 40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (_, recovered) = Store::open(temp.path()).unwrap();
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.entries[0].sinks[POSITIONED].settled, 20);
    assert_eq!(recovered.positions[POSITIONED], "20");
}

/// Opens a directory whose checkpoint has these bytes; checks that it is said, kept, and mended.
fn open_damaged(bytes: &[u8]) -> (State, Damage) {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("checkpoint"), bytes).unwrap();
    let looked = Store::read(temp.path()).unwrap();
    assert_eq!(looked.damage.len(), 1, "a look at it does not say so");
    let (mut store, mut recovered) = Store::open(temp.path()).unwrap();
    assert!(!recovered.fresh, "a damaged checkpoint must not look like a first start");
    assert_eq!(recovered.damage.len(), 1);
    let damage = recovered.damage.remove(0);
    assert_eq!(looked.damage[0].what, damage.what);
    assert_eq!(fs::read(damage.set_aside.as_ref().unwrap()).unwrap(), bytes);
    let state = store.state().clone();
    store.commit(vec![Change::File(Box::new(entry(7)))]).unwrap();
    let expected = store.state().clone();
    drop(store);
    let (store, recovered) = Store::open(temp.path()).unwrap();
    assert!(recovered.damage.is_empty(), "said twice: {:?}", recovered.damage);
    assert_eq!(store.state(), &expected);
    (state, damage)
}

#[test]
fn damaged_record_is_skipped_kept_beside_and_said_once() {
    let (mut bytes, world, whole) = journal_of(&sample_commits(), 5);
    let in_last_record = bytes.len() - 100;
    bytes[in_last_record] ^= 4;
    let (state, damage) = open_damaged(&bytes);
    world.check_safe(&state).unwrap();
    assert!(!state.entries.is_empty(), "one flipped bit cost everything");
    assert_ne!(state, whole);
    assert!(damage.what.contains("1 stretches are not"), "{damage}");
    assert!(damage.to_string().contains("checkpoint.damaged-"), "{damage}");
}

#[test]
fn damaged_header_costs_nothing_else() {
    let (mut bytes, _, whole) = journal_of(&sample_commits(), 5);
    bytes[20] ^= 4;
    let (state, _) = open_damaged(&bytes);
    assert_eq!(state, whole);
}

/// Whatever stands in the place of its bytes, its LF included.
#[test]
fn no_byte_of_the_header_costs_anything_else() {
    let (bytes, _, whole) = journal_of(&sample_commits(), 5);
    let header = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    for at in 0..=header {
        for byte in [bytes[at] ^ 1, bytes[at] ^ 0x80, b' ', b'9', 0] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            let recovery = journal::recover(&damaged);
            assert_eq!(recovery.state, whole, "byte {at} as {byte:#x}");
            assert_eq!(recovery.is_damaged(), byte != bytes[at], "byte {at} as {byte:#x}");
        }
    }
}

/// A record whose checksum is right and that says what this version does not know is as long as it says.
#[test]
fn the_end_of_a_record_that_nobody_understands_costs_nothing_else() {
    let (mut bytes, _, _) = journal_of(&sample_commits(), 5);
    let json = r#"[{"of_a_later_version":[1,2]}]"#;
    let record = format!("{:08x} {} {json}\n", crc32c::crc32c(json.as_bytes()), json.len());
    bytes.extend_from_slice(record.as_bytes());
    let end = bytes.len() - 1;
    let kept = Change::Total { name: "kept".into(), value: 7 };
    journal::encode_record(&[kept], &[], &mut bytes);
    for byte in [b'\n', b' ', b'0', 0, 0xff] {
        bytes[end] = byte;
        let recovery = journal::recover(&bytes);
        assert_eq!(recovery.state.totals.get("kept"), Some(&7), "{byte:#x}");
        let damaged = end + 1 - record.len()..end + 1;
        assert_eq!(recovery.damaged.len(), 1, "{byte:#x}");
        assert_eq!(recovery.damaged[0], damaged, "{byte:#x}");
    }
}

#[test]
fn torn_tail_after_damage_is_cut_off_too() {
    let (mut bytes, _, _) = journal_of(&sample_commits(), 5);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    bytes.truncate(bytes.len() - 3);
    open_damaged(&bytes);
}

#[test]
fn empty_checkpoint_is_damage_and_not_a_first_start() {
    let (state, damage) = open_damaged(b"");
    assert_eq!(state, State::default());
    assert!(damage.what.contains("is empty"), "{damage}");
}

#[test]
fn garbage_and_zeros_in_the_checkpoints_place_are_damage() {
    for bytes in [&b"# not a checkpoint\n"[..], &[0; 5000], b"\n\n\n", b"0 0 0"] {
        let (state, _) = open_damaged(bytes);
        assert_eq!(state, State::default());
    }
}

#[test]
fn other_format_version_is_set_aside_unused() {
    for version in [0, 2, u32::MAX] {
        let (bytes, _, _) = journal_of(&sample_commits(), 5);
        let json = format!(r#"{{"everyline":"checkpoint","version":{version},"more":[1]}}"#);
        let mut other =
            format!("{:08x} {} {json}\n", crc32c::crc32c(json.as_bytes()), json.len()).into_bytes();
        let records = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        other.extend_from_slice(&bytes[records..]);
        let (state, damage) = open_damaged(&other);
        assert_eq!(state, State::default());
        assert!(damage.what.contains(&format!("version {version} ")), "{damage}");
    }
}
