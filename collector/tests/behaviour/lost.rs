//! What is lost and how it is stated: to the byte where the kernel counts, and else as the least that was
//! lost. Never less without saying so, and never more.

use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;

use crate::{
    copytruncate::compress,
    harness::{Agent, BpfFs, World, append, body, has_kernel_watch, lines, settled_audit},
};

/// How the agent is kept from looking.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Away {
    /// SIGSTOP and SIGCONT.
    Paused,
    /// Killed, and started again.
    Killed,
}

impl Away {
    const ALL: [Self; 2] = [Self::Paused, Self::Killed];

    /// Lets things happen of which the agent sees nothing.
    fn during(self, world: &World, agent: Agent, happen: impl FnOnce()) -> Agent {
        match self {
            Self::Paused => {
                agent.signal(Signal::STOP);
                happen();
                agent.signal(Signal::CONT);
                agent
            }
            Self::Killed => {
                agent.kill();
                happen();
                restart(world)
            }
        }
    }
}

/// Starts an agent after another one, and waits until it answers instead of what that left.
fn restart(world: &World) -> Agent {
    let agent = look(world);
    std::thread::sleep(Duration::from_secs(5));
    agent
}

/// Starts an agent and waits for its first look.
fn look(world: &World) -> Agent {
    let looks = || world.log().matches("first look for logs is done").count();
    let before = looks();
    let agent = world.start();
    while looks() == before {
        std::thread::sleep(Duration::from_millis(20));
    }
    agent
}

fn world() -> Option<(World, BpfFs)> {
    if !has_kernel_watch() {
        return None;
    }
    let world = World::new("kernel");
    let pins = BpfFs::mount(&world.path("bpf"))?;
    Some((world, pins))
}

fn truncate(path: &Path) {
    fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// One life or several, read in part or not at all, came to an end by truncation while nobody looked.
#[test]
fn what_was_truncated_before_it_was_read_is_stated_to_the_byte() {
    for away in Away::ALL {
        for lives in [1, 3] {
            let Some((world, _pins)) = world() else { return };
            let path = world.path("plain/app.log");
            append(&path, lines("read", 50));
            let agent = world.start();
            world.wait_for(50);
            std::thread::sleep(Duration::from_secs(1));
            let mut lost = 0;
            let agent = away.during(&world, agent, || {
                for life in 0..lives {
                    let text = lines(&format!("lost {life}"), 40);
                    append(&path, &text);
                    lost += text.len();
                    truncate(&path);
                }
                // Nobody knows this one.
                let other = world.path("plain/other.log");
                append(&other, "written and truncated\n");
                truncate(&other);
                lost += 22;
                append(&other, "other\n");
                append(&path, lines("after", 60));
            });
            world.wait_for(111);
            let audit = settled_audit(&world);
            let what = format!("{away:?}, {lives} lives: {audit}\n{}", world.log());
            assert_eq!(audit["lost"]["truncated"], lost, "{what}");
            assert_eq!(audit["lost_bytes"], lost, "{what}");
            assert_eq!(audit["at_least"], false, "{what}");
            assert_eq!(world.records().len(), 111, "{what}");
            assert_eq!(agent.stop(), Some(0));
            let stored = world.audit().1;
            assert_eq!(stored["lost"], audit["lost"], "a stop changes nothing: {stored}");
        }
    }
}

/// `copytruncate`: the copy is read on, and lost is what was written between copying and truncating.
#[test]
fn of_a_truncated_file_lost_is_what_its_copy_does_not_hold() {
    for away in Away::ALL {
        let Some((world, _pins)) = world() else { return };
        let (path, copy) = (world.path("plain/app.log"), world.path("plain/app.log.1"));
        append(&path, lines("read", 50));
        let agent = world.start();
        world.wait_for(50);
        std::thread::sleep(Duration::from_secs(1));
        let gap = lines("between", 7);
        let agent = away.during(&world, agent, || {
            append(&path, lines("copied", 40));
            fs::copy(&path, &copy).unwrap();
            append(&path, &gap);
            truncate(&path);
            append(&path, lines("after", 60));
        });
        world.wait_for(150);
        let audit = settled_audit(&world);
        let what = format!("{away:?}: {audit}\n{}", world.log());
        assert_eq!(audit["lost"]["truncated"], gap.len(), "{what}");
        assert_eq!(audit["lost_bytes"], gap.len(), "{what}");
        assert_eq!(audit["at_least"], false, "{what}");
        let records = world.records();
        assert_eq!(records.len(), 150, "{what}");
        assert_eq!(records.iter().filter(|it| body(it).starts_with("copied")).count(), 40);
        assert_eq!(agent.stop(), Some(0));
    }
}

/// Where nobody counts, a truncation under the agent makes a loss the least that was lost.
#[test]
fn without_a_tally_a_truncation_makes_a_loss_the_least() {
    for watch in ["inotify", "poll"] {
        let world = World::new(watch);
        let path = world.path("plain/app.log");
        append(&path, lines("read", 50));
        let agent = world.start();
        world.wait_for(50);
        let agent = Away::Paused.during(&world, agent, || {
            append(&path, lines("lost", 40));
            truncate(&path);
            append(&path, "after\n");
        });
        world.wait_for(51);
        let audit = settled_audit(&world);
        assert_eq!(audit["at_least"], true, "{watch}: {audit}");
        assert_eq!(agent.stop(), Some(0));
    }
}

/// An agent that is killed takes with it neither what it has heard of and not made durable, nor what it
/// held open and had not registered.
#[test]
fn what_was_written_and_deleted_shortly_before_a_kill_is_stated_to_the_byte() {
    for wait_ms in [0, 30, 120, 400, 900, 1_500] {
        let Some((world, _pins)) = world() else { return };
        let path = world.path("plain/app.log");
        append(&path, lines("read", 50));
        let agent = world.start();
        world.wait_for(50);
        std::thread::sleep(Duration::from_secs(1));
        // While it is paused, of each kind: rotated away, short-lived, and a pod that comes and goes.
        let mut lost = 0;
        let agent = Away::Paused.during(&world, agent, || {
            for round in 0..20 {
                let text = lines("lost", 20 + round);
                for name in ["plain/app.log", "plain/short.log"] {
                    append(&world.path(name), &text);
                    fs::remove_file(world.path(name)).unwrap();
                    lost += text.len();
                }
                let mut born = world.container(&format!("born-{round}"));
                born.write(5);
                lost += fs::metadata(born.live()).unwrap().len() as usize;
                fs::remove_dir_all(born.dir.parent().unwrap()).unwrap();
            }
            append(&path, lines("after", 10));
        });
        // `app.log` was held open: what was written to its first file arrives, if there is time.
        std::thread::sleep(Duration::from_millis(wait_ms));
        agent.kill();
        let agent = restart(&world);
        world.wait_for(60);
        let audit = settled_audit(&world);
        let delivered = world.records().iter().filter(|it| body(it).starts_with("lost")).count();
        let read: usize = lines("lost", 20).len() * usize::from(delivered > 0);
        let what = format!("{wait_ms} ms: {audit}\n{}", world.log());
        assert!([0, 20].contains(&delivered), "{delivered} of the first file, {what}");
        assert_eq!(audit["lost_bytes"], lost - read, "{what}");
        assert_eq!(audit["at_least"], false, "{what}");
        assert_eq!(agent.stop(), Some(0));
    }
}

/// What was read to its end and deleted under one agent is nothing that the next one did not see.
#[test]
fn what_went_under_the_agent_before_is_not_unseen() {
    for (wait_ms, killed) in [(0, true), (1_500, true), (13_000, false)] {
        let Some((world, _pins)) = world() else { return };
        let mut container = world.container("a");
        let agent = world.start();
        for round in 1..=3 {
            container.write(50);
            world.wait_for(50 * round);
            fs::remove_file(container.rotate()).unwrap();
        }
        container.write(50);
        world.wait_for(200);
        std::thread::sleep(Duration::from_millis(wait_ms));
        if killed {
            agent.kill();
        } else {
            assert_eq!(agent.stop(), Some(0));
        }
        let agent = restart(&world);
        let audit = settled_audit(&world);
        assert_eq!(audit["at_least"], false, "{wait_ms} ms: {audit}\n{}", world.log());
        assert_eq!(audit["lost_bytes"], 0, "{wait_ms} ms: {audit}\n{}", world.log());
        assert_eq!(agent.stop(), Some(0));
    }
}

/// An agent that ends as soon as it has found a truncation leaves the next one no doubt of where the
/// life behind it began.
#[test]
fn what_truncations_took_is_stated_once_over_agents_that_end_at_once() {
    let Some((world, _pins)) = world() else { return };
    let path = world.path("plain/app.log");
    append(&path, lines("read", 50));
    let agent = world.start();
    world.wait_for(50);
    std::thread::sleep(Duration::from_secs(1));
    let mut lost = 0;
    let mut agent = Some(agent);
    for round in 0..4 {
        if let Some(agent) = agent.take() {
            assert!(agent.stop().is_some());
        }
        let text = lines(&format!("lost {round}"), 30);
        append(&path, &text);
        truncate(&path);
        lost += text.len();
        agent = Some(look(&world));
    }
    append(&path, "after\n");
    world.wait_for(51);
    std::thread::sleep(Duration::from_secs(5));
    let audit = settled_audit(&world);
    assert_eq!(audit["lost_bytes"], lost, "{audit}\n{}", world.log());
    assert_eq!(audit["at_least"], false, "{audit}\n{}", world.log());
    assert!(agent.unwrap().stop().is_some());
}

/// A copy that is known as another file's is nobody else's, though it is as long.
#[test]
fn another_files_copy_that_is_as_long_hides_no_loss() {
    for away in Away::ALL {
        let Some((world, _pins)) = world() else { return };
        let at = |name: &str| world.path("plain").join(name);
        append(&at("app.log"), lines("read", 50));
        let agent = world.start();
        world.wait_for(50);
        fs::rename(at("app.log"), at("app.log.1")).unwrap();
        append(&at("app.log"), lines("more", 50));
        compress(&at("app.log.1"), &at("app.log.1.gz"));
        world.wait_for(100);
        std::thread::sleep(Duration::from_secs(4));
        let agent = away.during(&world, agent, || {
            append(&at("gone.log"), lines("gone", 50));
            fs::remove_file(at("gone.log")).unwrap();
        });
        world.wait_for_log("were lost before they could be read");
        append(&at("app.log"), "last\n");
        world.wait_for(101);
        assert_eq!(agent.stop(), Some(0));
        let lost = lines("gone", 50).len();
        assert_eq!(lost, lines("read", 50).len());
        let (code, audit) = world.audit();
        assert_eq!((code, &audit["lost_bytes"]), (1, &lost.into()), "{away:?}: {audit}");
    }
}
