//! `everyline doctor`: what it says of setups that work and of broken ones, and that it leaves them
//! as they are.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{BpfFs, World, has_kernel_watch};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65_534;

/// The doctor's exit status and its JSON.
fn doctor(world: &World) -> (i32, Value) {
    told(&world.everyline(&["doctor", "-o", "json"]))
}

fn told(output: &Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("doctor printed {text:?} {:?}: {error}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), json)
}

fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

fn status<'a>(report: &'a Value, name: &str) -> &'a str {
    finding(report, name)["status"].as_str().unwrap()
}

/// Every name below a directory.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything(&path));
        }
        all.push(path);
    }
    all.sort();
    all
}

#[test]
fn a_setup_that_works_has_no_problem_and_is_left_as_it_was() {
    let world = World::new("auto");
    world.container("a").write(3);
    fs::write(world.path("plain/p.log"), "one\n").unwrap();
    world.write_config();
    let before = everything(world.dir.path());
    let (code, report) = doctor(&world);
    assert_eq!((code, &report["problems"]), (0, &Value::from(0)), "{report:#}");
    assert_eq!(everything(world.dir.path()), before);
    let files = report["files"].as_array().unwrap();
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    let (pod, plain) = (world.path("plain/p.log"), world.path("pods/shop_a_uid-a/main/0.log"));
    assert_eq!(paths, [pod.to_str().unwrap(), plain.to_str().unwrap()]);
    assert!(files.iter().all(|file| file["mode"] == "kernel" || file["mode"] == "inotify"));
    for finding in report["findings"].as_array().unwrap() {
        let advised = finding.get("advice").is_some();
        assert_eq!(advised, finding["status"] != "ok", "{finding:#}");
    }
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn text_says_the_same_and_lists_files_when_asked() {
    let world = World::new("inotify");
    world.container("a").write(1);
    let text = |arguments: &[&str]| {
        let output = world.everyline(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let short = text(&["doctor"]);
    assert!(short.contains("ok       watch.files"), "{short}");
    assert!(short.contains("- 1 file on ") && short.contains(": inotify\n"), "{short}");
    assert!(short.lines().last().unwrap().starts_with("No problem, "), "{short}");
    assert!(!short.contains('\x1b') && !short.contains("WATCHED BY"), "{short}");
    let long = text(&["doctor", "--files"]);
    let row = long.lines().find(|line| line.ends_with("/main/0.log")).unwrap();
    assert!(row.starts_with("inotify "), "{long}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_a_problem() {
    let world = World::new("auto");
    // Not even root makes a directory of a file.
    fs::write(world.path("state"), "").unwrap();
    let (code, report) = doctor(&world);
    assert_eq!((code, status(&report, "state.directory")), (1, "problem"), "{report:#}");
    let output = world.everyline(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.lines().last().unwrap().starts_with("1 PROBLEM, "), "{text}");
    let at = text.find("problem  state.directory").unwrap();
    assert!(text[at..].lines().nth(1).unwrap().contains("→ "), "says what to do: {text}");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_problem_and_named() {
    let world = World::new("auto");
    world.container("a").write(1);
    world.container("b").write(1);
    let Some(mut command) = without_privileges(&world) else { return };
    let secret = world.path("pods/shop_a_uid-a/main/0.log");
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    let (code, report) = told(&command.output().unwrap());
    assert_eq!((code, status(&report, "sources.readable")), (1, "problem"), "{report:#}");
    let details = finding(&report, "sources.readable")["details"].as_array().unwrap();
    let [detail] = &details[..] else { panic!("{details:#?}") };
    let detail = detail.as_str().unwrap();
    assert!(detail.contains("shop_a_uid-a/main/0.log"), "{detail}");
    assert!(detail.contains("DAC_READ_SEARCH"), "says what to do: {detail}");
    assert_eq!(report["files"].as_array().unwrap().len(), 1);
}

#[test]
fn without_privileges_the_kernel_watch_is_a_problem_only_where_it_is_asked_for() {
    let world = World::new("kernel");
    world.container("a").write(1);
    let Some(mut command) = without_privileges(&world) else { return };
    let (code, report) = told(&command.output().unwrap());
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(status(&report, "kernel.programs"), "problem", "{report:#}");
    assert_eq!(status(&report, "capabilities.bpf"), "problem");
    assert_eq!(status(&report, "watch.files"), "problem");
    assert_eq!(report["files"][0]["mode"], "inotify");

    let world = World { watch: "auto", ..world };
    let Some(mut command) = without_privileges(&world) else { return };
    let (code, report) = told(&command.output().unwrap());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(status(&report, "kernel.programs"), "note", "{report:#}");
    assert_eq!(status(&report, "capabilities.bpf"), "note");
    assert_eq!(status(&report, "watch.files"), "note");
}

#[test]
fn a_running_agent_is_named_and_nothing_is_unpinned_under_it() {
    let world = World::new("auto");
    let agent = world.start();
    world.container("a").write(1);
    world.wait_for(1);
    let pid = agent.pid().as_raw_nonzero().to_string();
    let (_, report) = doctor(&world);
    let found = finding(&report, "state.agent")["found"].as_str().unwrap();
    assert!(found.ends_with(&format!("process {pid}.")), "{found}");
    let refused = world.everyline(&["doctor", "--unpin"]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(75), "{error}");
    assert!(error.contains("Nothing was unpinned") && error.contains(&pid), "{error}");
    assert_eq!(agent.stop(), Some(0));
    let (_, report) = doctor(&world);
    let found = finding(&report, "state.agent")["found"].as_str().unwrap();
    assert!(found.starts_with("No agent runs"), "{found}");
}

#[test]
fn unpinning_where_nothing_is_pinned_says_so_and_makes_nothing() {
    let world = World::new("auto");
    world.write_config();
    let before = everything(world.dir.path());
    let output = world.everyline(&["doctor", "--unpin"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Nothing was pinned"));
    let (code, json) = told(&world.everyline(&["doctor", "--unpin", "-o", "json"]));
    assert_eq!((code, &json["removed"]), (0, &Value::Null));
    assert_eq!(everything(world.dir.path()), before);
}

#[test]
fn what_an_agent_left_pinned_is_told_and_removed() {
    let world = World::new("auto");
    let Some(pins) = BpfFs::mount(&world.path("bpf")) else { return };
    if !has_kernel_watch() {
        return;
    }
    let agent = world.start();
    world.container("a").write(1);
    world.wait_for(1);
    let (_, report) = doctor(&world);
    let found = finding(&report, "state.pins")["found"].as_str().unwrap();
    assert!(found.starts_with("The agent has "), "{found}");
    assert_eq!(world.everyline(&["doctor", "--unpin"]).status.code(), Some(75));
    assert_eq!(agent.stop(), Some(0));

    let before = everything(&pins.0);
    let (code, report) = doctor(&world);
    assert_eq!((code, status(&report, "kernel.bpffs")), (0, "ok"), "{report:#}");
    let found = finding(&report, "state.pins")["found"].as_str().unwrap();
    assert!(found.contains("go on in ") && !found.starts_with("0 programs"), "{found}");
    assert_eq!(everything(&pins.0), before, "looking leaves pins alone");

    let (code, json) = told(&world.everyline(&["doctor", "--unpin", "-o", "json"]));
    assert_eq!(code, 0, "{json:#}");
    let names = json["removed"]["names"].as_array().unwrap();
    assert!(names.contains(&"SLOTS".into()), "{json:#}");
    assert!(names.iter().any(|name| name.as_str().unwrap().starts_with("link_")), "{json:#}");
    let left = everything(&pins.0).into_iter().filter(|path| !path.ends_with("maps.debug"));
    assert_eq!(left.filter(|path| !path.ends_with("progs.debug")).count(), 0);
    let (_, report) = doctor(&world);
    let found = finding(&report, "state.pins")["found"].as_str().unwrap();
    assert!(found.starts_with("Nothing is pinned"), "{found}");
}

#[test]
fn unpinning_leaves_no_directory_unless_another_agent_has_its_pins_there() {
    let mut world = World::new("auto");
    let Some(bpf) = BpfFs::mount(&world.path("bpf")) else { return };
    if !has_kernel_watch() {
        return;
    }
    world.pins = "bpf/everyline";
    let run = |world: &World, pod: &str, lines| {
        let agent = world.start();
        world.container(pod).write(1);
        world.wait_for(lines);
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(told(&world.everyline(&["doctor", "--unpin", "-o", "json"])).0, 0);
    };
    run(&world, "a", 1);
    assert!(!bpf.0.join("everyline").exists());
    let other = bpf.0.join("everyline/0123456789abcdef");
    fs::create_dir_all(&other).unwrap();
    run(&world, "b", 2);
    assert_eq!(everything(&bpf.0.join("everyline")), [other]);
}

/// The doctor as nobody, in a world that nobody may read; None where that cannot be arranged.
fn without_privileges(world: &World) -> Option<Command> {
    world.write_config();
    let (mut command, root) = (Command::new(env!("CARGO_BIN_EXE_everyline")), world.dir.path());
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        chown(root, Some(NOBODY), Some(NOBODY)).unwrap();
        chown(world.path("out"), Some(NOBODY), Some(NOBODY)).unwrap();
        // The build may lie where nobody else may look.
        let binary = world.path("everyline");
        if !binary.exists() && fs::hard_link(env!("CARGO_BIN_EXE_everyline"), &binary).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_everyline"), &binary).unwrap();
        }
        command = Command::new(binary);
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["doctor", "-o", "json", "--config"]).arg(world.config_path());
    if let Err(error) = command.output() {
        println!("skipped: the agent cannot be run as nobody: {error}");
        return None;
    }
    Some(command)
}
