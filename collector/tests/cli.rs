//! The binary's command line as a user meets it: outputs, exit codes, messages.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use collector::{
    admin::{Health, Hosts, State, serve},
    checkpoint::{Change, FileEntry, Offset, Store},
    identity::FileId,
    ledger::report::{FileReport, Report, SinkFileReport},
    metrics::Metrics,
};

fn everyline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.args(args).env_remove("EVERYLINE_CONFIG").env_remove("EVERYLINE_LOG");
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = everyline(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_printed_default_is_valid() {
    let (code, text, _) = run(&["config", "default"]);
    assert_eq!(code, Some(0));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default.yaml");
    fs::write(&path, &text).unwrap();
    let piped = everyline(&["validate", "-"]).stdin(fs::File::open(&path).unwrap()).output();
    let piped = piped.unwrap();
    assert!(piped.status.success(), "{piped:?}");
    assert!(String::from_utf8_lossy(&piped.stdout).starts_with("Standard input is valid."));
    assert_eq!(run(&["validate", path.to_str().unwrap()]).0, Some(0));
    assert_eq!(run(&["--config", path.to_str().unwrap(), "validate", "-q"]).1, "");
    let by_environment = everyline(&["validate"]).env("EVERYLINE_CONFIG", &path).output().unwrap();
    assert!(String::from_utf8_lossy(&by_environment.stdout).contains("default.yaml is valid"));
}

#[test]
fn a_wrong_configuration_is_exit_78_wherever_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong.yaml");
    fs::write(&path, "batch:\n  max_byte: 1\n").unwrap();
    let path = path.to_str().unwrap();
    for args in [
        &["validate", path][..],
        &["--config", path],
        &["run", "--config", path],
        &["status", "--config", path],
        &["audit", "--config", path],
        &["doctor", "--config", path],
        &["search", "x", "--config", path],
    ] {
        let (code, out, error) = run(args);
        assert_eq!((code, out.as_str()), (Some(78), ""), "{args:?} {error}");
        assert!(error.contains("wrong.yaml:2:3: unknown key `max_byte`; did you mean"), "{error}");
    }
    let (code, _, error) = run(&["validate", "/nonexistent.yaml"]);
    assert_eq!(code, Some(78));
    assert!(error.contains("/nonexistent.yaml"), "{error}");
}

#[test]
fn a_wrong_command_line_is_exit_64() {
    for args in [&["colect"][..], &["status", "--no-such"], &["config"], &["--verbose"]] {
        let (code, out, error) = run(args);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}");
        assert!(!error.is_empty());
    }
}

#[test]
fn help_versions_and_completions_are_printed() {
    assert_eq!(run(&["--version"]).1, format!("everyline {}\n", env!("CARGO_PKG_VERSION")));
    let (code, long, _) = run(&["--version", "--verbose"]);
    assert_eq!(code, Some(0));
    for line in ["target: ", "profile: ", "rust: rustc ", "eBPF object: "] {
        assert!(long.contains(&format!("\n{line}")), "{long}");
    }
    let object = collector::watch::digest().map(|digest| format!("sha256:{digest}\n"));
    assert!(long.contains(&object.unwrap_or_else(|| "none".to_owned())), "{long}");
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for command in
        ["run", "validate", "config", "status", "audit", "doctor", "search", "completions"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        assert_eq!(run(&[command, "--help"]).0, Some(0));
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(script.contains("audit"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = everyline(&["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// An agent's admin port that answers with what is in the report.
struct Agent {
    address: SocketAddr,
    report: Arc<Mutex<Report>>,
    _runtime: tokio::runtime::Runtime,
    _stop: tokio::sync::watch::Sender<bool>,
}

fn agent(report: Report) -> Agent {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let report = Arc::new(Mutex::new(report));
    let served = Arc::clone(&report);
    let state = State {
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::new()),
        report: Box::new(move || served.lock().unwrap().clone()),
        refresh: Box::new(|| ()),
        hosts: Hosts::default(),
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).unwrap()
    };
    runtime.spawn(serve(listener, state, stopped));
    Agent { address, report, _runtime: runtime, _stop: stop }
}

fn report(path: &Path, seen: u64, settled: u64) -> Report {
    let offset = Offset { settled, resume: settled, dropped: 0, lost: 0, ..Offset::default() };
    Report {
        node: "node-1".to_owned(),
        started: "2026-01-31T10:11:12Z".to_owned(),
        files: vec![FileReport {
            path: path.to_str().unwrap().to_owned(),
            seen,
            sinks: [("out".to_owned(), SinkFileReport::new(seen, settled, offset))].into(),
            ..FileReport::default()
        }],
        ..Report::default()
    }
}

#[test]
fn a_running_agent_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "x".repeat(100)).unwrap();
    let agent = agent(report(&path, 100, 60));
    let address = agent.address.to_string();

    let (code, text, error) = run(&["status", "--admin", &address]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(text.contains("node-1") && text.contains("0.log") && text.contains("40 B"), "{text}");
    let (_, json, _) = run(&["status", "--admin", &address, "-o", "json"]);
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), *agent.report.lock().unwrap());

    let (code, text, _) = run(&["audit", "--admin", &address]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Balanced"), "{text}");

    agent.report.lock().unwrap().files[0].seen = 101;
    let (code, text, _) = run(&["audit", "--admin", &address, "-o", "json"]);
    assert_eq!(code, Some(1));
    let verdict: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(verdict["balanced"], false);
    // One byte is accounted for nowhere, and it is not on the disk either.
    assert_eq!(verdict["findings"].as_array().unwrap().len(), 2, "{verdict}");
}

#[test]
fn without_an_agent_the_checkpoint_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("everyline.yaml");
    let state = dir.path().join("state");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("state_dir: {}\nadmin: {{listen: '{free}'}}\n", state.display());
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();

    let (code, _, error) = run(&["status", "--config", config]);
    assert_eq!(code, Some(1));
    assert!(error.contains("everyline run"), "says what to do: {error}");

    let log = dir.path().join("shop_web_uid/nginx/0.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, "0123456789").unwrap();
    checkpoint(&state, &log);

    let (code, text, error) = run(&["status", "--config", config]);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("No agent answers"), "{error}");
    assert!(text.contains("shop/web/nginx") && text.contains("6 B"), "{text}");
    let (code, text, _) = run(&["audit", "--config", config]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Balanced"), "{text}");
}

/// Four of the log's bytes are acknowledged.
fn checkpoint(state: &Path, log: &Path) {
    use std::os::unix::fs::MetadataExt;
    fs::create_dir_all(state).unwrap();
    let metadata = fs::metadata(log).unwrap();
    let (mut store, _) = Store::open(state).unwrap();
    let entry = FileEntry {
        id: FileId(1),
        source: log.into(),
        name: "0.log".into(),
        device: metadata.dev(),
        inode: metadata.ino(),
        born_ns: 0,
        handle: None,
        epoch: 0,
        fingerprint: 0,
        fingerprint_len: 0,
        crc: 0,
        truncated: 0,
        size: 4,
        ended: false,
        sinks: [(
            "out".into(),
            Offset { settled: 4, resume: 4, dropped: 0, lost: 0, ..Offset::default() },
        )]
        .into_iter()
        .collect(),
    };
    store.commit(vec![Change::File(Box::new(entry))]).unwrap();
}
