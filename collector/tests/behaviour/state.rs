//! The state directory damaged, full, read-only or taken.

use std::{fs, io::Write, process::Command};

use rustix::process::Signal;

use crate::harness::{World, assert_exactly_once};

#[test]
fn a_second_agent_on_the_same_state_is_refused_with_75() {
    let world = World::new("auto");
    let first = world.start();
    let mut container = world.container("a");
    container.write(1);
    world.wait_for(1);
    let second = world.start();
    assert_eq!(second.wait(), Some(75));
    container.write(1);
    world.wait_for(2);
    assert_eq!(first.stop(), Some(0));
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_nothing_is_lost() {
    for damage in ["zero", "garbage", "truncate"] {
        let world = World::new("auto");
        let mut container = world.container("a");
        container.write(500);
        let agent = world.start();
        world.wait_for(500);
        agent.kill();
        let state = world.path("state");
        let files = fs::read_dir(&state).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            (path.is_file() && name.starts_with("checkpoint")).then_some(path)
        });
        let mut damaged = 0;
        for path in files {
            let bytes = fs::read(&path).unwrap();
            let bytes = match damage {
                "zero" => Vec::new(),
                "garbage" => bytes.iter().map(|byte| byte ^ 0x5a).collect(),
                _ => bytes[..bytes.len() / 2].to_vec(),
            };
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
        assert!(damaged > 0, "there is no checkpoint in {}", state.display());
        container.write(5);
        let agent = world.start();
        // At least once: what was written before may come again, nothing may be missing.
        let deadline = std::time::Instant::now() + crate::harness::patience();
        loop {
            let seen: std::collections::HashSet<String> =
                world.records().iter().map(|r| r["body"].to_string()).collect();
            if seen.len() == 505 {
                break;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{damage}: {} messages\n{}",
                seen.len(),
                world.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(agent.stop(), Some(0));
    }
}

#[test]
fn a_full_disk_under_the_output_is_waited_out() {
    let mut world = World::new("auto");
    let mount = world.path("small");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&mount)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: mounting a tmpfs needs root");
        return;
    }
    let out = mount.join("out.ndjson");
    world.sinks = format!("  out:\n    type: file\n    path: {}\n", out.display());
    let agent = world.start();
    let mut container = world.container("a");
    container.write(5_000);
    world.wait_for_log("space");
    let remounted =
        Command::new("mount").args(["-o", "remount,size=64m"]).arg(&mount).status().unwrap();
    assert!(remounted.success());
    let deadline = std::time::Instant::now() + crate::harness::patience();
    let records = loop {
        let text = fs::read_to_string(&out).unwrap_or_default();
        if text.lines().count() >= 5_000 {
            break text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
        }
        assert!(std::time::Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
}

/// What is unpacked of a compressed file lies in the state directory for a while.
#[test]
fn a_full_disk_under_the_state_costs_no_byte_of_a_compressed_file() {
    let world = World::new("auto");
    let state = world.path("state");
    fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"])
        .arg(&state)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: mounting a tmpfs needs root");
        return;
    }
    let mut container = world.container("a");
    container.write(10);
    let agent = world.start();
    world.wait_for(10);
    let filler = state.join("filler");
    // Room for three pieces of 64 KiB, then for none.
    let fill = |free: usize| {
        let mut file = fs::File::create(&filler).unwrap();
        let piece = vec![7; 4 << 10];
        let mut written = 0;
        while file.write_all(&piece).is_ok() {
            written += piece.len();
        }
        file.set_len((written - free) as u64).unwrap();
    };
    fill(200 << 10);
    // So that it is compressed before anybody has seen it.
    agent.signal(Signal::STOP);
    let mut other = world.container("b");
    other.write(10_000);
    let rotated = other.rotate();
    other.compress(&rotated);
    other.write(1);
    agent.signal(Signal::CONT);
    world.wait_for_log("No space left on device");
    std::thread::sleep(std::time::Duration::from_secs(3));
    fs::remove_file(&filler).unwrap();
    let records = world.wait_for(10_011);
    assert_exactly_once(&records, &other);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
    assert!(Command::new("umount").arg(&state).status().unwrap().success());
}

#[test]
fn an_unreadable_directory_is_named_and_the_rest_goes_on() {
    let world = World::new("auto");
    let mut container = world.container("a");
    container.write(3);
    // A path below a file can never be listed, not even by root.
    fs::write(world.path("pods/shop_bad_uid"), "a file where a pod's directory should be").unwrap();
    let agent = world.start();
    world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_state_directory_that_is_removed_under_the_agent_is_made_again() {
    let world = World::new("auto");
    let mut container = world.container("a");
    container.write(10);
    let agent = world.start();
    world.wait_for(10);
    fs::remove_dir_all(world.path("state")).unwrap();
    container.write(10);
    world.wait_for(20);
    world.wait_for_log("was removed under the running agent");
    let second = world.start();
    assert_eq!(second.wait(), Some(75), "the lock is held in the new directory");
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    container.write(10);
    assert_exactly_once(&world.wait_for(30), &container);
    assert_eq!(agent.stop(), Some(0));
}
