//! Reloads: checked first, a wrong configuration changes nothing; what a new one does not change goes
//! on without a pause.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Agent, Container, Over, World, assert_exactly_once, body, in_every_mode, patience},
    receiver::{Fault, Receiver},
};

#[test]
fn a_reload_adds_a_sink_and_loses_nothing() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for(100);
    let receiver = Receiver::start(&[]);
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    container.write(100);
    world.wait_for(200);
    let records = receiver.wait_until("all", |records| records.len() >= 200);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_exactly_once(&records, &container);
}

#[test]
fn a_wrong_configuration_keeps_the_old_one() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    world.extra = "no_such_key: 1\n".into();
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("the old one stays");
    assert!(world.log().contains("no_such_key"), "{}", world.log());
    container.write(10);
    world.wait_for(20);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_sink_that_cannot_start_keeps_the_old_configuration() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let missing = world.path("missing.pem");
    world.sinks += &format!(
        "  web:\n    type: http\n    url: https://127.0.0.1:1/\n    tls:\n      ca_file: {}\n",
        missing.display()
    );
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for_log("the old one stays");
    assert!(world.log().contains("missing.pem"), "{}", world.log());
    container.write(10);
    world.wait_for(20);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_deleted_file_that_is_not_delivered_survives_a_reload() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks = receiver.sink();
    world.extra = "drain_timeout: 500ms\n".into();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(1_000);
    world.wait_for_log("answered 503");
    fs::remove_file(container.live()).unwrap();
    thread::sleep(Duration::from_millis(300));
    agent.signal(Signal::HUP);
    world.wait_for_log("configuration was reloaded");
    receiver.always(None);
    let records = receiver.wait_until("all", |records| records.len() >= 1_000);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
}

/// A world with a healthy file sink and a sink that is down, as the drain timeout's default would
/// have it wait for.
fn with_a_dead_sink() -> (World, Receiver) {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &web(&receiver);
    (world, receiver)
}

fn web(receiver: &Receiver) -> String {
    receiver.sink().replace("  out:", "  web:")
}

/// A pod that writes some lines and is gone after 200 ms, directory and all. Many short pauses: where
/// nobody gets a core for a while, it lives the longer.
fn short_lived(world: &World, name: &str) -> Container {
    let mut container = world.container(name);
    container.write(5);
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(10));
    }
    fs::remove_dir_all(container.dir.parent().unwrap()).unwrap();
    container
}

/// Waits until the file has every line of these containers; says which ones it has not.
fn wait_for_all<'a>(world: &World, containers: impl Iterator<Item = &'a Container> + Clone) {
    let deadline = Instant::now() + patience();
    loop {
        let records = world.records();
        let missing: Vec<_> = containers
            .clone()
            .filter_map(|container| {
                let pod = container.pod();
                let ours = records.iter().filter(|record| record["k8s.pod.name"] == pod.as_str());
                let there: BTreeSet<&str> = ours.map(body).collect();
                let wanted = (0..container.written).map(|n| format!("message {n}"));
                let missing: Vec<_> = wanted.filter(|line| !there.contains(&**line)).collect();
                let (first, last) = (missing.first()?, missing.last()?);
                Some(format!("{pod}: {} lines, {first} to {last}", missing.len()))
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "missing: {missing:#?}\n{}", world.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until one more reload is done.
fn reload(world: &World, agent: &Agent) {
    let before = world.log().matches("configuration was reloaded").count();
    world.write_config();
    agent.signal(Signal::HUP);
    let deadline = Instant::now() + patience();
    while world.log().matches("configuration was reloaded").count() == before {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_reload_before_a_dead_sink_holds_up_nobody() {
    let (mut world, receiver) = with_a_dead_sink();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    world.wait_for_log("answered 503");
    world.max_age = "70ms";
    let began = Instant::now();
    reload(&world, &agent);
    container.write(10);
    let short = short_lived(&world, "short");
    world.wait_for(25);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "the drain timeout was waited for: {took:?}");
    receiver.always(None);
    receiver.wait_until("all", |records| records.len() >= 25);
    assert_eq!(agent.stop(), Some(0));
    for records in [world.records(), receiver.records()] {
        assert_exactly_once(&records, &container);
        assert_exactly_once(&records, &short);
    }
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_sink_that_changes_under_load_writes_every_line_once() {
    let mut world = World::new("auto");
    world.sinks += "  store:\n    type: archive\n    level: 1\n";
    let agent = world.start();
    world.wait_for_log("Everyline runs");
    let mut container = world.container("a");
    for round in 0..8 {
        container.write(3_000);
        if round % 3 == 1 {
            container.rotate();
        }
        let out = world.path("out/out.ndjson");
        world.sinks = format!(
            "  out:\n    type: file\n    path: {}\n    rotate_size: {}GiB\n  store:\n    type: archive\n    level: {}\n",
            out.display(),
            round + 2,
            round % 2 + 1
        );
        reload(&world, &agent);
        container.write(100);
    }
    world.wait_for(container.written as usize);
    let total = container.written as usize;
    let stored = || {
        let found = world.everyline(&["search", "message", "-o", "json"]);
        let text = String::from_utf8(found.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let deadline = Instant::now() + patience();
    while stored().len() < total {
        assert!(
            Instant::now() < deadline,
            "{} of {total} in the archive\n{}",
            stored().len(),
            world.log()
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(stored().len(), total);
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_sink_that_was_wrong_is_replaced_and_gets_what_it_missed() {
    let (mut world, nobody) = with_a_dead_sink();
    let agent = world.start();
    let mut container = world.container("a");
    container.write(2_000);
    let rotated = container.rotate();
    container.write(100);
    world.wait_for(2_100);
    world.wait_for_log("answered 503");
    fs::remove_file(rotated).unwrap();
    let receiver = Receiver::start(&[]);
    world.sinks = world.sinks.replace(&web(&nobody), &web(&receiver));
    reload(&world, &agent);
    let records = receiver.wait_until("all", |records| records.len() >= 2_100);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &container);
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_sink_that_is_removed_is_given_what_it_was_sent_and_holds_nothing() {
    let (mut world, receiver) = with_a_dead_sink();
    let only_file = world.sinks.replace(&web(&receiver), "");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(50);
    world.wait_for(50);
    world.wait_for_log("answered 503");
    world.sinks = only_file;
    reload(&world, &agent);
    receiver.always(None);
    let records = receiver.wait_until("what was on its way", |records| records.len() >= 50);
    container.write(50);
    world.wait_for(100);
    // Nobody waits for the sink that is gone: the file is let go of.
    fs::remove_file(container.live()).unwrap();
    let deadline = Instant::now() + patience();
    while agent.open_files("shop_a") > 0 {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!((records.len(), receiver.count()), (50, 50), "it was sent more");
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_sink_that_is_removed_and_comes_back_goes_on_where_it_was() {
    let mut world = World::new("auto");
    let out = world.sinks.clone();
    world.sinks += "  null:\n    type: 'null'\n";
    let agent = world.start();
    let mut container = world.container("a");
    container.write(100);
    world.wait_for(100);
    world.sinks = "  null:\n    type: 'null'\n".into();
    reload(&world, &agent);
    container.write(100);
    world.sinks = out;
    reload(&world, &agent);
    world.wait_for(200);
    container.write(100);
    world.wait_for(300);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
}

#[test]
fn a_sink_that_a_reload_adds_begins_where_read_start_says() {
    for (start, wanted) in [("end", 10), ("beginning", 110)] {
        let mut world = World::new("auto");
        world.extra = format!("read:\n  start: {start}\n");
        let agent = world.start();
        world.wait_for_first_look();
        let mut container = world.container("a");
        container.write(100);
        world.wait_for(100);
        let receiver = Receiver::start(&[]);
        world.sinks += &web(&receiver);
        reload(&world, &agent);
        world.wait_for_log("sink was started");
        // The sink's place is made durable before anything is sent to it.
        thread::sleep(Duration::from_millis(500));
        container.write(10);
        let records = receiver.wait_until("all", |records| records.len() >= wanted);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(receiver.count(), wanted, "{start}");
        let first = format!("message {}", 110 - wanted);
        assert_eq!(body(&records[0]), first, "{start}");
        // And neither is forgotten over a restart.
        let agent = world.start();
        container.write(1);
        receiver.wait_until("the rest", |records| records.len() > wanted);
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(receiver.count(), wanted + 1, "{start}");
        assert_exactly_once(&world.records(), &container);
    }
}

#[test]
fn a_configuration_file_that_changes_is_reloaded_by_itself() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let good = world.sinks.clone();
    world.sinks = "  out:\n    type: no_such_type\n".into();
    world.write_config();
    world.wait_for_log("the old one stays");
    let receiver = Receiver::start(&[]);
    world.sinks = good + &web(&receiver);
    world.write_config();
    world.wait_for_log("configuration was reloaded");
    container.write(10);
    receiver.wait_until("all", |records| records.len() >= 20);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_exactly_once(&receiver.records(), &container);
}

#[test]
fn the_link_of_a_config_map_that_is_swapped_is_a_reload() {
    let mut world = World::new("auto");
    world.write_config();
    let maps = world.path("map");
    let publish = |world: &World, version: &str| {
        world.write_config();
        fs::create_dir_all(maps.join(version)).unwrap();
        fs::copy(world.config_path(), maps.join(version).join("everyline.yaml")).unwrap();
        symlink(version, maps.join("..data_tmp")).unwrap();
        fs::rename(maps.join("..data_tmp"), maps.join("..data")).unwrap();
    };
    publish(&world, "..1");
    symlink("..data/everyline.yaml", maps.join("everyline.yaml")).unwrap();
    let agent = world.start_with(&maps.join("everyline.yaml"));
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let receiver = Receiver::start(&[]);
    world.sinks += &web(&receiver);
    publish(&world, "..2");
    world.wait_for_log("configuration was reloaded");
    receiver.wait_until("all", |records| records.len() >= 10);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&receiver.records(), &container);
}

#[test]
fn what_cannot_change_while_the_agent_runs_is_said_and_the_rest_is_applied() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    container.write(10);
    world.wait_for(10);
    let receiver = Receiver::start(&[]);
    world.sinks += &web(&receiver);
    world.sweep_interval = "77s";
    reload(&world, &agent);
    let log = world.log();
    let said =
        log.lines().find(|line| line.contains("cannot change while the agent runs")).unwrap();
    for part in ["watch.sweep_interval", "5s", "77s", "restart the agent"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    receiver.wait_until("all", |records| records.len() >= 10);
    assert_eq!(agent.stop(), Some(0));
}

/// Reloads without end, each with another set of sinks, while a file is rotated, pods live 200 ms and
/// one sink is dead.
fn storm(mut world: World, reloads: u32) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &web(&receiver);
    world.extra = "drain_timeout: 2s\n".into();
    let base = world.sinks.clone();
    let agent = world.start();
    world.wait_for_log("Everyline runs");
    let mut container = world.container("a");
    let mut gone = Vec::new();
    for round in 0..reloads {
        world.sinks = base.clone();
        if round % 2 == 1 {
            world.sinks += "  extra:\n    type: 'null'\n";
        }
        if round % 5 == 2 {
            world.sinks =
                world.sinks.replace("rotate_size: 1GiB", &format!("rotate_size: {}GiB", round + 2));
        }
        world.max_age = if round % 3 == 0 { "50ms" } else { "30ms" };
        world.write_config();
        agent.signal(Signal::HUP);
        container.write(500);
        if round % 4 == 0 {
            container.rotate();
        }
        gone.push(short_lived(&world, &format!("short-{round}")));
    }
    let lines = container.written as usize + 5 * gone.len();
    wait_for_all(&world, gone.iter().chain([&container]));
    receiver.always(None);
    receiver.wait_until("all", |records| records.len() >= lines);
    assert_eq!(agent.stop(), Some(0));
    for container in gone.iter().chain([&container]) {
        assert_exactly_once(&world.records(), container);
        assert_exactly_once(&receiver.records(), container);
    }
    assert_eq!(world.audit().0, 0);
}

fn twelve_reloads_under_load_before_a_dead_sink_lose_nothing(world: World) {
    storm(world, 12);
}

#[test]
#[ignore = "a minute long; for the soak"]
fn a_hundred_reloads_under_load_before_a_dead_sink_lose_nothing() {
    storm(World::new("auto"), 100);
}

#[test]
fn a_sink_that_a_reload_adds_gets_rotated_files_that_are_still_there() {
    let mut world = World::new("auto");
    let agent = world.start();
    let mut container = world.container("a");
    for _ in 0..3 {
        container.write(50);
        container.rotate();
        thread::sleep(Duration::from_millis(400));
    }
    container.write(50);
    world.wait_for(200);
    // Long enough for the rotated files to be let go of.
    let deadline = Instant::now() + patience();
    while agent.open_files("0.log.") > 0 {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(100));
    }
    let receiver = Receiver::start(&[]);
    world.sinks += &web(&receiver);
    reload(&world, &agent);
    let records = receiver.wait_until("all", |records| records.len() >= 200);
    assert_eq!(agent.stop(), Some(0));
    let mut bodies: Vec<_> = records.iter().map(body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!((records.len(), bodies.len()), (200, 200));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

fn a_log_that_goes_away_while_sources_change_is_read_to_its_end(mut world: World) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &web(&receiver);
    let agent = world.start();
    world.wait_for_first_look();
    // Enough for a look at all of them to take a while.
    let mut pods: Vec<Container> =
        (0..300).map(|number| world.container(&format!("pod-{number}"))).collect();
    pods.iter_mut().for_each(|pod| pod.write(5));
    let plain = world.path("plain/app.log");
    fs::write(&plain, "").unwrap();
    world.wait_for(5 * pods.len());
    let mut lines = 0;
    for (round, pods) in pods.chunks_mut(30).enumerate() {
        // Other sources at each reload, none of which concerns these.
        world.exclude = if round % 2 == 0 { "nobody" } else { "" };
        world.write_config();
        agent.signal(Signal::HUP);
        for pod in pods {
            pod.write(5);
            fs::remove_dir_all(pod.dir.parent().unwrap()).unwrap();
            // Moved out of sight, and a moment later there is another one.
            fs::rename(&plain, world.path("former")).unwrap();
            thread::sleep(Duration::from_millis(2));
            fs::write(&plain, format!("line {lines}\n")).unwrap();
            lines += 1;
            thread::sleep(Duration::from_millis(5));
        }
    }
    fs::rename(&plain, world.path("former")).unwrap();
    fs::write(&plain, "the last line\n").unwrap();
    let deadline = Instant::now() + patience();
    while !world.records().iter().any(|record| body(record) == "the last line") {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(50));
    }
    wait_for_all(&world, pods.iter());
    receiver.always(None);
    receiver.wait_until("all", |records| records.len() >= 10 * pods.len());
    assert!(!world.log().contains("no longer collected"), "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
    for pod in &pods {
        assert_exactly_once(&world.records(), pod);
        assert_exactly_once(&receiver.records(), pod);
    }
}

/// However long batches are given to fill, and however much others write.
fn pods_that_live_200_ms_beside_a_busy_one_are_collected(mut world: World) {
    world.max_age = "1s";
    let agent = world.start();
    world.wait_for_first_look();
    let mut busy = world.container("busy");
    let done = AtomicBool::new(false);
    let mut gone = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                busy.write(1);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let over = Over(&done);
        // The busy one is known by then.
        thread::sleep(Duration::from_millis(1_500));
        for number in 0..8 {
            gone.push(short_lived(&world, &format!("short-{number}")));
            thread::sleep(Duration::from_millis(37 * number));
        }
        drop(over);
    });
    wait_for_all(&world, gone.iter().chain([&busy]));
    assert_eq!(agent.stop(), Some(0));
    for container in gone.iter().chain([&busy]) {
        assert_exactly_once(&world.records(), container);
    }
}

in_every_mode!(
    a_log_that_goes_away_while_sources_change_is_read_to_its_end,
    pods_that_live_200_ms_beside_a_busy_one_are_collected,
    twelve_reloads_under_load_before_a_dead_sink_lose_nothing,
);

#[test]
fn sources_change_while_the_others_go_on() {
    let mut world = World::new("auto");
    let agent = world.start();
    let (mut kept, mut left) = (world.container("kept"), world.container("left"));
    fs::write(world.path("late.txt"), "one\n").unwrap();
    kept.write(10);
    left.write(10);
    world.wait_for(20);
    let dir = world.dir.path().display().to_string();
    world.exclude = "left";
    world.files += &format!("    - paths: [\"{dir}/late.txt\"]\n");
    reload(&world, &agent);
    world.wait_for_log("no longer collected");
    left.write(10);
    kept.write(10);
    let records = world.wait_for(31);
    assert!(records.iter().any(|record| body(record) == "one"), "the new pattern finds its file");
    // What is not collected is not held either.
    let deadline = Instant::now() + patience();
    while agent.open_files("shop_left") > 0 {
        assert!(Instant::now() < deadline, "{}", world.log());
        thread::sleep(Duration::from_millis(50));
    }
    world.exclude = "";
    reload(&world, &agent);
    left.write(10);
    kept.write(10);
    world.wait_for(61);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &kept);
    assert_exactly_once(&world.records(), &left);
}
