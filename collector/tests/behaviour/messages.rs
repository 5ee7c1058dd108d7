//! What somebody new reads: at a start, where something is missing, in `status` and `doctor`.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::{
    harness::{World, has_kernel_watch},
    receiver::{Fault, Receiver},
    seccomp,
};

/// No line says a cause twice.
fn assert_causes_once(text: &str) {
    for line in text.lines() {
        let numbers = line.matches("(os error ").count();
        let (first, again) = line.split_once("(os error ").unwrap_or((line, ""));
        let words = first.rsplit(": ").next().unwrap_or_default();
        assert!(numbers < 2 || !again.contains(words.trim()), "a cause is said twice: {line}");
    }
}

#[test]
fn a_start_that_finds_nothing_says_where_it_looked_and_where_records_go() {
    let mut world = World::new("auto");
    fs::remove_dir(world.path("pods")).unwrap();
    world.sinks += "  web:\n    type: http\n    url: https://127.0.0.1:1/in?token=secret\n  store:\n    type: archive\n  screen:\n    type: console\n";
    let agent = world.start();
    world.wait_for_log("No log was found.");
    let log = world.log();
    let dir = world.dir.path().display();
    for place in [
        format!("{dir}/pods (does not exist)"),
        format!("{dir}/containers (does not exist)"),
        format!("{dir}/docker (does not exist)"),
        format!("{dir}/plain,"),
    ] {
        let line = log.lines().find(|line| line.contains("No log was found.")).unwrap();
        assert!(line.replace('"', ",").contains(&place), "{place} is not in {line}");
    }
    let started = log.lines().find(|line| line.contains("Everyline runs.")).unwrap();
    for sink in [
        format!("out (file {dir}/out/out.ndjson)"),
        "web (http https://127.0.0.1:1/in)".to_owned(),
        format!("store (archive {dir}/state/archive)"),
        "screen (console)".to_owned(),
    ] {
        assert!(started.contains(&sink), "{sink} is not in {started}");
    }
    assert!(!log.contains("secret"), "{log}");
    drop(agent);
}

#[test]
fn a_start_that_finds_logs_does_not_complain() {
    let world = World::new("auto");
    world.container("a").write(3);
    let agent = world.start();
    world.wait_for(3);
    world.wait_for_log("The first look for logs is done.");
    assert!(!world.log().contains("No log was found."), "{}", world.log());
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn status_fits_and_has_the_paths_that_records_have() {
    let mut world = World::new("auto");
    world.admin = Some(crate::harness::free_port());
    let root = world.path("host");
    let pods = root.join("var/log/pods");
    let name = format!("shop_{}-0_0d7e4e7e-41f6-4f3f-9d0b-1c2d3e4f5a6b", "web".repeat(16));
    fs::create_dir_all(pods.join(&name).join("app")).unwrap();
    let log = pods.join(&name).join("app/0.log");
    fs::write(&log, "2026-11-22T01:02:03.1Z stdout F hello\n").unwrap();
    world.write_config();
    let text = fs::read_to_string(world.config_path()).unwrap();
    let dir = world.dir.path().display();
    let text = text
        .replace(&format!("pods_dir: {dir}/pods"), "pods_dir: /var/log/pods")
        .replace("node_name:", &format!("host_root: {}\nnode_name:", root.display()));
    let config = world.path("host.yaml");
    fs::write(&config, text).unwrap();
    let agent = world.start_with(&config);
    let records = world.wait_for(1);
    let path = records[0]["log.file.path"].as_str().unwrap().to_owned();
    assert_eq!(path, format!("/var/log/pods/{name}/app/0.log"));
    let status = |columns: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
        command.arg("status").args(arguments).arg("--config").arg(&config);
        match columns {
            Some(columns) => command.env("COLUMNS", columns),
            None => command.env_remove("COLUMNS"),
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = status(None, &[]);
    assert!(whole.contains(&path) && !whole.contains(&*root.to_string_lossy()), "{whole}");
    assert!(whole.contains("LOST"), "{whole}");
    let json = status(None, &["-o", "json"]);
    assert!(json.contains(&format!("\"path\":\"{path}\"")), "{json}");
    for columns in ["80", "100", "132"] {
        let narrow = status(Some(columns), &[]);
        let (_, tables) = narrow.split_once("\n\n").unwrap();
        let width: usize = columns.parse().unwrap();
        assert!(tables.lines().all(|line| line.chars().count() <= width), "{narrow}");
        assert!(narrow.contains("app/0.log") && narrow.contains("/var/log"), "{narrow}");
    }
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn failures_that_were_not_logged_are_told_in_words() {
    let mut world = World::new("auto");
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks = receiver.sink();
    let agent = world.start();
    world.container("a").write(10);
    world.wait_for_log("since this was last said.");
    let log = world.log();
    assert!(!log.contains("unsaid"), "{log}");
    assert_causes_once(&log);
    drop(agent);
}

#[test]
fn no_command_says_a_cause_twice() {
    let world = World::new("auto");
    let file = world.path("file");
    fs::write(&file, "x").unwrap();
    let below = file.join("archive").display().to_string();
    let absent = world.path("absent/everyline.yaml").display().to_string();
    let mut said = String::new();
    let mut run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_everyline")).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.trim().is_empty(), "{arguments:?}");
        said += &text;
    };
    run(&["search", "--archive-dir", &below]);
    run(&["search", "--archive-dir", &file.display().to_string()]);
    run(&["validate", &absent]);
    run(&["status", "--admin", "127.0.0.1:1"]);
    run(&["audit", "--admin", "127.0.0.1:1"]);
    world.write_config();
    let text = fs::read_to_string(world.config_path()).unwrap();
    let text = text.replace("/state\n", "/file/state\n");
    fs::write(world.config_path(), text).unwrap();
    let config = world.config_path().display().to_string();
    for command in ["run", "status", "audit"] {
        run(&[command, "--config", &config]);
    }
    assert_causes_once(&said);
    assert!(said.contains("(os error "), "{said}");
}

#[test]
fn outputs_that_cannot_be_written_say_so_once() {
    let mut world = World::new("auto");
    // A device that is always full, and a file where a directory should be.
    let (full, file) = (world.path("full.ndjson"), world.path("file"));
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    fs::write(&file, "").unwrap();
    let (full, file) = (full.display(), file.display());
    world.sinks = format!(
        "  out:\n    type: file\n    path: {full}\n  gone:\n    type: file\n    path: {file}/out.ndjson\n  \
         web:\n    type: http\n    url: http://127.0.0.1:1/\n"
    );
    world.container("a").write(10);
    let agent = world.start();
    world.wait_for_log("Everyline runs.");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_causes_once(&world.log());
    drop(agent);
}

#[test]
fn doctor_and_agent_name_seccomp_where_the_capabilities_are_there() {
    if !has_kernel_watch() {
        return;
    }
    let world = World::new("auto");
    world.write_config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    seccomp::without_bpf(&mut command);
    command.args(["doctor", "--config"]).arg(world.config_path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("seccomp profile that refuses bpf(2)"), "{text}");
    assert!(!text.contains("Give the agent CAP_BPF"), "{text}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    seccomp::without_bpf(&mut command);
    let agent = world.start_by(command);
    world.wait_for_log("There is no kernel watch; inotify watches instead.");
    let log = world.log();
    assert!(log.contains("seccomp") && !log.contains("Give the agent CAP_BPF"), "{log}");
    drop(agent);
}

#[test]
fn the_doctor_names_seccomp_where_handles_are_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root, so the capability is missing");
        return;
    }
    let world = World::new("inotify");
    world.write_config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    seccomp::without_handles(&mut command);
    command.args(["doctor", "--config"]).arg(world.config_path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("state.handles"), "{text}");
    assert!(text.contains("have it allow name_to_handle_at and open_by_handle_at"), "{text}");
    assert!(!text.contains("Give the agent CAP_DAC_READ_SEARCH"), "{text}");
}
