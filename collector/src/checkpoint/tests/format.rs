//! The format on disk stays what it is, whatever becomes of the types in memory.

use std::path::Path;

use crate::{
    checkpoint::{Change, CopyOf, FileEntry, Offset, Offsets, State, journal},
    identity::{FileId, KernelInode, guard::Guard, sys::Handle},
};

/// Byte for byte what the first release with this format wrote.
const AS_WRITTEN_BEFORE: &str = r#"704314f0 38 {"everyline":"checkpoint","version":1}
5c10b172 598 [{"file":{"id":"0011dd3d4ae67db7","source":"/var/log/pods/shop_web-1_0d7e/app/0.log","name":"0.log","device":65024,"inode":1106642,"born_ns":1795526912167003247,"handle":[1,"d2e2100062121346"],"epoch":0,"fingerprint":10423633597823336554,"fingerprint_len":54,"size":54,"ended":false,"sinks":{"central":{"settled":0,"resume":0},"out":{"settled":54,"resume":50,"dropped":4,"lost":1}}}},{"file":{"id":"002dd861302b5ff8","source":"/var/log/caf�.log","name":"caf�.log.1","device":1,"inode":2,"born_ns":0,"handle":null,"epoch":3,"fingerprint":0,"fingerprint_len":0,"size":7,"ended":true,"sinks":{}}}]
eb3f9175 186 [{"offset":["0011dd3d4ae67db7","central",40,38,2,0,60]},{"position":{"sink":"out","position":"{\"length\":9}"}},{"total":{"name":"lost.deleted","value":5}},{"forget":"00000000000000ff"}]
"#;

#[test]
fn journal_of_a_former_build_is_read_and_written_alike() {
    let recovery = journal::recover(AS_WRITTEN_BEFORE.as_bytes());
    assert!(!recovery.is_damaged() && recovery.torn_len == 0);
    let state = recovery.state;
    let log = &state.entries[&FileId(0x0011_dd3d_4ae6_7db7)];
    assert_eq!(*log.source, *Path::new("/var/log/pods/shop_web-1_0d7e/app/0.log"));
    assert_eq!(log.handle, Some(Handle::new(1, &[0xd2, 0xe2, 0x10, 0, 0x62, 0x12, 0x13, 0x46])));
    assert_eq!((log.size, log.fingerprint_len, log.ended), (60, 54, false));
    let central = Offset { settled: 40, resume: 38, dropped: 2, lost: 0, ..Offset::default() };
    let out = Offset { settled: 54, resume: 50, dropped: 4, lost: 1, ..Offset::default() };
    assert!(log.sinks.iter().eq([(&"central".into(), &central), (&"out".into(), &out)]));
    let rotated = &state.entries[&FileId(0x002d_d861_302b_5ff8)];
    assert_eq!((&*rotated.name, rotated.epoch, rotated.ended), ("caf\u{fffd}.log.1", 3, true));
    assert_eq!(rotated.sinks, Offsets::default());
    assert_eq!(state.positions["out"], r#"{"length":9}"#);
    assert_eq!(state.totals["lost.deleted"], 5);

    let mut again = Vec::new();
    journal::encode_header(&mut again);
    for line in AS_WRITTEN_BEFORE.lines().skip(1) {
        let json = &line[line.find('[').unwrap()..];
        journal::encode_record(
            &serde_json::from_str::<Vec<Change>>(json).unwrap(),
            &[],
            &mut again,
        );
    }
    assert_eq!(String::from_utf8(again).unwrap(), AS_WRITTEN_BEFORE);
}

#[test]
fn what_a_copy_is_named_after_is_kept_as_long_as_its_entry() {
    let of = CopyOf { life: FileId(254), until: 60, cut: false };
    let file = super::world::entry(1).id;
    let copy = |of| Change::Copy { file, of };
    let json = serde_json::to_string(&copy(of)).unwrap();
    assert_eq!(
        json,
        format!(r#"{{"copy":{{"file":"{file}","of":{{"life":"00000000000000fe","until":60}}}}}}"#)
    );
    assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), copy(of));
    let cut = serde_json::to_string(&copy(CopyOf { cut: true, ..of })).unwrap();
    assert_eq!(cut, json.replace(":60}", r#":60,"cut":true}"#));

    let mut state = State::default();
    state.apply(copy(of));
    assert!(state.copies.is_empty(), "the file is not known");
    state.apply(Change::File(Box::new(super::world::entry(1))));
    state.apply(copy(of));
    // A snapshot has the two in one record.
    let records: Vec<_> = state.as_records(1).collect();
    let mut again = State::default();
    records.into_iter().flatten().for_each(|change| again.apply(change));
    assert_eq!((again.copies.get(&file), &again), (Some(&of), &state));
    state.apply(Change::Forget(file));
    assert!(state.copies.is_empty());
}

#[test]
fn offset_and_guard_belong_together() {
    let guard = Guard::of(b"the bytes before it");
    let offset = Offset { settled: 40, resume: 38, dropped: 2, lost: 0, guard };
    let moved = |offset| Change::Offset { file: FileId(255), sink: "out".into(), offset, size: 60 };
    let json = serde_json::to_string(&moved(offset)).unwrap();
    let bits = guard.to_bits();
    assert_eq!(json, format!(r#"{{"offset":["00000000000000ff","out",40,38,2,0,60,{bits}]}}"#));
    assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), moved(offset));
    let later = json.replace("]}", r#","more",[1]]}"#);
    assert_eq!(serde_json::from_str::<Change>(&later).unwrap(), moved(offset));
    let without = Offset { guard: Guard::NONE, ..offset };
    let former = json.replace(&format!(",{bits}]"), "]");
    assert_eq!(serde_json::from_str::<Change>(&former).unwrap(), moved(without));
    assert_eq!(serde_json::to_string(&moved(without)).unwrap(), former);
    serde_json::from_str::<Change>(&former.replace(",60]", "]")).unwrap_err();
}

#[test]
fn handle_that_is_not_hex_is_none() {
    let state = journal::recover(AS_WRITTEN_BEFORE.as_bytes()).state;
    let known = serde_json::to_string(&state.entries[&FileId(0x0011_dd3d_4ae6_7db7)]).unwrap();
    for odd in ["d2e", "xy", "d\u{e9}1"] {
        let read: FileEntry =
            serde_json::from_str(&known.replace("d2e2100062121346", odd)).unwrap();
        assert_eq!(read.handle, None, "{odd}");
    }
}

#[test]
fn files_that_the_kernel_told_are_short() {
    let gone = [(12, 34, 5), (u64::MAX, u32::MAX, 0)].map(KernelInode::from);
    let json = serde_json::to_string(&Change::Counted(gone.into())).unwrap();
    assert_eq!(json, r#"{"counted":[[12,34,5],[18446744073709551615,4294967295,0]]}"#);
    assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), Change::Counted(gone.into()));
}
