//! The agent's memory, in which tokens and passwords are, and what it still can do when nobody may look at it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Agent, BpfFs, World, assert_exactly_once, free_port, has_kernel_watch};

/// A user that is nobody's.
const OTHER: u32 = 4711;
const SECRET: &str = "hush-4f1d2c7e-token";

/// A shell that becomes the program behind it, with cores of any size.
fn with_cores(directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).current_dir(directory);
    command.stdin(Stdio::null());
    command
}

/// Whether a core with the secret lies there.
fn cores(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|it| it.contains("core")).collect()
}

/// A world whose sink has a token, and whose state lies where another user may write it.
fn world() -> World {
    let mut world = World::new("poll");
    let token = world.path("token");
    fs::write(&token, SECRET).unwrap();
    let port = free_port();
    world.sinks += &format!(
        "  web: {{type: http, url: 'http://127.0.0.1:{port}/', auth: {{bearer_token_file: {}}}}}\n",
        token.display()
    );
    world.extra = "drain_timeout: 1s\n".into();
    world
}

#[test]
fn a_crash_leaves_no_image_of_the_memory() {
    let world = world();
    let directory = world.path("cwd");
    fs::create_dir(&directory).unwrap();
    let mut plain = with_cores(&directory).arg("sleep").arg("60").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill_process(Pid::from_child(&plain), Signal::SEGV).unwrap();
    plain.wait().unwrap();
    let (known, pattern) =
        (cores(&directory), fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap());
    if known.is_empty() {
        println!("skipped: cores go to {pattern:?} here, or nowhere");
        return;
    }
    known.iter().for_each(|core| fs::remove_file(directory.join(core)).unwrap());
    world.container("web").write(5);
    let mut command = with_cores(&directory);
    command.arg(env!("CARGO_BIN_EXE_everyline"));
    let agent = world.start_by(command);
    world.wait_for(5);
    agent.signal(Signal::ABORT);
    agent.wait();
    assert_eq!(cores(&directory), [] as [String; 0]);
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: acting as another user needs root");
    }
    root
}

/// Gives another user what the agent writes to.
fn give_away(world: &World) {
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(world.path("state")).unwrap();
    for path in ["state", "out", "token"].map(|name| world.path(name)) {
        if path.exists() {
            chown(path, Some(OTHER), Some(OTHER)).unwrap();
        }
    }
}

fn pid(agent: &Agent) -> String {
    agent.pid().as_raw_nonzero().to_string()
}

#[test]
fn another_process_of_the_same_user_cannot_look_into_the_agent() {
    if !is_root() {
        return;
    }
    let world = world();
    give_away(&world);
    let mut web = world.container("web");
    web.write(5);
    let mut command = Command::new(world.binary_for_all());
    command.uid(OTHER).gid(OTHER).env("HTTPS_PROXY_PASSWORD", SECRET).stdin(Stdio::null());
    let agent = world.start_by(command);
    assert_exactly_once(&world.wait_for(5), &web);
    for file in ["environ", "mem", "maps"] {
        let path = format!("/proc/{}/{file}", pid(&agent));
        let read = Command::new("head").args(["-c", "1", &path]).uid(OTHER).gid(OTHER).output();
        assert!(!read.unwrap().status.success(), "{file} can be read");
    }
    // It still finds its own way: another rotation, another start.
    web.rotate();
    web.write(5);
    assert_exactly_once(&world.wait_for(10), &web);
    // One of its sinks has nowhere to deliver to.
    assert_eq!(agent.stop(), Some(1));
    assert!(!world.log().contains("may leave an image"), "{}", world.log());
}

#[test]
fn an_agent_that_is_not_root_has_its_kernel_watch_and_takes_its_pins_over() {
    if !is_root() || !has_kernel_watch() {
        return;
    }
    let world = World::new("kernel");
    let Some(bpf) = BpfFs::mount(&world.path("bpf")) else { return };
    give_away(&world);
    chown(&bpf.0, Some(OTHER), Some(OTHER)).unwrap();
    let mut web = world.container("web");
    let capabilities = "+bpf,+perfmon,+dac_read_search";
    let start = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "4711", "--regid", "4711", "--clear-groups"]);
        command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
        command.arg(world.binary_for_all()).stdin(Stdio::null());
        world.start_by(command)
    };
    for taken_over in [false, true] {
        web.write(5);
        let agent = start();
        assert_exactly_once(&world.wait_for(web.written as usize), &web);
        world.wait_for_log(&format!("taken_over={taken_over}"));
        web.write(5);
        assert_exactly_once(&world.wait_for(web.written as usize), &web);
        assert_eq!(agent.stop(), Some(0));
    }
    let pinned = fs::read_dir(&bpf.0).unwrap().next().unwrap().unwrap().metadata().unwrap();
    assert_eq!((pinned.uid(), pinned.mode() & 0o777), (OTHER, 0o700));
}

#[test]
fn no_secret_is_in_the_log_at_any_level() {
    let mut world = world();
    let password = world.path("password");
    fs::write(&password, "hush-password").unwrap();
    let receiver = crate::receiver::Receiver::start_at(("127.0.0.1", 0), None);
    receiver.always(Some(crate::receiver::Fault::Unavailable));
    let url = format!("http://127.0.0.1:{}/in?key=hush-query", receiver.port);
    world.sinks = format!(
        "  token: {{type: http, url: '{url}', auth: {{bearer_token_file: {}}}}}\n  basic: {{type: http, url: '{url}', auth: {{basic_user: me, basic_password_file: {}}}}}\n  proxied: {{type: http, url: 'http://logs.invalid/'}}\n",
        world.path("token").display(),
        password.display()
    );
    world.admin = Some(free_port());
    world.container("web").write(5);
    let proxy = format!("http://me:hush-proxy@127.0.0.1:{}", receiver.port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.env("HTTP_PROXY", &proxy).env("NO_PROXY", "127.0.0.1").env("EVERYLINE_LOG", "trace");
    command.stdin(Stdio::null());
    let agent = world.start_by(command);
    world.wait_for_sink("token", |sink| !sink["error"].is_null());
    world.wait_for_sink("proxied", |sink| !sink["error"].is_null());
    let shown = [world.ask("/status"), world.ask("/metrics")];
    assert_eq!(agent.stop(), Some(1));
    let encoded = ["bWU6aHVzaC1wYXNzd29yZA", "bWU6aHVzaC1wcm94eQ"];
    for text in shown.iter().chain([&world.log()]) {
        let found = ["hush"].iter().chain(&encoded).find(|secret| text.contains(**secret));
        let line = found.and_then(|secret| text.lines().find(|line| line.contains(secret)));
        assert_eq!(line, None);
    }
}
