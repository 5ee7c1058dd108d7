//! What kubelet and container runtimes do to logs besides rotating them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    harness::{World, assert_exactly_once, in_every_mode},
    links::Mount,
};

in_every_mode!(
    a_rotation_that_kubelet_takes_back_neither_doubles_nor_loses,
    a_rotation_that_is_taken_back_while_no_agent_runs,
    a_rotation_that_is_taken_back_over_the_next_file_loses_nothing,
    a_rotation_that_is_taken_back_is_rotated_again_and_compressed,
    a_storm_of_rotations_that_are_taken_back_loses_nothing,
    logs_that_are_linked_into_a_volume_are_collected_once,
    logs_that_are_linked_into_a_volume_while_the_agent_runs_are_collected_once,
    a_log_directory_in_two_places_is_collected_once,
);

/// Long enough for every way of watching to see what is there.
const SEEN: Duration = Duration::from_millis(1_500);

/// kubelet renames a log, has the runtime open it anew, and renames it back if that fails.
fn away(dir: &Path, date: &str) -> PathBuf {
    let rotated = dir.join(format!("0.log.20261126-{date}"));
    fs::rename(dir.join("0.log"), &rotated).unwrap();
    rotated
}

fn back(dir: &Path, rotated: &Path) {
    fs::rename(rotated, dir.join("0.log")).unwrap();
}

fn a_rotation_that_kubelet_takes_back_neither_doubles_nor_loses(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(3);
    world.wait_for(3);
    for (at, pause) in [0, 100, 1_500, 4_000, 0].into_iter().enumerate() {
        let rotated = away(&web.dir, &format!("00000{at}"));
        web.write(2);
        std::thread::sleep(Duration::from_millis(pause));
        web.write(2);
        back(&web.dir, &rotated);
        web.write(2);
    }
    web.rotate();
    web.write(2);
    world.wait_for(35);
    let rotated = away(&web.dir, "000009");
    web.write(1);
    back(&web.dir, &rotated);
    world.wait_for(36);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_rotation_that_is_taken_back_while_no_agent_runs(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(3);
    world.wait_for(3);
    let rotated = away(&web.dir, "000000");
    web.write(2);
    world.wait_for(5);
    std::thread::sleep(SEEN);
    agent.kill();
    web.write(2);
    back(&web.dir, &rotated);
    let agent = world.start();
    world.wait_for(7);
    agent.kill();
    let rotated = away(&web.dir, "000001");
    web.write(2);
    let agent = world.start();
    world.wait_for(9);
    back(&web.dir, &rotated);
    web.write(2);
    world.wait_for(11);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_rotation_that_is_taken_back_over_the_next_file_loses_nothing(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(3);
    world.wait_for(3);
    // The runtime opened the next file, but kubelet did not wait for its answer.
    let rotated = web.rotate();
    web.write(2);
    world.wait_for(5);
    back(&web.dir, &rotated);
    web.write(2);
    world.wait_for(7);
    std::thread::sleep(Duration::from_millis(500));
    web.write(2);
    world.wait_for(9);
    // The next time it goes well.
    web.rotate();
    web.write(3);
    world.wait_for(12);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_storm_of_rotations_that_are_taken_back_loses_nothing(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(1);
    world.wait_for(1);
    for at in 0..200 {
        let rotated = away(&web.dir, &format!("{at:06}"));
        web.write(2);
        if at % 3 == 0 {
            std::thread::sleep(Duration::from_millis(at % 40));
        }
        back(&web.dir, &rotated);
        web.write(1);
        if at % 10 == 9 {
            web.rotate();
            web.write(1);
        }
    }
    world.wait_for(621);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn a_rotation_that_is_taken_back_is_rotated_again_and_compressed(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(500);
    world.wait_for(500);
    let rotated = away(&web.dir, "000000");
    std::thread::sleep(SEEN);
    back(&web.dir, &rotated);
    web.write(5);
    let rotated = web.rotate();
    web.write(5);
    world.wait_for(510);
    let next = web.rotate();
    web.write(5);
    web.compress(&rotated);
    world.wait_for(515);
    std::thread::sleep(SEEN);
    agent.kill();
    web.compress(&next);
    let agent = world.start();
    web.write(5);
    world.wait_for(520);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

/// CRI-O's `LinkLogs`: a pod's log directory is mounted into one of its volumes, with a link to each log.
fn link_logs(world: &World, name: &str) -> Option<Mount> {
    let volume = world.path(&format!("kubelet/pods/uid-{name}/volumes/empty-dir/own"));
    fs::create_dir_all(volume.join("logs")).unwrap();
    let mount =
        Mount::bind(world.path(&format!("pods/shop_{name}_uid-{name}")), volume.join("logs"))?;
    symlink("logs/main/0.log", volume.join(format!("{}.log", "c".repeat(64)))).unwrap();
    Some(mount)
}

/// Whoever collects what pods write into their volumes.
fn collect_volumes(world: &mut World) {
    // It sorts before the pods directory: whatever is listed first is the same.
    let volumes = world.path("kubelet/pods/*/volumes/**/*.log");
    world.files = format!("    - paths: ['{}']\n", volumes.display());
}

fn logs_that_are_linked_into_a_volume_are_collected_once(mut world: World) {
    collect_volumes(&mut world);
    let mut web = world.container("web");
    web.write(3);
    let Some(_mount) = link_logs(&world, "web") else { return };
    fs::write(world.path("kubelet/pods/uid-web/volumes/empty-dir/own/app.log"), "its own\n")
        .unwrap();
    let agent = world.start();
    world.wait_for(4);
    for _ in 0..3 {
        let rotated = web.rotate();
        web.write(3);
        world.wait_for(1 + web.written as usize);
        web.compress(&rotated);
    }
    std::thread::sleep(SEEN);
    agent.kill();
    let rotated = web.rotate();
    web.write(3);
    web.compress(&rotated);
    let agent = world.start();
    world.wait_for(16);
    std::thread::sleep(SEEN);
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    assert_exactly_once(&records, &web);
    assert_eq!(records.len(), 16);
    assert_eq!(records.iter().filter(|record| record["body"] == "its own").count(), 1);
}

fn logs_that_are_linked_into_a_volume_while_the_agent_runs_are_collected_once(mut world: World) {
    collect_volumes(&mut world);
    fs::create_dir_all(world.path("kubelet/pods")).unwrap();
    let agent = world.start();
    let mut first = world.container("first");
    first.write(1);
    world.wait_for(1);
    let mut all = vec![first];
    let mut mounts = Vec::new();
    for name in ["web", "cart", "mail"] {
        let dir = world.path(&format!("pods/shop_{name}_uid-{name}/main"));
        fs::create_dir_all(&dir).unwrap();
        let Some(mount) = link_logs(&world, name) else { return };
        mounts.push(mount);
        let mut container = world.container(name);
        container.write(5);
        all.push(container);
    }
    world.wait_for(16);
    for container in &mut all {
        container.rotate();
        container.write(5);
    }
    world.wait_for(36);
    std::thread::sleep(SEEN);
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    all.iter().for_each(|container| assert_exactly_once(&records, container));
    assert_eq!(records.len(), 36);
}

fn a_log_directory_in_two_places_is_collected_once(mut world: World) {
    let place = world.path("disk/**/*.log");
    world.files = format!("    - paths: ['{}']\n", place.display());
    let mut web = world.container("web");
    web.write(3);
    fs::create_dir_all(world.path("disk/logs")).unwrap();
    // What is mounted is the directory above the one that is configured.
    fs::write(world.path("disk/other.log"), "other\n").unwrap();
    let Some(_mount) = Mount::bind(world.dir.path().to_owned(), world.path("disk/logs")) else {
        return;
    };
    let agent = world.start();
    world.wait_for(4);
    web.rotate();
    web.write(3);
    world.wait_for(7);
    std::thread::sleep(SEEN);
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    assert_exactly_once(&records, &web);
    assert_eq!(records.iter().filter(|record| record["body"] == "other").count(), 1);
}
