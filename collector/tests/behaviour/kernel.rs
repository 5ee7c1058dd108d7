//! The kernel watch and what may come in its way: whatever it is, every line arrives, and the agent
//! says how it watches.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

use crate::harness::{BpfFs, World, assert_exactly_once, has_kernel_watch};

const NOBODY: u32 = 65_534;

/// A world where nothing but the kernel watch would notice anything in time.
fn world() -> Option<World> {
    has_kernel_watch().then(|| World::new("kernel"))
}

fn size(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn what_is_deleted_while_no_agent_runs_is_stated_to_the_byte() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    std::thread::sleep(Duration::from_secs(1));
    let settled = size(&container.live());
    agent.kill();

    // Written on, rotated twice, written on: one file that is known, and one that nobody ever saw.
    container.write(50);
    let first = container.rotate();
    container.write(30);
    let second = container.rotate();
    container.write(20);
    let lost = size(&first) - settled + size(&second);
    fs::remove_file(first).unwrap();
    fs::remove_file(second).unwrap();

    let agent = world.start();
    world.wait_for(120);
    world.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 1, "a loss must not pass the audit: {audit}");
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}\n{}", world.log());
    assert_eq!(world.records().len(), 120);
}

/// Pods that came and went, and a known file whose inode's number was used again at once.
#[test]
fn pods_that_come_and_go_while_no_agent_runs_are_stated_to_the_byte() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    std::thread::sleep(Duration::from_secs(1));
    let mut lost = 0;
    let settled = size(&container.live());
    agent.kill();

    for round in 0..8 {
        let mut born = world.container(&format!("born-{round}"));
        born.write(10 + round);
        // Rotated and compressed: the copy goes too, and counts for nothing.
        let rotated = born.rotate();
        lost += size(&rotated);
        fs::remove_file(born.compress(&rotated)).unwrap();
        born.write(5);
        lost += size(&born.live());
        fs::remove_dir_all(born.dir.parent().unwrap()).unwrap();
    }
    container.write(50);
    let rotated = container.rotate();
    lost += size(&rotated) - settled;
    fs::remove_file(&rotated).unwrap();
    for _ in 0..20 {
        // Takes the number that has just become free, and is collected.
        container.write(1);
        let former = container.rotate();
        lost += size(&former);
        fs::remove_file(former).unwrap();
    }
    container.write(20);

    let agent = world.start();
    world.wait_for(120);
    world.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 1, "a loss must not pass the audit: {audit}");
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}\n{}", world.log());
    assert_eq!(audit["at_least"], false, "{audit}");
    assert_eq!(world.records().len(), 120);
}

/// logrotate's former files match no pattern. Where it renames, they were the live file before.
#[test]
fn logs_that_were_rotated_away_under_names_of_no_pattern_are_stated_to_the_byte() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let (live, former) = (world.path("plain/x.log"), world.path("plain/x.log.1"));
    let agent = world.start();
    fs::write(&live, "before\n").unwrap();
    world.wait_for(1);
    std::thread::sleep(Duration::from_secs(1));
    agent.kill();
    // The one that is known, with a line that was not read, then three that nobody ever saw.
    let mut lost = 0;
    for round in 0..4 {
        let line = "x".repeat(100 + round) + "\n";
        let mut file = fs::File::options().create(true).append(true).open(&live).unwrap();
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
        lost += line.len() as u64;
        fs::rename(&live, &former).unwrap();
        // Compressed, and the copy goes too.
        let copy = world.path("plain/x.log.2.gz");
        fs::write(&copy, [0x1f, 0x8b, 8, 0]).unwrap();
        fs::remove_file(&former).unwrap();
        fs::remove_file(&copy).unwrap();
    }
    fs::write(&live, "after\n").unwrap();
    let agent = world.start();
    world.wait_for(2);
    world.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let (_, audit) = world.audit();
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}\n{}", world.log());
    assert_eq!(audit["at_least"], false, "{audit}");
}

/// What the kernel does not tell is not passed over: a file that another took the name of. A copy that
/// `copytruncate` made is none of that, for what its original held is counted.
#[test]
fn where_the_kernel_does_not_tell_what_went_the_loss_is_the_least() {
    for replaced in [false, true] {
        let Some(world) = world() else { return };
        let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
        let live = world.path("plain/x.log");
        let agent = world.start();
        fs::write(&live, "before\n").unwrap();
        world.wait_for(1);
        std::thread::sleep(Duration::from_secs(1));
        agent.kill();
        if replaced {
            // No hook tells the name that it had.
            for text in ["one\n", "two\n"] {
                fs::write(world.path("plain/new"), text).unwrap();
                fs::rename(world.path("plain/new"), world.path("plain/y.log")).unwrap();
            }
        } else {
            fs::copy(&live, world.path("plain/x.log.1")).unwrap();
            fs::remove_file(world.path("plain/x.log.1")).unwrap();
        }
        let agent = world.start();
        if !replaced {
            world.wait_for_first_look();
            std::thread::sleep(Duration::from_secs(5));
            assert_eq!(agent.stop(), Some(0));
            let (_, audit) = world.audit();
            assert_eq!((&audit["at_least"], &audit["lost_bytes"]), (&false.into(), &0.into()));
            continue;
        }
        world.wait_for_log("does not tell whether they were logs");
        assert_eq!(agent.stop(), Some(0));
        let (_, audit) = world.audit();
        assert_eq!(audit["at_least"], true, "{audit}");
        // It is said of that time, and not of every one that follows.
        let agent = world.start();
        world.wait_for_first_look();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(world.log().matches("does not tell whether they were logs").count(), 1);
    }
}

/// An agent that is killed before it has counted what went takes nothing with it.
#[test]
fn what_went_is_still_known_after_an_agent_that_did_not_live_to_count_it() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    std::thread::sleep(Duration::from_secs(1));
    let settled = size(&container.live());
    agent.kill();
    container.write(50);
    let first = container.rotate();
    container.write(30);
    let second = container.rotate();
    let lost = size(&first) - settled + size(&second);
    fs::remove_file(first).unwrap();
    fs::remove_file(second).unwrap();
    for round in 1..=2 {
        let agent = world.start();
        while world.log().matches("first look for logs is done").count() <= round {
            std::thread::sleep(Duration::from_millis(20));
        }
        agent.kill();
    }
    let agent = world.start();
    world.wait_for_log("were lost before they could be read");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let (_, audit) = world.audit();
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}\n{}", world.log());
    assert_eq!(audit["at_least"], false, "{audit}");
}

/// A copy is one file's alone: one whose length it has not is lost.
#[test]
fn a_compressed_copy_hides_no_loss() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    world.wait_for(100);
    std::thread::sleep(Duration::from_secs(1));
    agent.kill();
    container.write(10);
    let first = container.rotate();
    container.write(30);
    let second = container.rotate();
    let lost = size(&second);
    container.compress(&first);
    // Another file's content, under the copy's name.
    let copy = format!("{}.gz", second.display());
    fs::copy(format!("{}.gz", first.display()), &copy).unwrap();
    fs::remove_file(second).unwrap();
    container.write(20);

    let agent = world.start();
    world.wait_for_log("were lost before they could be read");
    world.wait_for(130);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let (_, audit) = world.audit();
    assert_eq!(audit["lost"]["deleted_while_down"], lost, "{audit}\n{}", world.log());
}

/// Without the kernel's tally, or with one that ended with the agent, more may be lost than is known.
#[test]
fn without_a_tally_a_loss_while_no_agent_runs_is_the_least() {
    for watch in ["kernel", "inotify", "poll"] {
        if watch == "kernel" && !has_kernel_watch() {
            continue;
        }
        let world = World::new(watch);
        let mut container = world.container("a");
        let agent = world.start();
        container.write(100);
        world.wait_for(100);
        assert_eq!(agent.stop(), Some(0));
        let agent = world.start();
        world.wait_for_first_look();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(world.audit().1["at_least"], false, "nothing happened meanwhile");

        container.write(50);
        fs::remove_file(container.rotate()).unwrap();
        container.write(20);
        let agent = world.start();
        world.wait_for(120);
        world.wait_for_log("the least that was lost");
        assert_eq!(agent.stop(), Some(0));
        let (_, audit) = world.audit();
        assert_eq!(audit["at_least"], true, "{watch}: {audit}");
        let text = world.everyline(&["audit"]).stdout;
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("while no agent ran"), "{watch}: {text}");
    }
}

#[test]
fn what_is_written_while_no_agent_runs_is_read_and_pins_are_taken_over() {
    let Some(world) = world() else { return };
    let Some(_pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    for round in 0..3 {
        let agent = world.start();
        container.write(50);
        container.rotate();
        container.write(50);
        world.wait_for(110 * round + 100);
        agent.kill();
        container.write(10);
        container.rotate();
    }
    let agent = world.start();
    container.write(1);
    world.wait_for(331);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
    assert!(world.log().contains("taken_over=true"), "{}", world.log());
}

#[test]
fn pins_of_another_layout_are_replaced() {
    let Some(mut world) = world() else { return };
    let Some(pins) = BpfFs::mount(&world.path("bpf")) else { return };
    let mut container = world.container("a");
    let agent = world.start();
    container.write(10);
    world.wait_for(10);
    assert_eq!(agent.stop(), Some(0));
    // Another number of slots is another layout.
    world.slots = 1_024;
    let agent = world.start();
    container.write(10);
    world.wait_for(20);
    world.wait_for_log("another version of the agent had left");
    assert_eq!(agent.stop(), Some(0));
    let state = fs::read_dir(&pins.0).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(state).unwrap().count(), 1, "one layout is left");
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn without_a_bpffs_it_watches_and_says_what_that_costs() {
    let Some(world) = world() else { return };
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    world.wait_for_log("The kernel watch ends with the agent");
    assert_eq!(agent.stop(), Some(0));
    assert!(world.log().contains("taken_over=false"));
}

#[test]
fn when_every_slot_is_taken_the_rest_is_left_to_inotify() {
    let Some(mut world) = world() else { return };
    world.slots = 64;
    let agent = world.start();
    for round in 0..2 {
        for n in 0..150 {
            let path = world.path(&format!("plain/{n}.log"));
            let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, format!("{round} of {n}\n").as_bytes()).unwrap();
        }
        world.wait_for(150 * (round + 1));
    }
    world.wait_for_log("The kernel watch is full");
    assert_eq!(world.log().matches("The kernel watch is full").count(), 1, "said once");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.records().len(), 300);
}

#[test]
fn a_filesystem_without_hooks_is_left_to_inotify() {
    let Some(world) = world() else { return };
    let dir = |name: &str| world.path(name).display().to_string();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", dir("lower"), dir("upper"), dir("work"));
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "-o", &options, "none", &dir("plain")])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: mounting an overlay needs root and a kernel that has it");
        return;
    }
    let agent = world.start();
    world.wait_for_first_look();
    fs::write(world.path("plain/x.log"), "a line\n").unwrap();
    world.wait_for(1);
    world.wait_for_log("does not reach this directory's filesystem");
    assert_eq!(agent.stop(), Some(0));
    assert!(Command::new("umount").arg(dir("plain")).status().unwrap().success());
}

#[test]
fn without_privileges_inotify_watches() {
    let world = World::new("kernel");
    let Some(binary) = belongs_to_nobody(&world) else { return };
    let mut command = Command::new(binary);
    command.uid(NOBODY).gid(NOBODY);
    falls_back(&world, command);
}

#[test]
fn two_capabilities_are_enough_for_somebody_who_is_not_root() {
    let Some(world) = world() else { return };
    let Some(binary) = belongs_to_nobody(&world) else { return };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let two = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"];
    if !Command::new("setpriv")
        .args(nobody)
        .args(two)
        .arg("true")
        .status()
        .is_ok_and(|s| s.success())
    {
        println!("skipped: setpriv of util-linux 2.36 or later is needed");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(nobody).args(two).arg(binary);
    collects(&world, command, "The kernel tells which file was written");
    assert!(!world.log().contains("inotify watches"), "{}", world.log());
}

/// Gives a world to nobody; a copy of the agent that nobody may run.
fn belongs_to_nobody(world: &World) -> Option<std::path::PathBuf> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can start the agent as somebody else");
        return None;
    }
    let binary = world.path("everyline");
    fs::copy(env!("CARGO_BIN_EXE_everyline"), &binary).unwrap();
    for name in ["", "pods", "plain", "out"] {
        std::os::unix::fs::chown(world.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    Some(binary)
}

#[test]
fn without_type_information_inotify_watches() {
    let world = World::new("kernel");
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let possible = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf"])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: hiding /sys/kernel/btf needs root and a mount namespace");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", hide, env!("CARGO_BIN_EXE_everyline")]);
    falls_back(&world, command);
}

/// The agent, started like this, says that it has no kernel watch, and collects all the same.
fn falls_back(world: &World, command: Command) {
    collects(world, command, "There is no kernel watch; inotify watches instead");
    assert_eq!(world.log().matches("There is no kernel watch").count(), 1, "said once");
}

/// The agent, started like this, says so, and collects.
fn collects(world: &World, command: Command, says: &str) {
    let agent = world.start_by(command);
    world.wait_for_log(says);
    world.wait_for_first_look();
    fs::write(world.path("plain/x.log"), "a line\n").unwrap();
    world.wait_for(1);
    assert_eq!(agent.stop(), Some(0), "{}", world.log());
}
