//! Times at the command line: in one zone when they are read and when they are shown, always of the same
//! length, and never silently in the future.

use std::process::{Command, Output};

use jiff::{Timestamp, tz::TimeZone};

use crate::harness::World;

/// Five and a half hours before UTC, all year.
const TZ: &str = "<-0530>5:30";

/// A world whose archive holds these lines, each logged at its time.
fn world(lines: &[(&str, &str)]) -> World {
    let mut world = World::new("auto");
    world.sinks += "  store:\n    type: archive\n";
    let mut container = world.container("a");
    for (time, body) in lines {
        container.raw(format!("{time} stdout F {body}\n").as_bytes());
    }
    let agent = world.start();
    world.wait_for(lines.len());
    assert_eq!(agent.stop(), Some(0));
    world
}

fn search(world: &World, zone: &str, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_everyline"))
        .args(["search", "--config"])
        .arg(world.config_path())
        .args(arguments)
        .env("TZ", zone)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The times that a search prints.
fn shown(world: &World, zone: &str, arguments: &[&str]) -> Vec<String> {
    let (code, out, error) = search(world, zone, arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
    out.lines().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn times_are_shown_in_one_zone_with_the_same_number_of_digits() {
    // Go leaves out zeros at the end, and a runtime may keep another zone.
    let world = world(&[
        ("2026-11-22T14:00:00.1Z", "one"),
        ("2026-11-22T14:00:00.93Z", "two"),
        ("2026-11-22T14:00:01Z", "three"),
        ("2026-11-22T15:00:02.123456789+01:00", "four"),
    ]);
    let utc = ["14:00:00.100Z", "14:00:00.930Z", "14:00:01.000Z", "14:00:02.123Z"];
    let utc = utc.map(|time| format!("2026-11-22T{time}"));
    assert_eq!(shown(&world, TZ, &["--utc"]), utc);
    assert_eq!(shown(&world, "UTC", &[]), utc);
    let local = ["08:30:00.100", "08:30:00.930", "08:30:01.000", "08:30:02.123"];
    let local = local.map(|time| format!("2026-11-22T{time}-05:30"));
    assert_eq!(shown(&world, TZ, &[]), local);
    assert_eq!(shown(&world, TZ, &["--local"]), local);
    // As they were logged.
    let (_, json, _) = search(&world, TZ, &["one", "-o", "json"]);
    assert!(json.starts_with(r#"{"timestamp":"2026-11-22T14:00:00.1Z""#), "{json}");
    assert_eq!(search(&world, TZ, &["--utc", "--local"]).0, 64);
}

#[test]
fn a_time_that_was_printed_can_be_given_back_without_its_zone() {
    let world = world(&[
        ("2026-11-22T14:00:00.1Z", "before"),
        ("2026-11-22T14:00:00.93Z", "after"),
        ("2026-11-22T20:00:00Z", "much later"),
    ]);
    for (zone, arguments) in [(TZ, &[][..]), (TZ, &["--utc"]), ("UTC", &[]), ("EST5", &["--local"])]
    {
        let printed = shown(&world, zone, arguments)[1].clone();
        for since in [&printed[..], &printed[..23]] {
            let arguments = [arguments, &["--since", since]].concat();
            let found = shown(&world, zone, &arguments);
            assert_eq!((found.len(), &found[0]), (2, &printed), "{zone} {since}");
            let until = [&arguments[..], &["--until", since]].concat();
            assert_eq!(shown(&world, zone, &until), [printed.as_str()], "{zone} {since}");
        }
    }
    // The same words mean another time elsewhere.
    let since = ["--since", "2026-11-22 14:00"];
    assert_eq!(shown(&world, "UTC", &since).len(), 3);
    assert_eq!(shown(&world, TZ, &since).len(), 1);
    assert_eq!(shown(&world, TZ, &[&since[..], &["--utc"]].concat()).len(), 3);
}

#[test]
fn a_time_that_is_still_to_come_is_said() {
    let now = Timestamp::now();
    let world = world(&[(&now.to_string(), "now")]);
    // A zone in which it is noon, so that no day ends while this runs.
    let hours = i64::from(now.to_zoned(TimeZone::UTC).hour()) - 12;
    let zone = format!("<noon>{hours}");
    let noon = now.as_second() - hours * 3600;
    let noon = Timestamp::from_second(noon).unwrap().to_zoned(TimeZone::UTC);
    let yesterday = noon.yesterday().unwrap().strftime("%F").to_string();
    let (code, out, error) = search(&world, &zone, &["--since", "23:59"]);
    assert_eq!(code, 0, "yesterday's 23:59 is meant: {error}");
    assert_eq!(out.lines().count(), 1);
    assert!(error.contains("still to come today"), "{error}");
    assert!(error.contains(&format!("{yesterday}T23:59:00.000")), "{error}");
    let (code, _, error) = search(&world, &zone, &["--since", "2199-01-01 10:00", "--utc"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("--since 2199-01-01T10:00:00.000Z is still to come: it is 20"),
        "{error}"
    );
    let (code, _, error) = search(&world, &zone, &["--since", "00:00", "--until", "23:59"]);
    assert_eq!((code, error.as_str()), (0, ""), "that is today until now");
}

#[test]
fn a_zone_that_nobody_knows_is_said() {
    let world = world(&[("2026-11-22T14:00:00.1Z", "one")]);
    let (code, out, error) = search(&world, "Atlantis/Poseidonis", &[]);
    assert_eq!(code, 0);
    assert!(out.starts_with("2026-11-22T14:00:00.100Z "), "{out}");
    assert!(error.contains("Atlantis/Poseidonis") && error.contains("UTC"), "{error}");
    assert_eq!(search(&world, "Atlantis/Poseidonis", &["--utc"]).2, "");
}

#[test]
fn help_says_in_which_zone_times_are() {
    for command in ["search", "status"] {
        let help = Command::new(env!("CARGO_BIN_EXE_everyline")).args([command, "--help"]).output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        for words in ["Times are", "this machine's zone", "--utc", "--local", "TZ"] {
            assert!(help.contains(words), "{command}: {help}");
        }
    }
}

#[test]
fn status_shows_times_in_the_zone_asked_for() {
    let mut world = World::new("auto");
    world.admin = Some(crate::harness::free_port());
    let agent = world.start();
    world.ask("/healthz");
    for (arguments, end) in [(&["status"][..], "-05:30"), (&["status", "--utc"], "Z")] {
        let output = Command::new(env!("CARGO_BIN_EXE_everyline"))
            .args(arguments)
            .arg("--config")
            .arg(world.config_path())
            .env("TZ", TZ)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let since = text.lines().next().unwrap().split_once("since ").unwrap().1;
        assert!(since.ends_with(end) && since.len() == 23 + end.len(), "{text}");
    }
    assert_eq!(agent.stop(), Some(0));
}
