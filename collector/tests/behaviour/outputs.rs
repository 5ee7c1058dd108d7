//! The `file` sink's files as others find them: under names that say how they are compressed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use collector::checkpoint::{Change, Store};
use serde_json::Value;

use crate::harness::{World, assert_exactly_once, patience};

/// A world whose output is compressed, in small files.
fn world(compression: &str) -> World {
    let mut world = World::new("auto");
    world.sinks = format!(
        "  out:\n    type: file\n    path: {}\n    rotate_size: 4KiB\n    keep: 0\n    compression: {compression}\n",
        world.path("out/out.ndjson").display()
    );
    world
}

/// Names in the output's directory, without their number.
fn names(world: &World) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(world.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_by_key(|name| number(name));
    names
}

/// The live file has none, and is the newest.
fn number(name: &str) -> u64 {
    name.split('.').find_map(|part| part.parse().ok()).unwrap_or(u64::MAX)
}

/// Every record, oldest file first, opened by the tool that its name asks for.
fn records(world: &World) -> Vec<Value> {
    let mut records = Vec::new();
    for name in names(world) {
        let path = world.path("out").join(&name);
        let bytes = match path.extension().and_then(|it| it.to_str()) {
            Some("zst") => zstd::decode_all(fs::File::open(&path).unwrap()).unwrap(),
            // Refuses a name that does not end so.
            Some("gz") => {
                let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                output.stdout
            }
            _ => fs::read(&path).unwrap(),
        };
        let text = String::from_utf8(bytes).unwrap();
        records.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    records
}

/// Waits until the checkpoint says that this many bytes are acknowledged.
fn run_until(world: &World, log: &Path) {
    let length = fs::metadata(log).unwrap().len();
    let agent = world.start();
    let deadline = std::time::Instant::now() + patience();
    loop {
        let state = Store::read(&world.path("state"));
        let done = state.is_ok_and(|state| {
            let of_log = state.entries.iter().filter(|entry| *entry.source == *log);
            of_log.flat_map(|entry| entry.sinks.values()).any(|sink| sink.settled == length)
        });
        if done {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn compressed_outputs_end_in_what_they_are() {
    for (compression, ending) in [("zstd", ".zst"), ("gzip", ".gz"), ("none", "")] {
        let world = world(compression);
        let mut container = world.container("a");
        for _ in 0..6 {
            container.write(400);
            run_until(&world, &container.live());
        }
        let names = names(&world);
        assert!(names.len() > 2, "{names:?}");
        assert_eq!(names.last().unwrap(), &format!("out.ndjson{ending}"));
        for (at, name) in names[..names.len() - 1].iter().enumerate() {
            assert_eq!(name, &format!("out.ndjson.{}{ending}", at + 1));
        }
        assert_exactly_once(&records(&world), &container);
    }
}

/// Gives everything the names that a version without endings would have given, in the state too.
fn as_without_endings(world: &World, ending: &str) {
    for name in names(world) {
        let former = name.strip_suffix(ending).unwrap();
        fs::rename(world.path("out").join(&name), world.path("out").join(former)).unwrap();
    }
    let (mut store, recovered) = Store::open(&world.path("state")).unwrap();
    let position = &recovered.positions["out"];
    let without = position.replace(&format!("out.ndjson{ending}\""), "out.ndjson\"");
    assert_ne!(*position, without);
    store.commit(vec![Change::Position { sink: "out".into(), position: without }]).unwrap();
}

#[test]
fn outputs_and_state_of_a_version_without_endings_go_on_without_doubles() {
    for (compression, ending) in [("zstd", ".zst"), ("gzip", ".gz")] {
        let world = world(compression);
        let mut container = world.container("a");
        for _ in 0..4 {
            container.write(400);
            run_until(&world, &container.live());
        }
        let before = names(&world).len();
        as_without_endings(&world, ending);
        // What the former version wrote beyond its checkpoint, when it was killed.
        let live = world.path("out/out.ndjson");
        let torn = [fs::read(&live).unwrap(), b"torn".to_vec()].concat();
        fs::write(&live, torn).unwrap();
        for _ in 0..3 {
            container.write(400);
            run_until(&world, &container.live());
        }
        let names = names(&world);
        assert!(names.len() > before && !live.exists(), "{names:?}");
        // Former files keep their names; their content is found by what it is.
        let unnamed: Vec<PathBuf> = (names.iter())
            .filter(|name| !name.ends_with(ending))
            .map(|name| world.path("out").join(name))
            .collect();
        assert_eq!(unnamed.len(), before - 1, "{names:?}");
        for path in unnamed {
            fs::rename(&path, format!("{}{ending}", path.display())).unwrap();
        }
        assert_exactly_once(&records(&world), &container);
        assert_eq!(world.audit().0, 0);
    }
}

#[test]
fn a_changed_compression_mixes_and_doubles_nothing() {
    let mut world = world("none");
    let mut container = world.container("a");
    for compression in ["none", "zstd", "gzip", "none"] {
        let (before, _) = world.sinks.rsplit_once(": ").unwrap();
        world.sinks = format!("{before}: {compression}\n");
        for _ in 0..2 {
            container.write(300);
            run_until(&world, &container.live());
        }
    }
    assert_exactly_once(&records(&world), &container);
    assert_eq!(world.audit().0, 0);
}
