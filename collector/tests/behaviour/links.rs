//! Links and mounts: what they lead to comes later, goes for a moment, and becomes something else.
//!
//! No sweep helps here: what is noticed is noticed by itself, in every way of watching.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Agent, World, body, in_every_mode};

in_every_mode!(
    a_target_that_comes_after_its_link_is_collected,
    a_target_whose_directories_come_one_by_one_is_collected,
    a_chain_of_links_is_followed_when_its_last_one_is_there,
    a_target_that_goes_for_a_moment_is_collected_again,
    a_link_that_is_pointed_elsewhere_is_followed,
    a_directory_on_the_way_that_is_pointed_elsewhere_is_followed,
    a_log_directory_that_is_a_link_is_followed_when_it_is_pointed_elsewhere,
    a_pods_link_is_followed_when_the_runtimes_log_comes_later,
    a_directory_above_is_renamed_and_another_takes_its_place,
    a_mount_over_a_log_directory_is_collected_and_what_it_hides_is_not_lost,
    a_target_behind_a_later_mount_is_collected,
    a_log_directory_that_a_later_mount_brings_is_collected,
    a_mount_that_goes_shows_what_was_under_it,
    a_disk_that_is_mounted_after_the_start_goes_on_where_it_was,
    a_disk_that_is_mounted_anew_goes_on_where_it_was,
);

/// A world with links in `plain`, which may lead anywhere, in which nothing is found by a sweep.
fn prepare(mut world: World) -> (World, Agent) {
    world.sweep_interval = "1h";
    world.files = world.files.replace("- paths", "- follow_links: anywhere\n      paths");
    let agent = world.start();
    world.wait_for_first_look();
    (world, agent)
}

fn write(path: impl AsRef<Path>, line: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Has a name lead to another target in one step.
fn point(link: &Path, target: &Path) {
    let next = link.with_extension("next");
    symlink(target, &next).unwrap();
    fs::rename(next, link).unwrap();
}

/// Waits for these bodies, and that there are no others; order between files is nobody's promise.
#[track_caller]
fn expect(world: &World, agent: Agent, wanted: &[&str]) -> Vec<Value> {
    world.wait_for(wanted.len());
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    let mut bodies: Vec<_> = records.iter().map(body).collect();
    let mut wanted = wanted.to_vec();
    bodies.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(bodies, wanted, "{}", world.log());
    records
}

fn a_target_that_comes_after_its_link_is_collected(world: World) {
    symlink(world.path("later/app.txt"), world.path("plain/app.log")).unwrap();
    let (world, agent) = prepare(world);
    write(world.path("later/app.txt"), "one");
    world.wait_for(1);
    write(world.path("later/app.txt"), "two");
    let records = expect(&world, agent, &["one", "two"]);
    let named = world.path("plain/app.log");
    assert_eq!(records[0]["log.file.path"], named.to_string_lossy().as_ref());
}

fn a_target_whose_directories_come_one_by_one_is_collected(world: World) {
    let (world, agent) = prepare(world);
    symlink("../a/b/c/app.txt", world.path("plain/app.log")).unwrap();
    write(world.path("plain/other.log"), "other");
    world.wait_for(1);
    for directory in ["a", "a/b", "a/b/c"] {
        fs::create_dir(world.path(directory)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    write(world.path("a/b/c/app.txt"), "one");
    expect(&world, agent, &["other", "one"]);
}

fn a_chain_of_links_is_followed_when_its_last_one_is_there(world: World) {
    for directory in ["hop", "further", "end"] {
        fs::create_dir(world.path(directory)).unwrap();
    }
    write(world.path("end/app.txt"), "one");
    symlink(world.path("hop/app"), world.path("plain/app.log")).unwrap();
    symlink("../further/app", world.path("hop/app")).unwrap();
    let (world, agent) = prepare(world);
    symlink(world.path("end/app.txt"), world.path("further/app")).unwrap();
    world.wait_for(1);
    // The middle of the chain leads elsewhere.
    write(world.path("other/app.txt"), "two");
    point(&world.path("hop/app"), &world.path("other/app.txt"));
    expect(&world, agent, &["one", "two"]);
}

fn a_target_that_goes_for_a_moment_is_collected_again(world: World) {
    write(world.path("data/deep/app.txt"), "one");
    symlink(world.path("data/deep/app.txt"), world.path("plain/app.log")).unwrap();
    let (world, agent) = prepare(world);
    world.wait_for(1);
    fs::remove_dir_all(world.path("data")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    write(world.path("data/deep/app.txt"), "two");
    world.wait_for(2);
    fs::remove_file(world.path("data/deep/app.txt")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    write(world.path("data/deep/app.txt"), "three");
    expect(&world, agent, &["one", "two", "three"]);
}

fn a_link_that_is_pointed_elsewhere_is_followed(world: World) {
    write(world.path("data/monday.txt"), "one");
    symlink(world.path("data/monday.txt"), world.path("plain/app.log")).unwrap();
    let (world, agent) = prepare(world);
    world.wait_for(1);
    write(world.path("tuesday/app.txt"), "two");
    point(&world.path("plain/app.log"), &world.path("tuesday/app.txt"));
    world.wait_for(2);
    // Whoever has the former target open writes its last words.
    write(world.path("data/monday.txt"), "three");
    world.wait_for(3);
    point(&world.path("plain/app.log"), &world.path("nowhere/app.txt"));
    write(world.path("nowhere/app.txt"), "four");
    expect(&world, agent, &["one", "two", "three", "four"]);
}

fn a_directory_on_the_way_that_is_pointed_elsewhere_is_followed(world: World) {
    write(world.path("releases/1/log/app.txt"), "one");
    symlink("releases/1", world.path("current")).unwrap();
    symlink(world.path("current/log/app.txt"), world.path("plain/app.log")).unwrap();
    let (world, agent) = prepare(world);
    world.wait_for(1);
    write(world.path("releases/2/log/app.txt"), "two");
    point(&world.path("current"), Path::new("releases/2"));
    expect(&world, agent, &["one", "two"]);
}

fn a_log_directory_that_is_a_link_is_followed_when_it_is_pointed_elsewhere(mut world: World) {
    let place = world.path("srv/logs/*.log").display().to_string();
    world.files = format!("    - paths: ['{place}']\n");
    write(world.path("disk1/a.log"), "one");
    fs::create_dir(world.path("srv")).unwrap();
    symlink(world.path("disk1"), world.path("srv/logs")).unwrap();
    let (world, agent) = prepare(world);
    world.wait_for(1);
    write(world.path("disk2/a.log"), "two");
    point(&world.path("srv/logs"), &world.path("disk2"));
    world.wait_for(2);
    // It leads nowhere for a while.
    point(&world.path("srv/logs"), &world.path("disk3"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    write(world.path("disk3/a.log"), "three");
    expect(&world, agent, &["one", "two", "three"]);
}

fn a_pods_link_is_followed_when_the_runtimes_log_comes_later(mut world: World) {
    world.docker = ", enabled: false";
    let id = "a".repeat(64);
    let log = world.path(&format!("docker/{id}/{id}-json.log"));
    let pod = world.path("pods/shop_web_uid-web/main");
    fs::create_dir_all(&pod).unwrap();
    symlink(&log, pod.join("0.log")).unwrap();
    let (world, agent) = prepare(world);
    write(&log, r#"{"log":"one\n","stream":"stdout","time":"2026-11-26T02:00:01Z"}"#);
    let records = expect(&world, agent, &["one"]);
    assert_eq!(records[0]["k8s.pod.name"], "web");
}

fn a_directory_above_is_renamed_and_another_takes_its_place(mut world: World) {
    let place = world.path("srv/app/logs/*.log").display().to_string();
    world.files = format!("    - paths: ['{place}']\n");
    write(world.path("srv/app/logs/a.log"), "one");
    write(world.path("next/logs/a.log"), "two");
    let (world, agent) = prepare(world);
    world.wait_for(1);
    fs::rename(world.path("srv/app"), world.path("srv/former")).unwrap();
    fs::rename(world.path("next"), world.path("srv/app")).unwrap();
    expect(&world, agent, &["one", "two"]);
}

/// Something mounted; gone at the test's end.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(arguments: &[&str], at: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(arguments).arg(&at).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: mounting needs root");
            return None;
        }
        Some(Self(at))
    }

    pub(crate) fn bind(from: PathBuf, at: PathBuf) -> Option<Self> {
        Self::new(&["--bind", from.to_str().unwrap()], at)
    }

    pub(crate) fn tmpfs(at: PathBuf) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "tmpfs"], at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the agent may hold files in it.
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn a_mount_over_a_log_directory_is_collected_and_what_it_hides_is_not_lost(world: World) {
    write(world.path("plain/a.log"), "one");
    write(world.path("other/a.log"), "two");
    let (world, agent) = prepare(world);
    world.wait_for(1);
    let mut hidden = fs::File::options().append(true).open(world.path("plain/a.log")).unwrap();
    let Some(_mount) = Mount::bind(world.path("other"), world.path("plain")) else { return };
    world.wait_for(2);
    // Its writer has it open still.
    writeln!(hidden, "three").unwrap();
    world.wait_for(3);
    write(world.path("plain/b.log"), "four");
    write(world.path("plain/a.log"), "five");
    expect(&world, agent, &["one", "two", "three", "four", "five"]);
}

fn a_target_behind_a_later_mount_is_collected(world: World) {
    fs::create_dir_all(world.path("mnt/disk")).unwrap();
    symlink(world.path("mnt/disk/logs/app.txt"), world.path("plain/app.log")).unwrap();
    let (world, agent) = prepare(world);
    let Some(_mount) = Mount::tmpfs(world.path("mnt/disk")) else { return };
    write(world.path("mnt/disk/logs/app.txt"), "one");
    expect(&world, agent, &["one"]);
}

fn a_log_directory_that_a_later_mount_brings_is_collected(mut world: World) {
    let place = world.path("mnt/disk/logs/*.log").display().to_string();
    world.files = format!("    - paths: ['{place}']\n");
    fs::create_dir_all(world.path("mnt/disk")).unwrap();
    fs::create_dir_all(world.path("other/logs")).unwrap();
    write(world.path("other/logs/b.log"), "one");
    let (world, agent) = prepare(world);
    let Some(_mount) = Mount::bind(world.path("other"), world.path("mnt/disk")) else { return };
    world.wait_for(1);
    write(world.path("mnt/disk/logs/a.log"), "two");
    world.wait_for(2);
    // A filesystem that the kernel watch may not reach, over that.
    let Some(_over) = Mount::tmpfs(world.path("mnt/disk/logs")) else { return };
    write(world.path("mnt/disk/logs/c.log"), "three");
    expect(&world, agent, &["one", "two", "three"]);
}

fn a_mount_that_goes_shows_what_was_under_it(world: World) {
    write(world.path("other/a.log"), "one");
    let Some(mount) = Mount::bind(world.path("other"), world.path("plain")) else { return };
    let (world, agent) = prepare(world);
    world.wait_for(1);
    drop(mount);
    write(world.path("plain/a.log"), "two");
    expect(&world, agent, &["one", "two"]);
}

/// A filesystem of its own in a file, with a log directory in it that is collected.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(world: &mut World) -> Option<Self> {
        let (image, at) = (world.path("image"), world.path("disk"));
        world.files = format!("    - paths: ['{}/logs/*.log']\n", at.display());
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-I", "256"]).arg(&image).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: no mkfs.ext4");
            return None;
        }
        Some(Self { image, at })
    }

    fn mount(&self) -> Option<Mount> {
        Mount::new(&["-o", "loop", self.image.to_str().unwrap()], self.at.clone())
    }

    fn log(&self) -> PathBuf {
        self.at.join("logs/app.log")
    }
}

fn a_disk_that_is_mounted_after_the_start_goes_on_where_it_was(mut world: World) {
    let Some(disk) = Disk::new(&mut world) else { return };
    let Some(mount) = disk.mount() else { return };
    write(disk.log(), "one");
    fs::rename(disk.log(), disk.at.join("logs/app.log.1")).unwrap();
    write(disk.log(), "two");
    let (world, agent) = prepare(world);
    world.wait_for(1);
    write(disk.log(), "three");
    world.wait_for(2);
    assert_eq!(agent.stop(), Some(0));
    drop(mount);
    let (world, agent) = prepare(world);
    // Longer than what is not found is looked for.
    std::thread::sleep(std::time::Duration::from_secs(8));
    let Some(_mount) = disk.mount() else { return };
    write(disk.log(), "four");
    world.wait_for(3);
    std::thread::sleep(std::time::Duration::from_secs(1));
    expect(&world, agent, &["two", "three", "four"]);
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn a_disk_that_is_mounted_anew_goes_on_where_it_was(mut world: World) {
    let Some(disk) = Disk::new(&mut world) else { return };
    let Some(mount) = disk.mount() else { return };
    write(disk.log(), "one");
    let (world, agent) = prepare(world);
    world.wait_for(1);
    drop(mount);
    // Longer than what is gone is remembered.
    std::thread::sleep(std::time::Duration::from_secs(30));
    let Some(mount) = disk.mount() else { return };
    write(disk.log(), "two");
    world.wait_for(2);
    drop(mount);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let Some(_mount) = disk.mount() else { return };
    write(disk.log(), "three");
    world.wait_for(3);
    std::thread::sleep(std::time::Duration::from_secs(1));
    expect(&world, agent, &["one", "two", "three"]);
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}
