//! Disks that are full or read-only, and directories that are not there. Small filesystems are
//! mounted for it, which takes root; elsewhere those tests say that they were skipped.

use std::{fs, io, path::Path, process::Command};

use super::world::{POSITIONED, entry, moved};
use crate::checkpoint::{Change, State, Store};

/// A tmpfs, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(test: &str, options: &str) -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(temp.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(temp)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                println!("skipped: {test}: cannot mount a tmpfs: {}", why.trim());
                None
            }
            Err(error) => {
                println!("skipped: {test}: cannot run mount: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A mount left behind would outlive the test; a lazy unmount always succeeds.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount");
    }
}

#[test]
fn full_disk_costs_no_offset_and_commits_go_on_when_there_is_space() {
    let Some(disk) = Mount::new("full_disk", "size=64k,mode=0700") else { return };
    let (mut store, _) = Store::open(disk.path()).unwrap();
    store.commit(vec![Change::File(Box::new(entry(1)))]).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 32 << 10]).unwrap();

    // Records larger than a page, so that some are cut off in their middle by the full disk.
    let record = |round: u64| -> Vec<Change> {
        let position = Change::Position { sink: POSITIONED.into(), position: "x".repeat(3000) };
        vec![moved(1, POSITIONED, round), position]
    };
    let len = || fs::metadata(disk.path().join("checkpoint")).unwrap().len();
    let mut round = 0;
    let error = loop {
        round += 1;
        assert!(round < 100, "64 KiB never filled up");
        let before = store.state().clone();
        let len_before = len();
        if let Err(error) = store.commit(record(round)) {
            assert_eq!(store.state(), &before, "a failed commit changed the state");
            assert_eq!(len(), len_before, "half a record takes up space");
            break error;
        }
    };
    assert!(error.to_string().contains("Free some space"), "{error}");
    assert!(round > 2, "full at once");
    for _ in 0..3 {
        store.commit(record(round)).unwrap_err();
    }
    let committed: State = store.state().clone();
    let seen = Store::read(disk.path()).unwrap();
    assert!(seen.damage.is_empty(), "{:?}", seen.damage);
    assert_eq!(seen.entries[0].sinks[POSITIONED].settled, round - 1);

    // A restart on the full disk.
    drop(store);
    let (mut store, recovered) = Store::open(disk.path()).unwrap();
    assert!(recovered.damage.is_empty());
    assert_eq!(store.state(), &committed);
    store.commit(record(round)).unwrap_err();

    fs::remove_file(&ballast).unwrap();
    // Short and without the position, which the store has to know itself.
    store.commit(vec![moved(1, POSITIONED, round)]).unwrap();
    drop(store);
    let (store, recovered) = Store::open(disk.path()).unwrap();
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(store.state().entries[&entry(1).id].sinks[POSITIONED].settled, round);
}

#[test]
fn on_a_disk_that_others_filled_commits_go_on_for_a_while() {
    let Some(disk) = Mount::new("room_kept", "size=64m,mode=0700") else { return };
    let commits_on_the_full_disk = |store: &mut Store, files: std::ops::Range<u64>| {
        let mut ballast = fs::File::create(disk.path().join("ballast")).unwrap();
        while io::Write::write_all(&mut ballast, &[1; 4096]).is_ok() {}
        for id in files {
            store.commit(vec![Change::File(Box::new(entry(id)))]).unwrap();
        }
        drop(ballast);
        fs::remove_file(disk.path().join("ballast")).unwrap();
        // A busy machine may take a moment to give the room back.
        let is_free =
            || rustix::fs::statvfs(disk.path()).is_ok_and(|it| it.f_bavail > it.f_blocks / 2);
        for _ in 0..5_000 {
            if is_free() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the disk stays full");
    };
    let (mut store, _) = Store::open(disk.path()).unwrap();
    commits_on_the_full_disk(&mut store, 0..200);
    // After a restart, and after a rewrite, there is room again.
    drop(store);
    let (mut store, _) = Store::open(disk.path()).unwrap();
    commits_on_the_full_disk(&mut store, 200..400);
    store.compact().unwrap();
    store.commit(vec![Change::File(Box::new(entry(400)))]).unwrap();
    commits_on_the_full_disk(&mut store, 401..600);
    // Room that was used up is kept again.
    for round in 0..100 {
        store.commit((0..50).map(|id| moved(id, POSITIONED, round)).collect()).unwrap();
    }
    commits_on_the_full_disk(&mut store, 600..800);
    drop(store);
    let recovered = Store::read(disk.path()).unwrap();
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(recovered.entries.len(), 800);
}

#[test]
fn damaged_checkpoint_on_a_full_disk_is_used_as_far_as_it_is_good() {
    let Some(disk) = Mount::new("damaged_on_full_disk", "size=64k,mode=0700") else { return };
    let path = disk.path().join("checkpoint");
    let (mut store, _) = Store::open(disk.path()).unwrap();
    store.commit(vec![Change::File(Box::new(entry(1)))]).unwrap();
    store.commit(vec![moved(1, POSITIONED, 5)]).unwrap();
    store.commit(vec![moved(1, POSITIONED, 6)]).unwrap();
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let second_last = bytes.len() - 100;
    bytes[second_last] ^= 1;
    bytes.truncate(bytes.len() - 10);
    fs::write(&path, &bytes).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 64 << 10]).unwrap_err();

    let (mut store, recovered) = Store::open(disk.path()).unwrap();
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.entries.len(), 1);
    fs::remove_file(&ballast).unwrap();
    store.commit(vec![moved(1, POSITIONED, 9)]).unwrap();
    drop(store);
    let (store, _) = Store::open(disk.path()).unwrap();
    assert_eq!(store.state().entries[&entry(1).id].sinks[POSITIONED].settled, 9);
}

#[test]
fn full_disk_only_delays_the_rewriting_of_a_long_journal() {
    let Some(disk) = Mount::new("full_disk_rewrite", "size=3m,mode=0700") else { return };
    let (mut store, _) = Store::open(disk.path()).unwrap();
    let files = 500;
    store.commit((0..files).map(|n| Change::File(Box::new(entry(n)))).collect()).unwrap();
    let round = |settled: u64| -> Vec<Change> {
        (0..files).map(|n| moved(n, POSITIONED, settled)).collect()
    };
    // The journal is rewritten beyond 1 MiB; leave space to reach that, but none for the new file.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; (3 << 20) - (1 << 20) - (80 << 10)]).unwrap();
    let mut settled = 1;
    while store.commit(round(settled)).is_ok() {
        settled += 1;
        assert!(settled < 1000);
    }
    let long = fs::metadata(disk.path().join("checkpoint")).unwrap().len();
    assert!(long > 1 << 20, "it was rewritten, or full before its time: {long} bytes");
    assert!(!disk.path().join("checkpoint.new").exists(), "half a rewrite takes up space");
    let seen = Store::read(disk.path()).unwrap();
    assert!(seen.entries.iter().all(|entry| entry.sinks[POSITIONED].settled == settled - 1));

    fs::remove_file(&ballast).unwrap();
    for settled in settled..settled + 40 {
        store.commit(round(settled)).unwrap();
    }
    let short = fs::metadata(disk.path().join("checkpoint")).unwrap().len();
    assert!(short < long, "{short} bytes");
}

#[test]
fn read_only_disk_is_said_with_what_to_do() {
    let Some(disk) = Mount::new("read_only", "size=64k,ro") else { return };
    for dir in [disk.path().to_owned(), disk.path().join("state")] {
        let error = Store::open(&dir).unwrap_err().to_string();
        assert!(error.contains("Mount it writable"), "{error}");
        assert!(error.contains(&*disk.path().to_string_lossy()), "{error}");
    }
}

#[test]
fn read_only_disk_can_be_looked_at_but_not_opened() {
    let Some(disk) = Mount::new("read_only_look", "size=64k") else { return };
    let (mut store, _) = Store::open(disk.path()).unwrap();
    store.commit(vec![Change::File(Box::new(entry(1)))]).unwrap();
    drop(store);
    let remounted =
        Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remounted.success());
    assert_eq!(Store::read(disk.path()).unwrap().entries.len(), 1);
    let error = Store::open(disk.path()).unwrap_err().to_string();
    assert!(error.contains("Mount it writable"), "{error}");
}

#[test]
fn missing_directory_is_created_private_and_a_first_start() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("var/lib/everyline");
    assert!(Store::read(&dir).unwrap().fresh);
    let (store, recovered) = Store::open(&dir).unwrap();
    assert!(recovered.fresh && recovered.damage.is_empty());
    assert_eq!(store.state(), &State::default());
    for (path, mode) in [(dir.clone(), 0o700), (dir.join("checkpoint"), 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn directory_in_the_checkpoints_place_is_said() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("checkpoint")).unwrap();
    let error = Store::open(temp.path()).unwrap_err().to_string();
    assert!(error.contains("Something else stands there"), "{error}");
}
