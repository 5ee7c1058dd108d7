//! Lines on the screen: the console sink as `deploy/CONSOLE.md` has it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
};

use crate::harness::{World, patience};

const PAGE: &str = include_str!("../../../deploy/CONSOLE.md");

/// The commands of the page's first block.
fn commands() -> Vec<&'static str> {
    let (_, block) = PAGE.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.lines().collect()
}

#[test]
fn the_pages_three_commands_end_with_the_lines_on_the_screen() {
    let [build, write, run] = commands()[..] else { panic!("three commands") };
    assert_eq!(build, "cargo xtask build");
    let world = World::new("auto");
    let mut container = world.container("web-0");
    container.raw(b"2026-11-22T01:02:03.1Z stdout F GET /cart 200\n");
    container.raw(b"2026-11-22T01:02:03.2Z stderr F upstream \x1b[2J timed out\n");
    // As it stands, but for where this test's logs and state are.
    let dir = world.dir.path();
    assert!(Command::new("sh").args(["-c", write]).current_dir(dir).status().unwrap().success());
    let config = dir.join("screen.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let state = dir.join("screen-state");
    let text = text.replace("/var/lib/everyline-screen", &state.to_string_lossy());
    let sources = format!(
        "sources:\n  kubernetes: {{pods_dir: {0}/pods, containers_dir: {0}/containers}}\n  docker: {{enabled: false}}\n",
        dir.display()
    );
    fs::write(&config, text + &sources).unwrap();
    assert!(run.starts_with("sudo target/release/everyline run --config screen.yaml 2> "));
    let mut agent = Command::new(env!("CARGO_BIN_EXE_everyline"))
        .args(["run", "--config", "screen.yaml"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(File::create(dir.join("everyline.log")).unwrap())
        .spawn()
        .unwrap();
    let out = BufReader::new(agent.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || out.lines().try_for_each(|line| sender.send(line.unwrap())));
    let next = || lines.recv_timeout(patience()).unwrap();
    assert_eq!(next(), "main/[info] : GET /cart 200");
    let second = next();
    assert!(second.starts_with("main/[error] : upstream ") && second.ends_with("[2J timed out"));
    assert!(!second.contains('\u{1b}'), "{second}");
    container.raw(b"2026-11-22T01:02:04.1Z stdout F later\n");
    assert_eq!(next(), "main/[info] : later");
    agent.kill().unwrap();
    agent.wait().unwrap();
    let log = fs::read_to_string(dir.join("everyline.log")).unwrap();
    assert!(log.contains("Everyline runs.") && !log.contains("GET /cart"), "{log}");
}

#[test]
fn a_template_that_is_wrong_is_refused_with_its_place() {
    let mut world = World::new("auto");
    for (template, wanted) in [
        ("{contianer}: {body}", "did you mean {container}?"),
        ("{message}", "there is no field {message}"),
        ("{body", "is not closed"),
        ("[info]", "it names no field"),
    ] {
        world.sinks = format!("  screen:\n    type: console\n    template: \"{template}\"\n");
        for command in ["validate", "run"] {
            let output = world.everyline(&[command]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{text}");
            assert!(text.contains(wanted) && text.contains("template"), "{text}");
            assert!(text.contains("everyline.yaml:"), "{text}");
        }
    }
    world.sinks =
        "  screen:\n    type: console\n    format: json\n    template: \"{body}\"\n".into();
    let text = String::from_utf8(world.everyline(&["validate"]).stderr).unwrap();
    assert!(text.contains("leave out one of them"), "{text}");
}
