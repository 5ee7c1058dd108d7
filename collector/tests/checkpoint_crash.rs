//! A process that is killed at each named point of a commit (feature `failpoints`): what was
//! reported as committed is there at the next start, whole, and commits go on. The process is this
//! test binary itself, started again for the one test that plays the agent. A power cut is not
//! played here; the unit tests cut the journal at every byte instead.
#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test; the lint sees only the marked functions")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use collector::{
    checkpoint::{Change, CopyOf, FileEntry, Offset, Offsets, StateLock, Store},
    identity::FileId,
};

const FILES: u64 = 400;
const DIR: &str = "EVERYLINE_TEST_CRASH_DIR";

fn file(number: u64) -> FileEntry {
    FileEntry {
        id: FileId(number),
        source: PathBuf::from(format!("/var/log/pods/default_web_{number}/app/0.log")).into(),
        name: "0.log".into(),
        device: 1,
        inode: number,
        born_ns: 0,
        handle: None,
        epoch: 0,
        fingerprint: 0,
        fingerprint_len: 0,
        crc: 0,
        size: 0,
        truncated: 0,
        ended: false,
        sinks: Offsets::default(),
    }
}

fn copy_of(number: u64, round: u64) -> CopyOf {
    CopyOf { life: FileId(FILES + number), until: round, cut: round.is_multiple_of(2) }
}

/// Every file moved to `round`, and the sink's position with them.
fn round(round: u64) -> Vec<Change> {
    let offset = Offset { settled: round, resume: round, dropped: 0, lost: 0, ..Offset::default() };
    let moved = |n| Change::Offset { file: FileId(n), sink: "file".into(), offset, size: round };
    let position = Change::Position { sink: "file".into(), position: round.to_string() };
    // What a copy is named after goes with them.
    let named = |n| Change::Copy { file: FileId(n), of: copy_of(n, round) };
    (0..FILES).map(moved).chain((0..FILES).map(named)).chain([position]).collect()
}

/// Where a recovered directory stands; every file and the position must be at the same round.
fn standing(dir: &Path) -> u64 {
    let recovered = Store::read(dir).unwrap();
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    let position = recovered.positions.get("file").map_or(0, |text| text.parse().unwrap());
    assert_eq!(recovered.entries.len() as u64, FILES);
    for entry in &recovered.entries {
        assert_eq!(entry.sinks.get("file").map_or(0, |offset| offset.settled), position);
    }
    let named = (0..FILES).map(|n| (FileId(n), copy_of(n, position)));
    assert_eq!(recovered.copies, named.filter(|_| position > 0).collect());
    position
}

/// Plays the agent when started by [`crash_at`]; nothing by itself.
#[test]
fn agent() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    // A fail point panics; the process must end there and then, as by SIGKILL.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let _points = fail::FailScenario::setup();
    let dir = Path::new(&dir);
    let _lock = StateLock::acquire(dir).unwrap();
    let (mut store, _) = Store::open(dir).unwrap();
    let from = store.state().positions.get("file").map_or(0, |text| text.parse::<u64>().unwrap());
    for next in from + 1..from + 200 {
        store.commit(round(next)).unwrap();
        println!("committed {next}");
    }
}

/// Runs the agent until it dies at `point`, at the `passes + 1`st time it gets there. Returns the
/// last round that it reported.
fn crash_at(dir: &Path, point: &str, passes: u32) -> u64 {
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent", "--nocapture"])
        .env(DIR, dir)
        .env("FAILPOINTS", format!("{point}={passes}*off->panic"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut last = 0;
    for line in BufReader::new(agent.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness may have written the test's name on the same line.
        if let Some((_, number)) = line.split_once("committed ") {
            last = number.parse().unwrap();
        }
    }
    assert!(!agent.wait().unwrap().success(), "{point} was never reached");
    last
}

fn check(point: &str, passes: &[u32]) {
    let temp = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(temp.path()).unwrap();
    store.commit((0..FILES).map(|n| Change::File(Box::new(file(n)))).collect()).unwrap();
    drop(store);
    let mut reported = 0;
    for passes in passes {
        let last = crash_at(temp.path(), point, *passes);
        reported = last.max(reported);
        let stands = standing(temp.path());
        assert!(
            (reported..=reported + 1).contains(&stands),
            "{point}: {reported} was reported as committed, {stands} is there"
        );
    }
    let (mut store, recovered) = Store::open(temp.path()).unwrap();
    assert!(recovered.damage.is_empty());
    store.commit(round(100_000)).unwrap();
    assert_eq!(standing(temp.path()), 100_000);
}

#[test]
fn killed_after_the_append() {
    check("checkpoint.appended", &[0, 1, 7, 60]);
}

#[test]
fn killed_after_the_sync() {
    check("checkpoint.synced", &[0, 1, 7, 60]);
}

#[test]
fn killed_before_the_rename_of_a_rewritten_journal() {
    check("checkpoint.compact.written", &[0, 1, 2]);
}

#[test]
fn killed_after_the_rename_of_a_rewritten_journal() {
    check("checkpoint.compact.renamed", &[0, 1, 2]);
}
