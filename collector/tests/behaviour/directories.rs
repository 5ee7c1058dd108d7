//! Very many directories below a pattern: looking through one tenant's holds up no other.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    harness::{Over, World, body, free_port, in_every_mode, patience},
    quotas::wait_for_pod,
};

in_every_mode!(
    thousands_of_directories_that_change_at_once_hold_up_no_other,
    thousands_of_directories_that_come_and_go_at_once_hold_up_no_other,
    logs_in_thousands_of_new_directories_are_collected_and_hold_up_no_other,
    pods_whose_root_is_made_beside_new_directories_and_links_are_not_held_up,
    an_audit_is_not_complete_while_directories_wait_for_their_turns,
);

const DIRECTORIES: usize = 4_000;
/// Without the others a line takes less than half a one.
const SOON: Duration = Duration::from_millis(2_500);

fn world_of_trees(mut world: World) -> World {
    world.files = format!("    - paths: [\"{}/**/*.log\"]\n", world.path("plain").display());
    world.extra = "read: {known_files: 100000}\n".into();
    // By default the kernel watch has room for as many.
    world.slots = 16_384;
    world
}

fn directory(world: &World, tree: &str, n: usize) -> PathBuf {
    world.path(&format!("{tree}/{}/{n}", n % 40))
}

fn make_tree(world: &World, tree: &str) {
    (0..DIRECTORIES).for_each(|n| fs::create_dir_all(directory(world, tree, n)).unwrap());
}

/// The longest that a line of a known log or the first of a new pod takes until a flood is over.
pub(crate) fn slowest_beside(
    world: &World,
    flood: impl FnOnce() + Send,
    lasting: Duration,
) -> Duration {
    let (mut slowest, began) = (Duration::ZERO, Instant::now());
    std::thread::scope(|scope| {
        let flood = scope.spawn(flood);
        std::thread::sleep(Duration::from_millis(200));
        let mut known = world.container("known");
        for n in 0.. {
            let pod = format!("new-{n}");
            world.container(&pod).write(1);
            known.write(1);
            slowest = slowest.max(wait_for_pod(world, &pod, 1));
            let lines = known.written as usize;
            slowest = slowest.max(wait_for_pod(world, "known", lines));
            if flood.is_finished() || began.elapsed() > lasting {
                break;
            }
        }
    });
    slowest
}

fn wait_for_logs(world: &World, count: usize) {
    let deadline = Instant::now() + patience() * 2;
    let logs = || world.records().iter().filter(|it| body(it).starts_with("log ")).count();
    while logs() < count {
        assert!(Instant::now() < deadline, "{} of {count}\n{}", logs(), world.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut all: Vec<_> = world.records().iter().map(|it| body(it).to_owned()).collect();
    all.retain(|body| body.starts_with("log "));
    all.sort_unstable();
    all.dedup();
    assert_eq!((logs(), all.len()), (count, count), "each once");
}

/// Each has to be looked at again, and all the time.
fn thousands_of_directories_that_change_at_once_hold_up_no_other(world: World) {
    let world = world_of_trees(world);
    make_tree(&world, "plain/tree");
    let agent = world.start();
    world.wait_for_first_look();
    let over = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let change = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for n in 0..DIRECTORIES {
                    let path = directory(&world, "plain/tree", n).join("comes and goes");
                    fs::write(&path, "").unwrap();
                    fs::remove_file(&path).unwrap();
                }
            }
        });
        let until = Over(&over);
        let wait = || std::thread::sleep(Duration::from_secs(10));
        let slowest = slowest_beside(&world, wait, Duration::from_secs(8));
        drop(until);
        change.join().unwrap();
        slowest
    });
    assert!(slowest < SOON, "{slowest:?}");
    // What came in them meanwhile is found.
    for n in 0..DIRECTORIES {
        let path = directory(&world, "plain/tree", n).join("a.log");
        fs::write(path, format!("log {n}\n")).unwrap();
    }
    wait_for_logs(&world, DIRECTORIES);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// A tree is moved below the pattern, away again, and deleted.
fn thousands_of_directories_that_come_and_go_at_once_hold_up_no_other(world: World) {
    let world = world_of_trees(world);
    let agent = world.start();
    world.wait_for_first_look();
    make_tree(&world, "tree");
    let moves = || {
        for _ in 0..2 {
            fs::rename(world.path("tree"), world.path("plain/tree")).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            fs::rename(world.path("plain/tree"), world.path("tree")).unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        fs::rename(world.path("tree"), world.path("plain/tree")).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        fs::remove_dir_all(world.path("plain/tree")).unwrap();
    };
    let slowest = slowest_beside(&world, moves, patience());
    assert!(slowest < SOON, "{slowest:?}");
    // The next one is looked through as if none had been there.
    make_tree(&world, "plain/tree");
    for n in (0..DIRECTORIES).step_by(100) {
        let path = directory(&world, "plain/tree", n).join("a.log");
        fs::write(path, format!("log {n}\n")).unwrap();
    }
    wait_for_logs(&world, DIRECTORIES / 100);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Each has a log, is renamed after it was made, and no line is late for another's or missing.
fn logs_in_thousands_of_new_directories_are_collected_and_hold_up_no_other(world: World) {
    let world = world_of_trees(world);
    let agent = world.start();
    world.wait_for_first_look();
    let make = || {
        for n in 0..DIRECTORIES {
            let directory = directory(&world, "plain/tree", n);
            let made = directory.with_extension("new");
            fs::create_dir_all(&made).unwrap();
            fs::write(made.join("a.log"), format!("log {n}\n")).unwrap();
            fs::rename(made, directory).unwrap();
        }
    };
    let slowest = slowest_beside(&world, make, patience());
    assert!(slowest < SOON, "{slowest:?}");
    wait_for_logs(&world, DIRECTORIES);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Links of one tenant lead into hundreds of directories meanwhile, which are looked at in turns as well.
fn pods_whose_root_is_made_beside_new_directories_and_links_are_not_held_up(world: World) {
    const LOGS: usize = 3_000;
    const LINKS: usize = 500;
    let mut world = world_of_trees(world);
    world.files += &format!("    - paths: [\"{}/*.log\"]\n", world.path("linked").display());
    fs::create_dir(world.path("linked")).unwrap();
    fs::remove_dir(world.path("pods")).unwrap();
    let agent = world.start();
    world.wait_for_first_look();
    let make = || {
        for n in 0..LOGS {
            let directory = directory(&world, "plain/tree", n);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("a.log"), format!("log {n}\n")).unwrap();
        }
        for n in 0..LINKS {
            let target = world.path(&format!("linked/{n}/logs/x.txt"));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, format!("log of link {n}\n")).unwrap();
            symlink(target, world.path(&format!("linked/{n}.log"))).unwrap();
        }
        wait_for_logs(&world, LOGS + LINKS);
    };
    let slowest = slowest_beside(&world, make, patience());
    assert!(slowest < SOON, "{slowest:?}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0);
}

/// Nobody knows what is in them until they are looked at.
fn an_audit_is_not_complete_while_directories_wait_for_their_turns(world: World) {
    const LOGS: usize = 20;
    let mut world = world_of_trees(world);
    world.admin = Some(free_port());
    let agent = world.start();
    world.wait_for_first_look();
    make_tree(&world, "tree");
    for n in 0..LOGS {
        let last = world.path(&format!("tree/39/zz/{n}"));
        fs::create_dir_all(&last).unwrap();
        fs::write(last.join("a.log"), format!("log {n}\n")).unwrap();
    }
    fs::write(world.path("tree/first.log"), "first\n").unwrap();
    fs::rename(world.path("tree"), world.path("plain/tree")).unwrap();
    world.wait_for(1);
    let sources = || {
        let text = world.ask("/metrics");
        let found = text.lines().find_map(|line| line.strip_prefix("everyline_sources "));
        found.unwrap().parse::<usize>().unwrap()
    };
    let (deadline, mut incomplete) = (Instant::now() + patience(), 0);
    loop {
        let (code, verdict) = world.audit();
        if code == 0 {
            assert_eq!(sources(), LOGS + 1, "{incomplete} times it said that it was too early");
            break;
        }
        assert_eq!((code, &verdict["answer"]), (2, &"incomplete".into()), "{verdict}");
        incomplete += 1;
        assert!(Instant::now() < deadline, "{verdict}");
    }
    wait_for_logs(&world, LOGS);
    assert_eq!(agent.stop(), Some(0));
}
