//! Who a file is, whatever the surroundings allow the agent to ask of it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use collector::{
    checkpoint::{Change, Store},
    identity::FileId,
};
use serde_json::Value;

use crate::{
    harness::{Agent, World, assert_exactly_once, body, in_every_mode},
    seccomp::without_handles,
};

in_every_mode!(
    a_runtime_that_refuses_handles_changes_no_id,
    files_rotated_between_profiles_are_collected_once,
    a_state_of_the_version_before_is_taken_over,
);

fn start_without_handles(world: &World) -> Agent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    without_handles(&mut command);
    world.start_by(command)
}

/// The part of a uid that names the file.
fn file_of(record: &Value) -> &str {
    record["log.record.uid"].as_str().unwrap().split_once('-').unwrap().0
}

fn a_runtime_that_refuses_handles_changes_no_id(world: World) {
    let mut container = world.container("a");
    let mut total = 0;
    for round in 0..4 {
        let agent = if round % 2 == 0 { world.start() } else { start_without_handles(&world) };
        container.write(100);
        total += 100;
        world.wait_for(total);
        assert_eq!(agent.stop(), Some(0));
    }
    let records = world.records();
    assert_exactly_once(&records, &container);
    let files: HashSet<&str> = records.iter().map(file_of).collect();
    assert_eq!(files.len(), 1, "one file, one id");
    assert_eq!(world.audit().0, 0);
}

fn files_rotated_between_profiles_are_collected_once(world: World) {
    let mut container = world.container("a");
    let agent = start_without_handles(&world);
    container.write(100);
    world.wait_for(100);
    agent.kill();
    container.write(10);
    container.rotate();
    container.write(10);
    let agent = world.start();
    world.wait_for(120);
    container.rotate();
    container.write(10);
    world.wait_for(130);
    agent.kill();
    container.write(10);
    let rotated = container.rotate();
    container.write(10);
    container.compress(&rotated);
    let agent = start_without_handles(&world);
    world.wait_for(150);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

/// The version before made the handle a part of the id, so its ids are none that this one makes.
fn a_state_of_the_version_before_is_taken_over(world: World) {
    let mut container = world.container("a");
    let agent = world.start();
    container.write(50);
    container.rotate();
    container.write(50);
    fs::write(world.path("plain/x.log"), "one\n").unwrap();
    world.wait_for(101);
    assert_eq!(agent.stop(), Some(0));
    let former = |id: FileId| FileId(id.0 ^ 0x5555);
    let (mut store, recovered) = Store::open(&world.path("state")).unwrap();
    let mut changes = Vec::new();
    for mut entry in recovered.entries {
        changes.push(Change::Forget(entry.id));
        entry.id = former(entry.id);
        changes.push(Change::File(Box::new(entry)));
    }
    assert_eq!(changes.len(), 6);
    store.commit(changes).unwrap();
    drop(store);
    let before = world.records();
    let agent = world.start();
    container.write(50);
    File::options()
        .append(true)
        .open(world.path("plain/x.log"))
        .unwrap()
        .write_all(b"two\n")
        .unwrap();
    let records = world.wait_for(152);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
    let id = |record: &Value| FileId(u64::from_str_radix(file_of(record), 16).unwrap());
    let old: HashSet<FileId> = before.iter().map(|record| former(id(record))).collect();
    assert!(records[101..].iter().all(|record| old.contains(&id(record))), "it goes on as it was");
    assert_eq!(world.audit().0, 0);
}

/// A filesystem of its own in a file, mounted.
struct Loop {
    image: PathBuf,
    at: PathBuf,
}

impl Loop {
    /// One that keeps no birth times: its inodes have no room for them.
    fn without_birth_times(image: PathBuf, at: PathBuf) -> Option<Self> {
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-I", "128"]).arg(&image).status();
        let made = made.is_ok_and(|status| status.success());
        made.then(|| Self::mount(image, at)).flatten()
    }

    fn mount(image: PathBuf, at: PathBuf) -> Option<Self> {
        let _there = fs::create_dir(&at);
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: a loop device needs root");
            return None;
        }
        Some(Self { image, at })
    }

    fn unmount(self) -> PathBuf {
        self.image.clone()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Lazily: a test that failed may hold files open.
        let _gone = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn world_of(paths: &[&Path]) -> World {
    let mut world = World::new("inotify");
    let paths: Vec<String> = paths.iter().map(|path| format!("\"{}\"", path.display())).collect();
    world.files = format!("    - paths: [{}]\n", paths.join(", "));
    world
}

/// The number of an inode that was deleted is given to the next file at once.
#[test]
fn without_birth_times_a_reused_inode_is_somebody_else() {
    for handles in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let Some(_disk) = Loop::without_birth_times(dir.path().join("image"), disk.clone()) else {
            return;
        };
        let world = world_of(&[&disk.join("*.log")]);
        let start = || if handles { world.start() } else { start_without_handles(&world) };
        let mut wanted = Vec::new();
        let mut agent = start();
        for round in 0..12 {
            // Of equal length, so that a size tells nothing.
            let line = format!("round {round:02}");
            fs::write(disk.join("app.log"), format!("{line}\n")).unwrap();
            wanted.push(line);
            if round % 3 == 2 {
                // Replaced while no agent looks.
                world.wait_for(wanted.len());
                assert_eq!(agent.stop(), Some(0));
                fs::remove_file(disk.join("app.log")).unwrap();
                let line = format!("while down {round:02}");
                fs::write(disk.join("app.log"), format!("{line}\n")).unwrap();
                wanted.push(line);
                agent = start();
            }
            world.wait_for(wanted.len());
            fs::remove_file(disk.join("app.log")).unwrap();
        }
        assert_eq!(agent.stop(), Some(0));
        let records = world.records();
        let bodies: Vec<&str> = records.iter().map(body).collect();
        assert_eq!(bodies, wanted, "with handles: {handles}");
        let uids: HashSet<String> =
            records.iter().map(|record| record["log.record.uid"].to_string()).collect();
        assert_eq!(uids.len(), wanted.len(), "with handles: {handles}");
    }
}

/// Without a birth time and without a handle a file goes on being itself.
#[test]
fn without_birth_times_and_handles_a_file_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let Some(_disk) = Loop::without_birth_times(dir.path().join("image"), disk.clone()) else {
        return;
    };
    let world = world_of(&[&disk.join("*.log*")]);
    let mut wanted = 0;
    for (round, handles) in [true, false, false, true, false].into_iter().enumerate() {
        let agent = if handles { world.start() } else { start_without_handles(&world) };
        let live = disk.join("app.log");
        let mut file = File::options().create(true).append(true).open(&live).unwrap();
        for n in 0..50 {
            writeln!(file, "{round} {n}").unwrap();
        }
        wanted += 50;
        world.wait_for(wanted);
        agent.kill();
        fs::rename(&live, disk.join(format!("app.log.{}", 5 - round))).unwrap();
    }
    let agent = world.start();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let bodies: HashSet<String> = world.records().iter().map(|r| body(r).to_owned()).collect();
    assert_eq!((world.records().len(), bodies.len()), (wanted, wanted));
}

/// Two devices, one a copy of the other: inode numbers and birth times are the same.
#[test]
fn the_same_inode_on_two_devices_is_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (first, second) = (path("first"), path("second"));
    File::create(path("image")).unwrap().set_len(16 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-I", "256"]).arg(path("image")).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no mkfs.ext4");
        return;
    }
    let Some(disk) = Loop::mount(path("image"), first.clone()) else { return };
    fs::write(first.join("x.log"), "of both\n").unwrap();
    let image = disk.unmount();
    fs::copy(&image, path("copy")).unwrap();
    let append = |at: &Path, text: &str| {
        let mut file = File::options().append(true).open(at.join("x.log")).unwrap();
        writeln!(file, "{text}").unwrap();
    };
    let world = world_of(&[&first.join("*.log"), &second.join("*.log")]);
    let mut wanted = vec!["of both".to_owned(), "of both".to_owned()];
    for round in 0..4 {
        // A reboot may give each the other's device number.
        let mut mounts = [(&image, &first), (&path("copy"), &second)]
            .map(|(image, at)| (image.clone(), at.clone()));
        if round % 2 == 1 {
            mounts.reverse();
        }
        let _disks: Vec<Loop> =
            mounts.into_iter().filter_map(|(image, at)| Loop::mount(image, at)).collect();
        let agent = world.start();
        for (name, at) in [("first", &first), ("second", &second)] {
            let text = format!("{name} {}", "x".repeat(round * 7));
            append(at, &text);
            wanted.push(text);
        }
        world.wait_for(wanted.len());
        assert_eq!(agent.stop(), Some(0));
    }
    let records = world.records();
    let mut bodies: Vec<String> = records.iter().map(|record| body(record).to_owned()).collect();
    bodies.sort();
    wanted.sort();
    assert_eq!(bodies, wanted);
    let uids: HashSet<String> =
        records.iter().map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), wanted.len());
}
