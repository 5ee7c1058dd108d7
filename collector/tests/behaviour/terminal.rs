//! What reaches a terminal, and what is said to somebody who waits at one.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::harness::{World, free_port, patience};

/// What a command's terminal is told about itself.
type Environment = [(&'static str, Option<&'static str>)];

/// Terminals on which nothing may be coloured.
const PLAIN: [&Environment; 5] = [
    &[("TERM", Some("dumb"))],
    &[("TERM", None)],
    &[("TERM", Some(""))],
    &[("TERM", Some("xterm-256color")), ("NO_COLOR", Some("1"))],
    &[("TERM", Some("dumb")), ("NO_COLOR", Some(""))],
];
/// Where it may.
const COLORED: [&Environment; 2] = [
    &[("TERM", Some("xterm"))],
    // Says nothing, by the convention.
    &[("TERM", Some("xterm")), ("NO_COLOR", Some(""))],
];

fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (File::from(master), slave)
}

/// What a command writes to its terminal until it ends, or for so long.
fn on_terminal(world: &World, args: &[&str], environment: &Environment, most: Duration) -> String {
    let (mut master, slave) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.args(args).arg("--config").arg(world.config_path());
    command.env_remove("NO_COLOR").env_remove("TERM");
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // EIO: the other end is closed.
        let _closed = master.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let deadline = Instant::now() + most;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    reader.join().unwrap()
}

#[test]
fn a_terminal_is_coloured_only_where_it_says_so() {
    let mut world = World::new("inotify");
    world.sinks += "  store:\n    type: archive\n";
    world.container("a").raw(b"2026-11-22T14:00:00.1Z stderr F needle\n");
    let agent = world.start();
    world.wait_for(1);
    assert_eq!(agent.stop(), Some(0));
    let commands = [&["search", "needle"][..], &["doctor"], &["search", "--help"], &["nonsense"]];
    for args in commands {
        for environment in PLAIN {
            let text = on_terminal(&world, args, environment, patience());
            assert!(
                !text.is_empty() && !text.contains('\x1b'),
                "{args:?} {environment:?} {text:?}"
            );
        }
        for environment in COLORED {
            let text = on_terminal(&world, args, environment, patience());
            assert!(text.contains('\x1b'), "{args:?} {environment:?} {text:?}");
        }
    }
    let never = on_terminal(&world, &["search", "needle", "--no-color"], COLORED[0], patience());
    assert!(never.contains("needle") && !never.contains('\x1b'), "{never:?}");
}

#[test]
fn the_agents_log_and_the_console_sink_are_coloured_only_where_they_may() {
    let mut world = World::new("inotify");
    world.sinks = "  screen:\n    type: console\n".into();
    world.container("a").raw(b"2026-11-22T14:00:00.1Z stderr F needle\n");
    world.write_config();
    let run = |environment| {
        let _begin_again = std::fs::remove_dir_all(world.path("state"));
        on_terminal(&world, &["run"], environment, Duration::from_secs(4))
    };
    for environment in [PLAIN[0], PLAIN[1], PLAIN[3]] {
        let text = run(environment);
        assert!(text.contains("Everyline runs") && text.contains("needle"), "{text:?}");
        assert!(!text.contains('\x1b'), "{environment:?} {text:?}");
    }
    let text = run(COLORED[0]);
    assert!(text.contains("\x1b[36mshop/a"), "{text:?}");
    assert!(text.contains("\x1b[32m INFO"), "{text:?}");
}

#[test]
fn a_table_is_drawn_anew_only_on_a_terminal_that_can() {
    let mut world = World::new("inotify");
    world.admin = Some(free_port());
    let agent = world.start();
    world.ask("/healthz");
    let watch = |environment| {
        on_terminal(&world, &["status", "--watch"], environment, Duration::from_secs(3))
    };
    assert!(watch(COLORED[0]).contains("\x1b[H\x1b[2J"));
    // Not coloured, but drawn anew: nobody asked for no control sequences.
    assert!(watch(PLAIN[3]).contains("\x1b[H\x1b[2J"));
    for environment in [PLAIN[0], PLAIN[1]] {
        let text = watch(environment);
        assert!(text.contains("SINK") && !text.contains('\x1b'), "{text:?}");
    }
    assert_eq!(agent.stop(), Some(0));
}

/// A command that goes on, and what it has said on standard error so far.
struct Waiting {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Waiting {
    fn start(world: &World, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_everyline"))
            .args(args)
            .arg("--config")
            .arg(world.config_path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + patience();
        while !self.said().contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in {:?}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn following_an_archive_that_no_agent_writes_says_so() {
    let mut world = World::new("inotify");
    world.sinks += "  store:\n    type: archive\n";
    world.write_config();
    // There is no archive yet.
    let search = Waiting::start(&world, &["search", "-f"]);
    search.wait_for("waiting for an agent: none writes this archive");
    assert!(search.said().contains(world.path("state/archive").to_str().unwrap()));
    let agent = world.start();
    search.wait_for("an agent writes this archive now");
    // One that is there is nothing to speak of.
    let other = Waiting::start(&world, &["search", "-f"]);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(other.said(), "");
    assert_eq!(agent.stop(), Some(0));
    for search in [&search, &other] {
        search.wait_for("waiting for an agent: the one that wrote this archive has ended");
    }
    // There is one, but nobody writes it.
    Waiting::start(&world, &["search", "-f"]).wait_for("none writes this archive");
    let agent = world.start();
    other.wait_for("an agent writes this archive now");
    drop(agent);
}

#[test]
fn watching_the_status_of_an_agent_that_goes_says_so() {
    let mut world = World::new("inotify");
    world.admin = Some(free_port());
    world.write_config();
    // Nothing to show at all.
    let output = world.everyline(&["status", "--watch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No agent answers"), "{output:?}");
    let agent = world.start();
    world.ask("/healthz");
    let status = Waiting::start(&world, &["status", "--watch"]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(status.said(), "");
    assert_eq!(agent.stop(), Some(0));
    status.wait_for("No agent answers at");
    std::fs::remove_dir_all(world.path("state")).unwrap();
    status.wait_for("Waiting for an agent: ");
    // Said once, not every time.
    std::thread::sleep(Duration::from_millis(4_500));
    assert_eq!(status.said().matches("Waiting for an agent").count(), 1, "{}", status.said());
}

/// A line with everything that steers a terminal, hides or reorders.
const EVIL: &str =
    "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\u{2066}e\u{200b}f\u{feff}g\u{e0041}h\u{7f}i\u{200d}j";
/// What of it a file's name may hold.
const EVIL_NAME: &str = "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\n2026 ERROR forged\u{2066}e\u{200b}.log";

/// Requires that a terminal is only told what the agent itself means by it.
#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    for line in text.split('\n') {
        let line = line.trim_end_matches('\r');
        assert!(collector::shown::is_safe(line), "{what}: {line:?} in {text}");
        assert!(!line.starts_with("2026 ERROR forged"), "{what}: {text}");
    }
}

/// A world in which a tenant has put such characters everywhere he can.
fn evil_world() -> World {
    let mut world = World::new("poll");
    world.admin = Some(free_port());
    world.files = format!("    - paths: ['{}/**']\n", world.path("plain").display());
    world.sinks += "  store:\n    type: archive\n";
    std::fs::write(world.path("plain").join(EVIL_NAME), format!("{EVIL}\n")).unwrap();
    // A compressed file that is damaged, so that the agent speaks of it.
    std::fs::write(world.path("plain").join(format!("{EVIL_NAME}.1.gz")), b"\x1f\x8b\x08\0damaged")
        .unwrap();
    // Names that no runtime gives, and Docker's.
    std::fs::create_dir(world.path("pods").join("a\u{202e}b\u{1b}[2J")).unwrap();
    let docker = world.path("docker").join("d".repeat(64));
    std::fs::create_dir_all(&docker).unwrap();
    let config = serde_json::json!({"Name": "/web\u{202e}x\u{200b}", "Config": {"Image": EVIL}});
    std::fs::write(docker.join("config.v2.json"), config.to_string()).unwrap();
    let line = serde_json::json!({"log": format!("{EVIL}\n"), "stream": "stdout", "time": "2026-11-22T01:02:03Z"});
    std::fs::write(docker.join(format!("{}-json.log", "d".repeat(64))), format!("{line}\n"))
        .unwrap();
    world
}

#[test]
fn nothing_that_others_wrote_steers_hides_or_reorders_on_a_terminal() {
    let world = evil_world();
    let agent = world.start();
    let records = world.wait_for(2);
    world.wait_for_log("is damaged");
    let show = |args: &[&str]| {
        let text = on_terminal(&world, args, PLAIN[0], patience());
        assert_harmless(&args.join(" "), &text);
        text
    };
    let commands: [&[&str]; 5] = [
        &["status"],
        &["status", "-o", "json"],
        &["doctor", "--files"],
        &["doctor", "-o", "json"],
        &["search", "-o", "json"],
    ];
    for args in commands {
        assert!(show(args).contains("u{202e}") || show(args).contains("\\u202e"), "{args:?}");
    }
    show(&["audit"]);
    show(&["audit", "-o", "json"]);
    assert!(show(&["search"]).contains("\\u{e0041}"));
    assert_eq!(agent.stop(), Some(0));
    show(&["status"]);
    // Files, and what a program reads, have the bytes as they were written.
    assert!(records.iter().all(|record| record["body"] == EVIL), "{records:?}");
    let stored = world.everyline(&["search", "-o", "json"]).stdout;
    let stored = String::from_utf8(stored).unwrap();
    assert!(stored.contains("c\u{202e}d") && stored.contains('\u{e0041}'), "{stored:?}");
    let status = world.everyline(&["status", "-o", "json"]).stdout;
    assert!(String::from_utf8(status).unwrap().contains('\u{202e}'));
}

#[test]
fn the_agents_own_log_and_its_screen_cannot_be_forged_by_a_tenant() {
    let mut world = evil_world();
    world.sinks = "  screen: {type: console}\n".into();
    world.write_config();
    // A damaged file is looked at for some seconds before it is given up.
    let text = on_terminal(&world, &["run"], PLAIN[0], Duration::from_secs(20));
    assert_harmless("run", &text);
    assert!(text.contains("is damaged") && text.contains("h\\x7fi"), "{text}");
    // Also where it is no terminal yet, but will be shown on one.
    for format in ["text", "json"] {
        let _begin_again = std::fs::remove_dir_all(world.path("state"));
        let _begin_again = std::fs::remove_file(world.path("agent.log"));
        world.extra = format!("log: {{format: {format}}}\n");
        let agent = world.start();
        world.wait_for_log("is damaged");
        assert_eq!(agent.stop(), Some(0));
        assert_harmless(format, &world.log());
        if format == "json" {
            for line in world.log().lines() {
                serde_json::from_str::<serde_json::Value>(line).expect(line);
            }
        }
    }
}
