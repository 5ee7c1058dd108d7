//! Whose a file is: what another user of the machine put where the agent writes, and what an operator arranged there on
//! purpose. All of it needs root, to act as another user.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{Agent, BpfFs, World, assert_exactly_once, has_kernel_watch, patience};

/// A user that is nobody's.
const OTHER: u32 = 4711;
const GROUP: u32 = 4712;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: acting as another user needs root");
    }
    root
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn give_away(path: impl AsRef<Path>) {
    chown(path, Some(OTHER), Some(OTHER)).unwrap();
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut ahead) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut ahead } else { &mut found }.push(path);
        }
    }
    found
}

/// Requires that `run`, `validate --check-files` and the doctor refuse in the same words.
#[track_caller]
fn assert_refused(world: &World, why: &str) {
    world.write_config();
    // An agent that starts all the same must not keep the test for ever.
    let mut run = Command::new("timeout");
    run.args(["20", env!("CARGO_BIN_EXE_everyline"), "run", "--config"]);
    let run = run.arg(world.config_path()).output().unwrap();
    let run = (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned());
    // A sink's refusal counts as one of the configuration.
    assert!(matches!(run.0, Some(1 | 78)) && run.1.contains(why), "{run:?}");
    let validate = world.everyline(&["validate", "--check-files"]);
    let said = String::from_utf8_lossy(&validate.stderr);
    assert!(validate.status.code() == Some(78) && said.contains(why), "{validate:?}");
    let doctor = world.everyline(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.code() == Some(1) && said.replace('\n', " ").contains(why), "{said}");
}

/// Collects some lines, and requires that the output `name` is the agent's own and nobody else can write to it.
#[track_caller]
fn assert_output_is_own(world: &World, name: &str) {
    let mut web = world.container("web");
    web.write(5);
    let agent = world.start();
    let deadline = Instant::now() + patience();
    let output = world.path("out").join(name);
    let written = || fs::metadata(&output).is_ok_and(|about| about.len() > 0);
    while !written() {
        assert!(Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.stop(), Some(0));
    let about = fs::metadata(&output).unwrap();
    assert_eq!((about.uid(), about.nlink(), mode(&output)), (0, 1, 0o640), "{}", world.log());
    assert!(world.log().contains("it was moved aside"), "{}", world.log());
    assert_eq!(world.audit().0, 0);
}

#[test]
fn an_output_that_another_user_prepared_is_not_written_to() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    set_mode(world.path("out"), 0o1777);
    let planted = world.path("out/out.ndjson");
    fs::write(&planted, "").unwrap();
    set_mode(&planted, 0o666);
    give_away(&planted);
    assert_output_is_own(&world, "out.ndjson");
    let aside = world.path("out/out.ndjson.1");
    assert_eq!((fs::metadata(&aside).unwrap().uid(), fs::read(&aside).unwrap()), (OTHER, vec![]));
}

#[test]
fn an_output_of_another_user_is_not_written_to_where_his_group_may_put_files() {
    if !is_root() {
        return;
    }
    let mut world = World::new("poll");
    let path = world.path("out/out.ndjson");
    world.sinks = format!("  out: {{type: file, path: {}, compression: zstd}}\n", path.display());
    chown(world.path("out"), None, Some(OTHER)).unwrap();
    set_mode(world.path("out"), 0o775);
    fs::write(world.path("out/out.ndjson.zst"), "").unwrap();
    give_away(world.path("out/out.ndjson.zst"));
    assert_output_is_own(&world, "out.ndjson.zst");
}

#[test]
fn an_output_that_is_another_files_name_is_not_written_to() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    set_mode(world.path("out"), 0o1777);
    let victim = world.path("important");
    fs::write(&victim, "").unwrap();
    fs::hard_link(&victim, world.path("out/out.ndjson")).unwrap();
    assert_output_is_own(&world, "out.ndjson");
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

#[test]
fn an_output_that_an_operator_prepared_is_written_to() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    let prepared = world.path("out/out.ndjson");
    fs::write(&prepared, "").unwrap();
    set_mode(&prepared, 0o660);
    give_away(&prepared);
    let mut web = world.container("web");
    web.write(5);
    let agent = world.start();
    assert_exactly_once(&world.wait_for(5), &web);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!((fs::metadata(&prepared).unwrap().uid(), mode(&prepared)), (OTHER, 0o660));
}

#[test]
fn a_state_directory_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    let state = world.path("state");
    fs::create_dir(&state).unwrap();
    give_away(&state);
    for mode in [0o777, 0o700, 0o1777] {
        set_mode(&state, mode);
        assert_refused(&world, "belongs to user 4711");
    }
    assert_eq!(files(&state), [] as [PathBuf; 0], "nothing was written there");
}

#[test]
fn a_state_directory_that_others_can_exchange_is_refused() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    set_mode(world.dir.path(), 0o777);
    assert_refused(&world, "any user may write to");
    set_mode(world.dir.path(), 0o1777);
    let agent = world.start();
    world.wait_for_first_look();
    assert_eq!(agent.stop(), Some(0));
    // Open itself, and somebody put something there.
    set_mode(world.path("state"), 0o777);
    fs::write(world.path("state/checkpoint.new"), "").unwrap();
    give_away(world.path("state/checkpoint.new"));
    assert_refused(&world, "any user may write to");
    // Open, and nobody did.
    fs::remove_file(world.path("state/checkpoint.new")).unwrap();
    let said = world.everyline(&["validate", "--check-files"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("note: Any user may write"), "{said:?}");
    let agent = world.start();
    world.wait_for_log("takes that right away");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(mode(&world.path("state")), 0o775);
}

#[test]
fn state_files_of_another_user_are_refused_and_links_are_not_followed() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    let (state, victim) = (world.path("state"), world.path("important"));
    fs::write(&victim, "important").unwrap();
    fs::create_dir(&state).unwrap();
    set_mode(&state, 0o1777);
    for name in ["lock", "checkpoint"] {
        fs::write(state.join(name), "").unwrap();
        give_away(state.join(name));
        assert_refused(&world, "belongs to user 4711");
        fs::remove_file(state.join(name)).unwrap();
        symlink(&victim, state.join(name)).unwrap();
        assert_refused(&world, "is no regular file");
        fs::remove_file(state.join(name)).unwrap();
    }
    // What is only written anew is put in their place.
    for name in ["checkpoint.new", "selves.new", "file-sink-out.json.new"] {
        symlink(&victim, state.join(name)).unwrap();
    }
    let mut web = world.container("web");
    web.write(3);
    let agent = own_pod(&world);
    assert_exactly_once(&world.wait_for(3), &web);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(fs::read(&victim).unwrap(), b"important");
    assert!(files(&state).iter().all(|path| !path.is_symlink()), "{:?}", files(&state));
}

/// Starts the agent so that it remembers who it was.
fn own_pod(world: &World) -> Agent {
    crate::own::start(world, "everyline-x2x4z", "uid-1")
}

#[test]
fn an_archive_directory_of_another_user_is_refused_and_a_group_may_read_it() {
    if !is_root() {
        return;
    }
    let mut world = World::new("poll");
    let archive = world.path("archive");
    world.sinks = format!("  a: {{type: archive, dir: {}}}\n", archive.display());
    fs::create_dir(&archive).unwrap();
    give_away(&archive);
    assert_refused(&world, "belongs to user 4711");
    chown(&archive, Some(0), Some(GROUP)).unwrap();
    set_mode(&archive, 0o2750);
    world.container("web").write(5);
    let agent = world.start();
    let deadline = Instant::now() + patience();
    let segment =
        || files(&archive).into_iter().find(|it| it.extension().is_some_and(|e| e == "zst"));
    while segment().is_none() {
        assert!(Instant::now() < deadline, "{:?} {}", files(&archive), world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(agent.stop(), Some(0));
    let segment = segment().unwrap();
    let about = fs::metadata(&segment).unwrap();
    assert_eq!((about.gid(), mode(&segment), mode(&archive)), (GROUP, 0o640, 0o2750));
}

#[test]
fn whatever_the_umask_nothing_is_open_to_others() {
    let mut world = World::new("poll");
    world.sinks += &format!("  a: {{type: archive, dir: {}}}\n", world.path("archive").display());
    let mut web = world.container("web");
    web.write(5);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, b"2026-11-22T01:02:03Z stdout F old\n").unwrap();
    fs::write(web.dir.join("0.log.20261121-000000.gz"), gz.finish().unwrap()).unwrap();
    for (umask, archive) in [("000", 0o640), ("0777", 0o600)] {
        let mut command = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_everyline")).stdin(Stdio::null());
        command.env("POD_NAMESPACE", "logging").env("POD_NAME", "e-x2x4z").env("POD_UID", "u");
        let agent = world.start_by(command);
        world.wait_for(6);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(mode(&world.path("state")), 0o700);
        let state = files(&world.path("state"));
        for name in ["lock", "checkpoint", "selves", "file-sink-out.json"] {
            assert_eq!(mode(&world.path("state").join(name)), 0o600, "{name}, umask {umask}");
        }
        assert!(state.iter().all(|path| mode(path) == 0o600), "{state:?}");
        for path in files(&world.path("archive")) {
            let private = path.ends_with("archive.id");
            assert_eq!(mode(&path), if private { 0o600 } else { archive }, "{path:?}");
        }
        assert_eq!(mode(&world.path("out/out.ndjson")), archive, "umask {umask}");
        for dir in ["state", "archive"] {
            fs::remove_dir_all(world.path(dir)).unwrap();
        }
        fs::remove_file(world.path("out/out.ndjson")).unwrap();
    }
}

#[test]
fn state_of_a_former_version_is_taken_over_and_closed_to_others() {
    let world = World::new("poll");
    let mut web = world.container("web");
    web.write(5);
    let agent = own_pod(&world);
    world.wait_for(5);
    assert_eq!(agent.stop(), Some(0));
    set_mode(world.path("state"), 0o755);
    for path in files(&world.path("state")) {
        set_mode(path, 0o644);
    }
    set_mode(world.path("out/out.ndjson"), 0o644);
    web.write(5);
    let agent = own_pod(&world);
    assert_exactly_once(&world.wait_for(10), &web);
    assert_eq!(agent.stop(), Some(0));
    for name in ["lock", "checkpoint"] {
        assert_eq!(mode(&world.path("state").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&world.path("state")), 0o755, "that was somebody's choice");
    assert_eq!(world.audit().0, 0);
}

#[test]
fn an_agent_that_is_not_root_works_in_a_volume_that_its_group_may_write_to() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    set_mode(world.dir.path(), 0o755);
    let mut web = world.container("web");
    for name in ["state", "out"] {
        fs::create_dir_all(world.path(name)).unwrap();
        chown(world.path(name), Some(0), Some(GROUP)).unwrap();
        set_mode(world.path(name), 0o2775);
    }
    for _ in 0..2 {
        web.write(5);
        let mut command = Command::new(world.binary_for_all());
        command.uid(OTHER).gid(GROUP).stdin(Stdio::null());
        let agent = world.start_by(command);
        assert_exactly_once(&world.wait_for(web.written as usize), &web);
        assert_eq!(agent.stop(), Some(0));
    }
    for path in files(&world.path("state")) {
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.gid(), mode(&path)), (OTHER, GROUP, 0o600), "{path:?}");
    }
    assert!(!world.log().contains("belongs to user"), "{}", world.log());
}

#[test]
fn a_state_directory_that_is_exchanged_for_another_users_is_not_written_to() {
    if !is_root() {
        return;
    }
    let world = World::new("poll");
    let mut web = world.container("web");
    web.write(3);
    let agent = world.start();
    world.wait_for(3);
    let (state, aside) = (world.path("state"), world.path("aside"));
    fs::rename(&state, &aside).unwrap();
    fs::create_dir(&state).unwrap();
    give_away(&state);
    web.write(3);
    world.wait_for_log("belongs to user 4711");
    assert_eq!(files(&state), [] as [PathBuf; 0]);
    fs::remove_dir(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    web.write(3);
    assert_exactly_once(&world.wait_for(9), &web);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

#[test]
fn pins_of_another_user_are_not_taken_over() {
    if !is_root() || !has_kernel_watch() {
        return;
    }
    let world = World::new("kernel");
    let Some(bpf) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut web = world.container("web");
    web.write(3);
    let agent = world.start();
    world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    let pinned = fs::read_dir(&bpf.0).unwrap().next().unwrap().unwrap().path();
    assert_eq!(mode(&pinned), 0o700);
    give_away(&pinned);
    web.write(3);
    let agent = world.start();
    assert_exactly_once(&world.wait_for(6), &web);
    assert_eq!(agent.stop(), Some(0));
    assert!(world.log().contains("belongs to user 4711"), "{}", world.log());
}
