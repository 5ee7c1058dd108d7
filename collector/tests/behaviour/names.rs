//! What is told of a container after its log was found: its id, by a link that kubelet makes later.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Container, World, assert_exactly_once, body, free_port, in_every_mode};

in_every_mode!(
    the_first_lines_wait_for_the_link_that_tells_the_id,
    what_waits_for_its_link_is_delivered_when_the_pod_is_gone,
    what_waits_for_its_link_is_delivered_at_a_stop,
    a_link_that_comes_too_late_holds_for_what_is_written_after_it,
    an_id_that_was_told_stays_when_its_link_goes,
    a_node_without_links_is_waited_for_a_few_times_only,
    a_directory_of_links_that_comes_later_tells_ids,
);

/// A world on whose node kubelet makes links.
fn prepare(mut world: World, wait: &'static str) -> World {
    fs::create_dir(world.path("containers")).unwrap();
    world.wait_for_id = wait;
    world
}

fn id_of(name: &str) -> String {
    let digit = format!("{:x}", name.len() % 16);
    digit.repeat(64)
}

/// Kubelet's link to a container's first log.
fn link(world: &World, name: &str) -> PathBuf {
    let link = world.path(&format!("containers/{name}_shop_main-{}.log", id_of(name)));
    symlink(world.path(&format!("pods/shop_{name}_uid-{name}/main/0.log")), &link).unwrap();
    link
}

#[track_caller]
fn expect_id(records: &[Value], container: &Container, name: &str) {
    assert_exactly_once(records, container);
    let ours = records.iter().filter(|record| record["k8s.pod.name"] == name);
    for record in ours {
        assert_eq!(record["container.id"], id_of(name), "{record}");
    }
}

fn the_first_lines_wait_for_the_link_that_tells_the_id(world: World) {
    let world = prepare(world, "60s");
    let agent = world.start();
    world.wait_for_first_look();
    let mut web = world.container("web");
    web.write(3);
    std::thread::sleep(Duration::from_millis(700));
    assert!(world.records().is_empty(), "nothing goes without its id");
    link(&world, "web");
    world.wait_for(3);
    web.write(2);
    world.wait_for(5);
    agent.kill();
    web.write(2);
    // Born while no agent runs; its link comes after the agent.
    let mut young = world.container("young");
    young.write(2);
    let agent = world.start();
    world.wait_for(7);
    web.rotate();
    web.write(2);
    world.wait_for(9);
    link(&world, "young");
    let records = world.wait_for(11);
    assert_eq!(agent.stop(), Some(0));
    expect_id(&records, &web, "web");
    expect_id(&records, &young, "young");
}

fn what_waits_for_its_link_is_delivered_when_the_pod_is_gone(world: World) {
    let world = prepare(world, "3s");
    let agent = world.start();
    world.wait_for_first_look();
    let mut short = world.container("short");
    short.write(3);
    // Long enough for polling to see it.
    std::thread::sleep(Duration::from_millis(1_500));
    let link = link(&world, "short");
    std::thread::sleep(Duration::from_millis(100));
    fs::remove_file(link).unwrap();
    fs::remove_dir_all(short.dir.parent().unwrap()).unwrap();
    world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &short);
    assert_eq!(world.audit().0, 0);
}

fn what_waits_for_its_link_is_delivered_at_a_stop(world: World) {
    let world = prepare(world, "60s");
    let agent = world.start();
    world.wait_for_first_look();
    let mut web = world.container("web");
    web.write(3);
    // Long enough for polling to see it.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(world.records().is_empty());
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &web);
}

fn a_link_that_comes_too_late_holds_for_what_is_written_after_it(world: World) {
    let mut world = prepare(world, "1s");
    world.admin = Some(free_port());
    let agent = world.start();
    world.wait_for_first_look();
    let mut web = world.container("web");
    web.write(1);
    assert!(world.wait_for(1)[0]["container.id"].is_null());
    link(&world, "web");
    write_until_named(&world, &mut web);
    let before = web.written as usize;
    // Polling may see the log when there is nothing left to wait for.
    let counted = world.ask("/metrics").contains("everyline_unnamed_sources_total 1");
    assert!(counted || world.watch == "poll");
    agent.kill();
    web.write(1);
    let agent = world.start();
    let records = world.wait_for(before + 1);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &web);
    assert!(records[before - 1..].iter().all(|record| record["container.id"] == id_of("web")));
}

/// The link is heard of by itself, without a line; how soon depends on the way of watching.
fn write_until_named(world: &World, container: &mut Container) {
    let end = Instant::now() + crate::harness::patience();
    loop {
        container.write(1);
        let records = world.wait_for(container.written as usize);
        if !records.last().unwrap()["container.id"].is_null() {
            return;
        }
        assert!(Instant::now() < end, "{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_directory_of_links_that_comes_later_tells_ids(world: World) {
    let agent = world.start();
    let mut web = world.container("web");
    web.write(1);
    world.wait_for(1);
    fs::create_dir(world.path("containers")).unwrap();
    link(&world, "web");
    write_until_named(&world, &mut web);
    web.write(1);
    let records = world.wait_for(web.written as usize);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&records, &web);
    assert_eq!(records.last().unwrap()["container.id"], id_of("web"));
}

fn an_id_that_was_told_stays_when_its_link_goes(world: World) {
    let world = prepare(world, "60s");
    let mut web = world.container("web");
    let link = link(&world, "web");
    web.write(1);
    let agent = world.start();
    world.wait_for(1);
    fs::remove_file(link).unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        web.rotate();
        web.write(1);
    }
    let records = world.wait_for(4);
    assert_eq!(agent.stop(), Some(0));
    expect_id(&records, &web, "web");
}

fn a_node_without_links_is_waited_for_a_few_times_only(world: World) {
    let mut world = prepare(world, "2s");
    world.admin = Some(free_port());
    let agent = world.start();
    world.wait_for_first_look();
    for (at, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        world.container(name).write(1);
        world.wait_for(at + 1);
        std::thread::sleep(Duration::from_millis(300));
    }
    let metrics = world.ask("/metrics");
    let counted = metrics.lines().find(|line| line.starts_with("everyline_unnamed_sources_total "));
    assert_eq!(counted, Some("everyline_unnamed_sources_total 3"));
    // One that gets a link is waited for again, as is the next one.
    let mut linked = world.container("linked");
    link(&world, "linked");
    linked.write(1);
    let records = world.wait_for(7);
    assert_eq!(body(&records[6]), "message 0");
    assert_eq!(agent.stop(), Some(0));
}
