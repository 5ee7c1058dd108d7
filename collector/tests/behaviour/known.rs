//! Known files by tenant: whoever has more logs than its share waits for itself, and what waits is not lost from sight.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Agent, World, assert_exactly_once, body, free_port, in_every_mode, patience},
    quotas::{of_pod, status, wait_for_pod},
};

in_every_mode!(
    logs_beyond_a_tenants_share_wait_until_others_are_gone,
    logs_that_are_deleted_while_they_wait_are_a_stated_loss,
    logs_that_are_deleted_at_once_while_they_wait_are_a_stated_loss,
    directories_that_are_deleted_at_once_while_they_wait_are_a_stated_loss,
    older_logs_that_are_deleted_while_they_wait_are_a_stated_loss,
    logs_whose_directory_is_deleted_while_they_wait_are_a_stated_loss,
    logs_that_wait_are_collected_after_a_restart_and_when_there_are_more_places,
    a_log_that_is_rotated_while_it_waits_is_collected,
    many_former_files_of_one_log_wait_in_their_order,
    directories_without_end_are_not_looked_through,
    a_large_directory_is_looked_through_a_part_at_a_time,
    names_that_come_and_go_leave_nothing_behind,
);

/// Of 400 places a quarter is a tenant's.
const FEW: &str = "read: {known_files: 400}\n";
const SHARE: u64 = 100;
const LOGS: usize = 150;

fn world_with(world: &mut World, extra: &str) {
    world.admin = Some(free_port());
    world.extra = extra.into();
}

fn line(text: &str) -> String {
    format!("2026-11-22T01:02:03Z stdout F {text}\n")
}

/// The logs of one namespace, in one directory.
fn loud(world: &World) -> Vec<PathBuf> {
    let directory = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&directory).unwrap();
    let paths: Vec<_> = (0..LOGS).map(|n| directory.join(format!("{n}.log"))).collect();
    paths
        .iter()
        .enumerate()
        .for_each(|(n, path)| fs::write(path, line(&format!("log {n}"))).unwrap());
    paths
}

fn metric(world: &World, name: &str) -> u64 {
    let text = world.ask("/metrics");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("everyline_{name} ")));
    found.unwrap().parse().unwrap()
}

/// What waits of whom, as status has it.
fn waiting(world: &World) -> BTreeMap<String, (u64, u64)> {
    let status = status(world);
    let all = status["known_files"]["waiting"].as_array().into_iter().flatten();
    let number = |it: &Value, name: &str| it[name].as_u64().unwrap();
    let told = |it: &Value| {
        (
            it["tenant"].as_str().unwrap().to_owned(),
            (number(it, "files"), number(it, "directories")),
        )
    };
    all.map(told).collect()
}

#[track_caller]
fn wait_until(world: &World, what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + patience();
    while !done() {
        assert!(
            Instant::now() < deadline,
            "{what}\n{}\n{}",
            status(world)["known_files"],
            world.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How often each text was delivered.
fn bodies(world: &World, beginning: &str) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for record in world.records().iter().filter(|record| body(record).starts_with(beginning)) {
        *all.entry(body(record).to_owned()).or_insert(0) += 1;
    }
    all
}

#[track_caller]
fn assert_each_once(world: &World, beginning: &str, count: usize) {
    let all = bodies(world, beginning);
    assert_eq!(all.len(), count, "{all:?}\n{}", world.log());
    assert!(all.values().all(|times| *times == 1), "{all:?}");
}

/// As many as may be known are delivered, and the rest waits.
fn wait_until_full(world: &World, tenant: &str) -> (u64, u64) {
    wait_until(world, "some wait", || waiting(world).get(tenant).is_some_and(|it| it.0 + it.1 > 0));
    waiting(world)[tenant]
}

fn stop_balanced(world: &World, agent: Agent) {
    wait_until(world, "all is settled", || world.audit().0 == 0);
    assert_eq!(agent.stop(), Some(0));
}

fn logs_beyond_a_tenants_share_wait_until_others_are_gone(mut world: World) {
    world_with(&mut world, FEW);
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let agent = world.start();
    world.wait_for(1);
    let paths = loud(&world);
    // Two of the places are the pod's directories'.
    let known = SHARE as usize - 2;
    wait_until(&world, "as many as may be are read", || bodies(&world, "log ").len() == known);
    wait_until_full(&world, "loud");
    wait_until(&world, "all that waits is seen", || {
        waiting(&world)["loud"] == ((LOGS - known) as u64, 0)
    });
    let told = status(&world);
    assert!(told["known_files"]["known"].as_u64().unwrap() <= SHARE + 6, "{told}");
    let mut held_back = told["held_back"].as_array().unwrap().iter();
    assert!(held_back.any(|it| it["resource"] == "known_files" && it["who"] == "loud"), "{told}");
    assert_eq!(metric(&world, "waiting_files"), (LOGS - known) as u64);
    assert!(world.log().contains("Log files wait"), "{}", world.log());
    let (code, verdict) = world.audit();
    assert_eq!((code, &verdict["answer"]), (2, &"incomplete".into()), "{verdict}");
    // Nobody else notices.
    quiet.write(1);
    wait_for_pod(&world, "quiet", 2);
    world.container("other").write(1);
    wait_for_pod(&world, "other", 1);
    // Deleted once they are read: the others have their places.
    let read = bodies(&world, "log ");
    for (n, path) in paths.iter().enumerate() {
        if read.contains_key(&format!("log {n}")) {
            fs::remove_file(path).unwrap();
        }
    }
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == LOGS);
    wait_until(&world, "none waits", || waiting(&world).is_empty());
    assert_each_once(&world, "log ", LOGS);
    assert_exactly_once(&world.records(), &quiet);
    stop_balanced(&world, agent);
}

fn remove_all(paths: &[&PathBuf]) {
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
}

fn logs_that_are_deleted_while_they_wait_are_a_stated_loss(world: World) {
    logs_are_deleted_while_they_wait(world, false, |_, paths| remove_all(paths));
}

/// The kernel does not tell the end of a log that was there before it looked.
fn older_logs_that_are_deleted_while_they_wait_are_a_stated_loss(world: World) {
    logs_are_deleted_while_they_wait(world, true, |_, paths| remove_all(paths));
}

/// The next look shows that all are gone, and no other look follows it.
fn logs_that_are_deleted_at_once_while_they_wait_are_a_stated_loss(world: World) {
    logs_are_deleted_while_they_wait(world, true, |agent, paths| {
        agent.signal(Signal::STOP);
        remove_all(paths);
        agent.signal(Signal::CONT);
    });
}

/// Each once, whether its directory's end or its own is noticed first.
fn logs_whose_directory_is_deleted_while_they_wait_are_a_stated_loss(world: World) {
    logs_are_deleted_while_they_wait(world, false, |_, paths| {
        // All at once, and out of sight.
        let directory = paths[0].parent().unwrap();
        let gone = directory.ancestors().nth(3).unwrap().join("gone");
        fs::rename(directory, &gone).unwrap();
        fs::remove_dir_all(gone).unwrap();
    });
}

fn logs_are_deleted_while_they_wait(
    mut world: World,
    old: bool,
    delete: impl Fn(&Agent, &[&PathBuf]),
) {
    world_with(&mut world, FEW);
    let before = old.then(|| loud(&world));
    let agent = world.start();
    world.wait_for_first_look();
    let paths = before.unwrap_or_else(|| loud(&world));
    let known = SHARE as usize - 2;
    wait_until(&world, "as many as may be are read", || bodies(&world, "log ").len() == known);
    wait_until(&world, "all that waits is seen", || {
        waiting(&world).get("loud") == Some(&((LOGS - known) as u64, 0))
    });
    let read = bodies(&world, "log ");
    let unread = |n: &usize| !read.contains_key(&format!("log {n}"));
    let unread: Vec<&PathBuf> = (0..LOGS).filter(unread).map(|n| &paths[n]).collect();
    let lost: u64 = unread.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    delete(&agent, &unread);
    wait_until(&world, "none waits", || waiting(&world).is_empty());
    wait_until(&world, "the loss is stated", || world.audit().1["lost_bytes"] == lost);
    let (code, verdict) = world.audit();
    assert_eq!((code, &verdict["answer"]), (1, &"lost".into()), "{verdict}");
    assert_eq!(verdict["at_least"], true, "somebody may have written to them meanwhile: {verdict}");
    assert_each_once(&world, "log ", known);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().1["lost_bytes"], lost);
}

/// How much they held nobody saw.
fn directories_that_are_deleted_at_once_while_they_wait_are_a_stated_loss(mut world: World) {
    world_with(&mut world, FEW);
    world.files = format!("    - paths: [\"{}/*/*.log\"]\n", world.path("plain").display());
    for n in 0..LOGS {
        fs::create_dir_all(world.path(&format!("plain/{n}"))).unwrap();
        fs::write(world.path(&format!("plain/{n}/a.log")), format!("log {n}\n")).unwrap();
    }
    let agent = world.start();
    world.wait_for_first_look();
    let tenant = world.path("plain").to_string_lossy().into_owned();
    let (files, directories) = wait_until_full(&world, &tenant);
    assert!(directories > 0);
    let known = LOGS - (files + directories) as usize;
    wait_until(&world, "as many as may be are read", || bodies(&world, "log ").len() == known);
    let read = bodies(&world, "log ");
    agent.signal(Signal::STOP);
    for n in (0..LOGS).filter(|n| !read.contains_key(&format!("log {n}"))) {
        fs::remove_dir_all(world.path(&format!("plain/{n}"))).unwrap();
    }
    agent.signal(Signal::CONT);
    wait_until(&world, "none waits", || waiting(&world).is_empty());
    wait_until(&world, "the loss is stated", || world.audit().0 == 1);
    let (_, verdict) = world.audit();
    assert_eq!((&verdict["answer"], &verdict["at_least"]), (&"lost".into(), &true.into()));
    assert_each_once(&world, "log ", known);
    assert_eq!(agent.stop(), Some(0));
}

fn logs_that_wait_are_collected_after_a_restart_and_when_there_are_more_places(mut world: World) {
    world_with(&mut world, FEW);
    let agent = world.start();
    world.wait_for_first_look();
    let paths = loud(&world);
    wait_until_full(&world, "loud");
    wait_until(&world, "as many as may be are read", || bodies(&world, "log ").len() == 98);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    world.wait_for_first_look();
    wait_until_full(&world, "loud");
    assert_each_once(&world, "log ", 98);
    // What is known goes on.
    let first = bodies(&world, "log ").into_keys().next().unwrap();
    let number: usize = first.strip_prefix("log ").unwrap().parse().unwrap();
    let text = fs::read_to_string(&paths[number]).unwrap() + &line("log and more");
    let mut file = fs::OpenOptions::new().append(true).open(&paths[number]).unwrap();
    std::io::Write::write_all(&mut file, line("log and more").as_bytes()).unwrap();
    assert_eq!(fs::read_to_string(&paths[number]).unwrap(), text);
    wait_until(&world, "what is known is read", || bodies(&world, "log and more").len() == 1);
    world.extra = "read: {known_files: 4000}\n".into();
    world.write_config();
    agent.signal(Signal::HUP);
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == LOGS + 1);
    wait_until(&world, "none waits", || waiting(&world).is_empty());
    assert_each_once(&world, "log ", LOGS + 1);
    stop_balanced(&world, agent);
}

/// Under its new name no pattern asks for it: it was live when it began to wait.
fn a_log_that_is_rotated_while_it_waits_is_collected(mut world: World) {
    world_with(&mut world, "read: {known_files: 64}\n");
    let agent = world.start();
    world.wait_for_first_look();
    let directory = world.path("plain");
    let path = |n: usize| directory.join(format!("{n:02}.log"));
    (0..30).for_each(|n| fs::write(path(n), format!("log {n}\n")).unwrap());
    let tenant = directory.to_string_lossy().into_owned();
    wait_until(&world, "the last ones wait", || waiting(&world).get(&tenant) == Some(&(14, 0)));
    let rotated = directory.join("29.log.1");
    fs::rename(path(29), &rotated).unwrap();
    fs::write(path(29), "log after 29\n").unwrap();
    wait_until(&world, "one more waits", || waiting(&world).get(&tenant) == Some(&(15, 0)));
    for n in 0..16 {
        fs::remove_file(path(n)).unwrap();
    }
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == 31);
    assert_each_once(&world, "log ", 31);
    let records = world.records();
    let at = |text: &str| records.iter().position(|record| body(record) == text).unwrap();
    assert!(at("log 29") < at("log after 29"), "in the order in which they were written");
    stop_balanced(&world, agent);
}

fn many_former_files_of_one_log_wait_in_their_order(mut world: World) {
    world_with(&mut world, FEW);
    let agent = world.start();
    world.wait_for_first_look();
    let directory = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&directory).unwrap();
    let path = |n: usize| directory.join(format!("0.log.20260101-{:06}", n));
    (0..LOGS).for_each(|n| fs::write(path(n), line(&format!("log {n:03}"))).unwrap());
    fs::write(directory.join("0.log"), line("log last")).unwrap();
    wait_until_full(&world, "loud");
    wait_until(&world, "as many as may be are read", || bodies(&world, "log ").len() >= 98);
    let known = status(&world)["known_files"]["known"].as_u64().unwrap();
    assert!(known <= SHARE + SHARE / 4 + 6, "{known}");
    (0..90).for_each(|n| fs::remove_file(path(n)).unwrap());
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == LOGS + 1);
    assert_each_once(&world, "log ", LOGS + 1);
    let records = world.records();
    let order: Vec<_> = of_pod(&records, "p").iter().map(|record| body(record)).collect();
    assert!(order.is_sorted(), "{order:?}");
    stop_balanced(&world, agent);
}

/// They are one tenant's, however many there are.
fn directories_without_end_are_not_looked_through(mut world: World) {
    world_with(&mut world, FEW);
    world.files = format!("    - paths: [\"{}/**/*.log\"]\n", world.path("plain").display());
    let mut quiet = world.container("quiet");
    quiet.write(1);
    let agent = world.start();
    world.wait_for(1);
    let directory = |n: usize| world.path(&format!("plain/{}/{n}", n % 20));
    for n in 0..200 {
        fs::create_dir_all(directory(n)).unwrap();
        fs::write(directory(n).join("a.log"), format!("log {n}\n")).unwrap();
    }
    let tenant = world.path("plain").to_string_lossy().into_owned();
    let (files, directories) = wait_until_full(&world, &tenant);
    assert!(files + directories > 0);
    wait_until(&world, "it has its share", || {
        status(&world)["known_files"]["known"].as_u64().unwrap() >= SHARE
    });
    let known = status(&world)["known_files"]["known"].as_u64().unwrap();
    assert!(known <= SHARE + 6, "{known}");
    assert_eq!(world.audit().0, 2);
    quiet.write(1);
    wait_for_pod(&world, "quiet", 2);
    world.extra = "read: {known_files: 4000}\n".into();
    world.write_config();
    agent.signal(Signal::HUP);
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == 200);
    assert_each_once(&world, "log ", 200);
    wait_until(&world, "none waits", || waiting(&world).is_empty());
    stop_balanced(&world, agent);
}

/// The directory has 20,000 long names that are no logs, and a hundred logs among them.
fn a_large_directory_is_looked_through_a_part_at_a_time(mut world: World) {
    world_with(&mut world, "");
    let directory = world.path("plain");
    let long = "n".repeat(230);
    for n in 0..20_000 {
        fs::File::create(directory.join(format!("{long}{n:06}"))).unwrap();
    }
    let path = |n: usize| directory.join(format!("{n:03}.log"));
    (0..50).for_each(|n| fs::write(path(n), format!("log {n}\n")).unwrap());
    let agent = world.start();
    let (mut quiet, began) = (world.container("quiet"), Instant::now());
    quiet.write(1);
    wait_for_pod(&world, "quiet", 1);
    assert!(began.elapsed() < patience(), "{:?}", began.elapsed());
    (50..100).for_each(|n| fs::write(path(n), format!("log {n}\n")).unwrap());
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == 100);
    // What is known is seen at every look, whatever it is called.
    let rotate = |n: usize| {
        fs::rename(path(n), directory.join(format!("{n:03}.log.1"))).unwrap();
        fs::write(path(n), format!("log after {n}\n")).unwrap();
    };
    (0..100).for_each(rotate);
    wait_until(&world, "all are read", || bodies(&world, "log ").len() == 200);
    assert_each_once(&world, "log ", 200);
    stop_balanced(&world, agent);
}

fn names_that_come_and_go_leave_nothing_behind(mut world: World) {
    world_with(&mut world, "");
    let agent = world.start();
    world.wait_for_first_look();
    let pod = world.path("pods/loud_p_0d7e/c");
    fs::create_dir_all(&pod).unwrap();
    let paths = |n: usize| [pod.join(format!("{n}.log")), world.path(&format!("plain/{n}.log"))];
    for n in 0..LOGS {
        for path in paths(n) {
            fs::write(path, line(&format!("log {n}"))).unwrap();
        }
    }
    wait_until(&world, "all are read", || bodies(&world, "").len() >= LOGS * 2);
    assert!(metric(&world, "sources") >= 2 * LOGS as u64);
    (0..LOGS).flat_map(paths).for_each(|path| fs::remove_file(path).unwrap());
    wait_until(&world, "their sources are forgotten", || metric(&world, "sources") == 0);
    wait_until(&world, "their places are given back", || metric(&world, "known_files") <= 6);
    // A name that comes back begins anew.
    write_again(&paths(7)[0]);
    wait_until(&world, "it is read", || bodies(&world, "log again").len() == 1);
    stop_balanced(&world, agent);
}

fn write_again(path: &Path) {
    fs::write(path, line("log again")).unwrap();
}
