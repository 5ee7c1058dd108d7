//! One set of rules: what `validate` passes starts an agent that works, what it refuses `run` and `doctor`
//! refuse in the same words.
//!
//! The table has every key of the configuration, with ordinary, borderline, extreme and wrong values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use collector::config::DEFAULT_YAML;

use crate::harness::{free_port, patience};

/// A key, values with which an agent works, and values that are refused. `DIR` stands for the test's own
/// directory, `PORT` for a free port.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    (
        "node_name",
        &["''", "node-1", "0123", "'a b'"],
        &["\"a\\tb\"", "[a]", "${NODE}", "$NODE", "'$(NODE_NAME)'"],
    ),
    (
        "state_dir",
        &["DIR/other", "DIR/a/b/c"],
        &[
            "state",
            "''",
            "/",
            "/proc/everyline",
            "/proc/self/x",
            "/sys/x",
            "/dev/x",
            "DIR/../x",
            "DIR/./x",
            "${HOME}/state",
            "'{{ .dir }}'",
            "\"/a\\0b\"",
        ],
    ),
    ("host_root", &["/"], &["host", "''", "/host/.."]),
    (
        "sources",
        &["{kubernetes: {pods_dir: DIR/pods}, docker: {enabled: FALSE}}"],
        &["{docker: {enabled: false}, kubernetes: {enabled: false}}", "[]"],
    ),
    ("sources.kubernetes", &["{}", "null"], &["[]", "on"]),
    ("sources.kubernetes.enabled", &["true", "TRUE"], &["yes", "1", "'true'"]),
    ("sources.kubernetes.pods_dir", &["DIR/nothing"], &["pods", "/proc/pods", "DIR/x/../pods"]),
    ("sources.kubernetes.containers_dir", &["DIR/nothing"], &["c", "/sys/c"]),
    ("sources.kubernetes.include", &["{}"], &["[a]", "{pod: [a]}"]),
    (
        "sources.kubernetes.include.namespaces",
        &["[]", "['s*']"],
        &["['a[b']", "['']", "[shop/web]", "shop"],
    ),
    ("sources.kubernetes.exclude", &["{}"], &["x"]),
    ("sources.kubernetes.exclude.pods", &["[other]", "['{a,b}-*']"], &["['a{b']", "['a/b']"]),
    ("sources.kubernetes.exclude.containers", &["[]", "['?']"], &["[a/b]"]),
    (
        "sources.kubernetes.exclude.paths",
        &["['/x/**']", "['**/x.log']"],
        &["['*.log']", "[x.log]", "['/x/']", "['/x//y']", "['/x/../y']"],
    ),
    ("sources.docker", &["null"], &["1"]),
    ("sources.docker.containers_dir", &["DIR/nothing"], &["docker", "/dev/docker"]),
    (
        "sources.files",
        &[
            "[]",
            "null",
            "[{paths: ['DIR/p/*.log']}]",
            "[{paths: ['/dev/shm/everyline-none/*.log']}]",
        ],
        &["[{}]", "{}", "[{paths: []}]", "[{paths: ['/a'], path: '/b'}]"],
    ),
    (
        "sources.files.paths",
        &["['DIR/p/*.log']", "['DIR/**/*.{log,txt}']"],
        &[
            "[a.log]",
            "['']",
            "['/a[b']",
            "['/proc/kmsg']",
            "['/sys/**']",
            "['/dev/*']",
            "['/var/log/']",
            "['/var/log/../x']",
            "['//var/log/x']",
            "['/x/${APP}.log']",
            "['LONG']",
        ],
    ),
    (
        "sources.files.exclude",
        &["[]", "['/x/*.gz']", "['**/*.gz']"],
        &["['*.gz']", "[x]", "['/a{']"],
    ),
    (
        "sources.files.format",
        &["plain", "CRI", "Docker-JSON", "docker_json"],
        &["json", "''", "docker json"],
    ),
    (
        "sources.files.encoding",
        &["utf-8", "UTF-16LE", "gbk", "Latin1"],
        &["''", "utf-32", "iso-2022-jp", "null", "[utf-8]"],
    ),
    (
        "sources.files.follow_links",
        &["never", "beneath", "anywhere", "Never"],
        &["''", "always", "true", "null"],
    ),
    ("sources.files.max_links", &["0", "1"], &["-1", "one", "'1'"]),
    ("sources.kubernetes.wait_for_id", &["0", "1m", "1.5s"], &["61s", "2", "-1s"]),
    (
        "sources.files.attributes",
        &["{}", "{service.name: x}", "{k8s.pod.name: mine}", "{'a b': ''}"],
        &[
            "{body: x}",
            "{timestamp: x}",
            "{observed_timestamp: x}",
            "{log.record.uid: x}",
            "{log.iostream: x}",
            "{log.file.path: x}",
            "{host.name: x}",
            "{everyline.partial: x}",
            "{everyline.anything: x}",
            "{'': x}",
            "{\"a\\nb\": x}",
            "{a: [b]}",
            "{a: '${B}'}",
            "{a: 'LONG'}",
            "{a: 1, a: 2}",
        ],
    ),
    ("read", &["null"], &["fast"]),
    ("read.start", &["beginning", "Beginning"], &["start", "begin", "1"]),
    (
        "read.threads",
        &["0", "1", "256"],
        &["257", "-1", "two", "1.5", "'2'", "18446744073709551616"],
    ),
    (
        "read.max_line_bytes",
        &["64", "64Ki", "1MiB"],
        &["0", "63", "2MiB", "1M", "-1", "''", "99999999999999999999", "1.5"],
    ),
    ("read.long_lines", &["split", "CUT"], &["truncate", "drop"]),
    ("read.unfinished_after", &["100ms", "1h30m", "24h"], &["99ms", "0", "25h", "5", "1us"]),
    ("read.quantum", &["1KiB", "1GiB"], &["0", "1", "2GiB", "1TiB"]),
    ("read.max_unpacked_bytes", &["1", "1TiB", "1.5Gi", "16000PiB"], &["0", "20000PiB", "x"]),
    ("read.unpacking_bytes", &["4MiB", "64Mi", "1TiB"], &["0", "1MiB", "2TiB", "x", "null"]),
    (
        "read.known_files",
        &["64", "48000", "10000000"],
        &["0", "63", "-1", "10000001", "1.5", "null", "x"],
    ),
    ("watch", &["null"], &["[]"]),
    ("watch.mode", &["poll", "INOTIFY", "Auto"], &["fanotify", "null", "''"]),
    ("watch.poll_interval", &["1ms", "1h"], &["0", "0.5ms", "2h", "250"]),
    ("watch.sweep_interval", &["1ms", "24h", "1m30s"], &["0", "25h", "1h90"]),
    ("watch.kernel", &["{}"], &["true"]),
    ("watch.kernel.hook", &["auto", "FEXIT", "tracepoint"], &["kprobe"]),
    ("watch.kernel.pin_dir", &["DIR/bpf"], &["bpf", "/sys/fs/bpf/../x"]),
    ("watch.kernel.max_files", &["64", "1048576"], &["0", "63", "1048577", "1e3"]),
    ("batch", &["null"], &["1MiB"]),
    ("batch.max_bytes", &["1MiB", "1GiB", "1048576"], &["0", "1023", "1023KiB", "2GiB"]),
    ("batch.max_lines", &["1", "4294967295"], &["0", "-1", "4294967296"]),
    ("batch.max_age", &["0", "0s", "50ms"], &["2h", "1", "-1s"]),
    ("memory_budget", &["2MiB", "64Mi", "1TiB"], &["0", "1MiB", "2TiB", "lots", "${MEMORY}"]),
    ("checkpoint_interval", &["10ms", "1h"], &["0", "1ms", "9ms", "61m"]),
    ("drain_timeout", &["0", "1s", "24h", "1d"], &["25h", "-1s", "1w", "999999999d"]),
    (
        "sinks",
        &["{}", "null"],
        &[
            "[]",
            "{A: {type: 'null'}}",
            "{a b: {type: 'null'}}",
            "{a: console}",
            "{a: {}}",
            "{a: null}",
        ],
    ),
    ("sinks.it.type", &["'null'", "NULL", "Archive"], &["''", "s3", "[http]", "${TYPE}"]),
    (
        "sinks.archive.dir",
        &["DIR/arch", "DIR/state/elsewhere"],
        &["arch", "''", "/", "DIR/state", "DIR", "/proc/arch", "/dev/arch", "DIR/x/.."],
    ),
    ("sinks.archive.max_bytes", &["64MiB", "1TiB"], &["0", "32MiB", "1M", "512KiB"]),
    ("sinks.archive.max_age", &["1s", "36500d", "1w"], &["0", "1ms", "36501d", "7"]),
    ("sinks.archive.segment_bytes", &["1", "512MiB"], &["0", "513MiB"]),
    ("sinks.archive.level", &["-7", "19"], &["-8", "23", "fast"]),
    (
        "sinks.http.url",
        &[
            "http://127.0.0.1:1/",
            "HTTP://127.0.0.1:65535/x?y=z",
            "'http://[::1]:1'",
            "http://nowhere.invalid/",
        ],
        &[
            "127.0.0.1:1",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://h:0/",
            "http://h:99999/",
            "http://h:65536/",
            "http://h:/",
            "'http://h/#x'",
            "http://u:p@h/",
            "http://${HOST}/",
            "'http://h h/'",
            "http://a..b/",
            "''",
        ],
    ),
    ("sinks.http.body", &["ndjson", "JSON"], &["xml", "array"]),
    ("sinks.http.compression", &["ZSTD", "gzip", "none"], &["lz4", "true"]),
    ("sinks.http.level", &["-7", "22"], &["-8", "23", "1.0"]),
    (
        "sinks.http.headers",
        &["{}", "{X-Scope-OrgID: team-a}", "{User-Agent: me}", "{Accept: '*/*'}"],
        &[
            "{Connection: close}",
            "{upgrade: h2c}",
            "{Keep-Alive: '1'}",
            "{TE: trailers}",
            "{Trailer: x}",
            "{Transfer-Encoding: chunked}",
            "{Proxy-Connection: close}",
            "{Proxy-Authorization: x}",
            "{Proxy-Authenticate: x}",
            "{Expect: 100-continue}",
            "{HTTP2-Settings: x}",
            "{Host: h}",
            "{Content-Type: x}",
            "{Content-Length: '1'}",
            "{Content-Encoding: br}",
            "{Everyline-Batch-Id: x}",
            "{Authorization: Bearer x}",
            "{authorization: x}",
            "{Cookie: x}",
            "{X-Api-Key: x}",
            "{'a b': x}",
            "{x-a: \"a\\nb\"}",
            "{x-a: ' a'}",
            "{x-a: ''}",
            "{x-a: '1', X-A: '2'}",
            "{x-a: '${TENANT}'}",
        ],
    ),
    (
        "sinks.http.auth",
        &["{}", "null"],
        &[
            "{bearer_token_file: DIR/secret, basic_user: a, basic_password_file: DIR/secret}",
            "bearer",
        ],
    ),
    ("sinks.http.auth.basic_user", &["me"], &["'a:b'", "''", "\"a\\nb\"", "${USER}"]),
    ("sinks.http.auth.basic_password_file", &["DIR/secret"], &["secret", "null", "DIR/../secret"]),
    ("sinks.http.auth.bearer_token_file", &["DIR/secret", "null"], &["secret", "''"]),
    (
        "sinks.http.auth.header_name",
        &["X-Api-Key", "Authorization"],
        &[
            "''",
            "'a b'",
            "Host",
            "Connection",
            "Content-Type",
            "Transfer-Encoding",
            "Everyline-Batch-Id",
            "X-In-Headers",
        ],
    ),
    ("sinks.http.auth.header_value_file", &["DIR/secret"], &["null", "secret"]),
    ("sinks.https.tls", &["{}"], &["true", "{insecure: true}"]),
    ("sinks.https.tls.ca_file", &["DIR/cert.pem", "null"], &["ca.pem", "${CA}"]),
    ("sinks.https.tls.cert_file", &["DIR/cert.pem"], &["null", "cert.pem"]),
    ("sinks.https.tls.key_file", &["DIR/key.pem"], &["null", "key.pem"]),
    (
        "sinks.https.tls.server_name",
        &["''", "logs.example", "10.0.0.1"],
        &["'a b'", "a..b", "https://x"],
    ),
    (
        "sinks.http.proxy",
        &["''", "http://127.0.0.1:1", "http://me:p%40ss@127.0.0.1:1/"],
        &[
            "127.0.0.1:1",
            "socks5://h:1",
            "https://h:1",
            "http://h:99999",
            "http://h:0",
            "http://",
            "http://h/x",
        ],
    ),
    ("sinks.http.timeout", &["1ms", "1h"], &["0", "2h", "30"]),
    ("sinks.http.backoff_base", &["1ms", "30s"], &["0", "31s", "2h"]),
    ("sinks.http.backoff_max", &["200ms", "24h"], &["0", "199ms", "25h"]),
    ("sinks.http.concurrency", &["1", "1024"], &["0", "1025", "-1"]),
    ("sinks.http.on_reject", &["retry", "Drop"], &["ignore"]),
    (
        "sinks.file.path",
        &["DIR/out/x", "DIR/out/x.zst"],
        &[
            "x",
            "''",
            "/",
            "DIR/out/",
            "DIR/state/x",
            "DIR/state",
            "/dev/stdout",
            "/proc/1/fd/1",
            "/sys/x",
            "DIR/out/../x",
            "DIR/LONG",
        ],
    ),
    ("sinks.file.rotate_size", &["1", "1TiB"], &["0", "1K", "-1"]),
    ("sinks.file.keep", &["0", "4294967295"], &["-1", "4294967296", "all"]),
    ("sinks.file.compression", &["None", "zstd", "GZIP"], &["zst", "bzip2"]),
    ("sinks.file.level", &["1"], &["x"]),
    ("sinks.console.format", &["human", "JSON"], &["text"]),
    ("sinks.console.color", &["auto", "Never", "ALWAYS"], &["yes", "true"]),
    (
        "sinks.console.template",
        &["''", "'{container}/[{level}] : {body}'", "'{{{body}}}'", "'${body}'"],
        &[
            "'{body'",
            "body}",
            "no field",
            "'{nonsense}'",
            "'${VAR}'",
            "'{{ .Values.template }}'",
            "\"{body}\\n\"",
            "null",
        ],
    ),
    ("sinks.null.compression", &["zstd", "null", "none"], &["lz4"]),
    ("admin", &["{enabled: false}"], &["off"]),
    ("admin.enabled", &["False", "true"], &["no"]),
    (
        "admin.listen",
        &["127.0.0.1:PORT", "'[::1]:PORT'", "0.0.0.0:PORT"],
        &[
            "localhost:9477",
            "':9477'",
            "9477",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "''",
            "'${IP}:9477'",
        ],
    ),
    (
        "admin.hosts",
        &["[]", "[everyline.monitoring.svc]", "['EVERYLINE.']"],
        &["everyline", "['']", "['a:9477']", "['http://a']", "['a/b']"],
    ),
    ("log", &["null"], &["debug"]),
    (
        "log.level",
        &["INFO", "Debug", "warn", "error", "trace"],
        &["verbose", "warning", "''", "info,debug"],
    ),
    ("log.format", &["TEXT", "json"], &["logfmt"]),
];

/// A configuration as flow YAML: values stand as they are written in the table.
#[derive(Clone)]
enum Tree {
    Map(BTreeMap<String, Tree>),
    Raw(String),
}

impl Tree {
    fn set(&mut self, path: &str, value: &str) {
        let (step, rest) = path.split_once('.').unwrap_or((path, ""));
        if let Self::Raw(_) = self {
            *self = Self::Map(BTreeMap::new());
        }
        let Self::Map(map) = self else { unreachable!() };
        if rest.is_empty() {
            map.insert(step.to_owned(), Self::Raw(value.to_owned()));
        } else {
            map.entry(step.to_owned())
                .or_insert_with(|| Self::Map(BTreeMap::new()))
                .set(rest, value);
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Raw(text) => text.clone(),
            Self::Map(map) => {
                let entries = map.iter().map(|(key, value)| format!("{key}: {}", value.text()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A configuration that is right, but for the value that is set in it.
fn configuration(dir: &Path, key: &str, value: &str) -> String {
    let shown = dir.display().to_string();
    let mut tree = Tree::Map(BTreeMap::new());
    for (key, value) in [
        ("state_dir", "DIR/state"),
        ("sources.kubernetes.pods_dir", "DIR/pods"),
        ("sources.kubernetes.containers_dir", "DIR/containers"),
        ("sources.docker.containers_dir", "DIR/docker"),
        ("watch.mode", "inotify"),
        ("watch.kernel.pin_dir", "DIR/bpf"),
        ("admin.enabled", "false"),
        ("batch.max_age", "20ms"),
        ("sinks.file.type", "file"),
        ("sinks.file.path", "DIR/out/out.ndjson"),
    ] {
        tree.set(key, value);
    }
    let needs: &[(&str, &str)] = match key {
        "admin.listen" => &[("admin.enabled", "true")],
        "admin" | "admin.enabled" => &[("admin.listen", "127.0.0.1:PORT")],
        "batch.max_bytes" => &[("memory_budget", "2GiB")],
        "read.threads" => &[("memory_budget", "512MiB")],
        _ if key.starts_with("sinks.file") => &[],
        "sinks.http.auth.basic_user" => &[("sinks.http.auth.basic_password_file", "DIR/secret")],
        "sinks.http.auth.basic_password_file" => &[("sinks.http.auth.basic_user", "me")],
        "sinks.http.auth.header_name" => &[
            ("sinks.http.auth.header_value_file", "DIR/secret"),
            ("sinks.http.headers", "{x-in-headers: a}"),
        ],
        "sinks.http.auth.header_value_file" => &[("sinks.http.auth.header_name", "X-Key")],
        "sinks.https.tls.cert_file" => &[("sinks.https.tls.key_file", "DIR/key.pem")],
        "sinks.https.tls.key_file" => &[("sinks.https.tls.cert_file", "DIR/cert.pem")],
        _ => &[],
    };
    if let Some(kind) = key.strip_prefix("sinks.").and_then(|rest| rest.split('.').next()) {
        let (name, url) = match kind {
            "http" => ("http", Some("http://127.0.0.1:1/")),
            "https" => ("http", Some("https://127.0.0.1:1/")),
            "null" => ("'null'", None),
            other => (other, None),
        };
        if kind != "it" {
            tree.set(&format!("sinks.{kind}.type"), name);
        }
        if let Some(url) = url {
            // Nobody listens there: what is left is not waited for.
            tree.set("drain_timeout", "300ms");
            tree.set(&format!("sinks.{kind}.url"), url);
            tree.set(&format!("sinks.{kind}.timeout"), "5s");
        }
    }
    for (key, value) in needs {
        tree.set(key, value);
    }
    match key.strip_prefix("sources.files.") {
        Some("paths") => tree.set("sources.files", &format!("[{{paths: {value}}}]")),
        Some(key) => {
            tree.set("sources.files", &format!("[{{paths: ['DIR/p/*.log'], {key}: {value}}}]"));
        }
        None => tree.set(key, value),
    }
    let long = "x".repeat(20_000);
    tree.text()
        .replace("PORT", &free_port().to_string())
        .replace("LONG", &long)
        .replace("DIR", &shown)
}

/// Directories, a log of one line, secrets and certificates.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["pods/shop_a_uid-a/main", "out", "p"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    let line = "2026-11-22T01:02:03.5Z stdout F message 0\n";
    fs::write(path("pods/shop_a_uid-a/main/0.log"), line).unwrap();
    fs::write(path("secret"), "hunter2\n").unwrap();
    let made = rcgen::generate_simple_self_signed(["logs.example".to_owned()]).unwrap();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    dir
}

fn everyline(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    command.args(args).arg("--config").arg(config).stdin(Stdio::null());
    command.env_remove("EVERYLINE_CONFIG").env_remove("EVERYLINE_LOG").env("NODE_NAME", "node-1");
    command
}

fn said(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Starts an agent, waits until it has delivered the line, and stops it. What is wrong with that.
fn works(dir: &Path, config: &Path) -> Result<(), String> {
    let log = dir.join("agent.log");
    let child = everyline(&["run"], config)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut agent = Reaped(child);
    let deadline = Instant::now() + patience();
    let out = || -> usize {
        let outputs = fs::read_dir(dir.join("out")).unwrap().map(|entry| entry.unwrap().path());
        outputs.map(|path| lines(&path)).sum()
    };
    let text = || fs::read_to_string(&log).unwrap();
    let quiet = fs::read_to_string(config).unwrap().contains("level: ");
    // Without that sink, or that source, there is nothing to be seen but that it goes on.
    let text_of_config = fs::read_to_string(config).unwrap();
    let pods = format!("pods_dir: {}/pods", dir.display());
    let delivers = text_of_config.contains("type: file") && text_of_config.contains(&pods);
    loop {
        if let Some(status) = agent.0.try_wait().unwrap() {
            return Err(format!("ended with {status}\n{}", text()));
        }
        let runs = quiet || text().contains("Everyline runs");
        if runs && (!delivers || out() == 1) {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!("{} lines arrived\n{}", out(), text()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if !delivers {
        std::thread::sleep(Duration::from_millis(300));
    }
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let deadline = Instant::now() + patience();
    loop {
        match agent.0.try_wait().unwrap() {
            Some(status) if out() > 1 => return Err(format!("doubled, {status}")),
            Some(status) if text().contains("panicked") => {
                return Err(format!("panicked, {status}\n{}", text()));
            }
            Some(_) => return Ok(()),
            None if Instant::now() > deadline => return Err(format!("does not stop\n{}", text())),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Records in an output, whatever its compression.
fn lines(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    let text = match bytes[..] {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::decode_all(&bytes[..]).unwrap_or_default(),
        [0x1f, 0x8b, ..] => {
            let mut text = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&bytes[..]);
            let _cut = std::io::Read::read_to_end(&mut decoder, &mut text);
            text
        }
        _ => bytes,
    };
    text.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn the_table_has_every_key() {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for line in DEFAULT_YAML.lines() {
        let bare = line.trim_start().trim_start_matches('#').trim_start().trim_start_matches("- ");
        let key = bare.split_once(':').map(|(key, _)| key);
        keys.extend(key.filter(|key| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        }));
    }
    // Words of comments and examples that a colon follows.
    let words = [
        "auto",
        "kernel",
        "poll",
        "inotify",
        "split",
        "cut",
        "fexit",
        "tracepoint",
        "retry",
        "drop",
        "none",
        "zero",
        "local",
        "collector",
        "copy",
        "screen",
        "nowhere",
        "http",
        "https",
        "durations",
        "sizes",
    ];
    let tested: BTreeSet<&str> = TABLE.iter().flat_map(|(key, _, _)| key.split('.')).collect();
    let missing: Vec<_> =
        keys.iter().filter(|key| !tested.contains(*key) && !words.contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(keys.len() > 60, "{keys:?}");
}

#[test]
fn what_validate_refuses_run_and_doctor_refuse_in_the_same_words() {
    let dir = place();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (key, _, refused) in TABLE {
        for value in *refused {
            let path = dir.path().join("everyline.yaml");
            fs::write(&path, configuration(dir.path(), key, value)).unwrap();
            let (code, message) = said(everyline(&["validate"], &path).output().unwrap());
            if code != Some(78) || message.is_empty() {
                wrong.push(format!("{key}: {value} is passed"));
                continue;
            }
            if message.contains("hunter2") || !message.contains("everyline.yaml:1:") {
                wrong.push(format!("{key}: {value}: {message}"));
            }
            for command in ["run", "doctor"] {
                let other = said(everyline(&[command], &path).output().unwrap());
                if other != (code, message.clone()) {
                    wrong.push(format!("{key}: {value}: {command} says {other:?}, not {message}"));
                }
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 250, "{count}");
    assert!(!dir.path().join("state").exists(), "nothing was begun");
}

/// A part of the table, so that four run side by side.
fn what_validate_passes_starts_an_agent_that_works(part: usize) {
    let mut wrong = Vec::new();
    let cases =
        TABLE.iter().flat_map(|(key, passed, _)| passed.iter().map(move |value| (*key, *value)));
    for (key, value) in cases.skip(part).step_by(4) {
        let dir = place();
        let path: PathBuf = dir.path().join("everyline.yaml");
        fs::write(&path, configuration(dir.path(), key, value)).unwrap();
        let (code, message) =
            said(everyline(&["validate", "--check-files", "-q"], &path).output().unwrap());
        if code != Some(0) {
            wrong.push(format!("{key}: {value} is refused: {message}"));
        } else if let Err(why) = works(dir.path(), &path) {
            wrong.push(format!("{key}: {value}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_validate_passes_starts_an_agent_that_works_first_quarter() {
    what_validate_passes_starts_an_agent_that_works(0);
}

#[test]
fn what_validate_passes_starts_an_agent_that_works_second_quarter() {
    what_validate_passes_starts_an_agent_that_works(1);
}

#[test]
fn what_validate_passes_starts_an_agent_that_works_third_quarter() {
    what_validate_passes_starts_an_agent_that_works(2);
}

#[test]
fn what_validate_passes_starts_an_agent_that_works_last_quarter() {
    what_validate_passes_starts_an_agent_that_works(3);
}

/// Runs `validate --check-files` and, if that refuses, `run`, which must do so in the same words.
fn check_files(dir: &Path, config: &str) -> (Option<i32>, String) {
    let path = dir.join("everyline.yaml");
    fs::write(&path, config.replace("DIR", &dir.display().to_string())).unwrap();
    assert_eq!(said(everyline(&["validate"], &path).output().unwrap()), (Some(0), String::new()));
    let names = || {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let before = names();
    let (code, message) = said(everyline(&["validate", "--check-files"], &path).output().unwrap());
    assert_eq!(names(), before, "it only looks");
    if code != Some(0) {
        let (code, log) = said(everyline(&["run"], &path).output().unwrap());
        assert!(matches!(code, Some(1 | 78)), "{log}");
        let prefix = format!("{}: ", path.display());
        let first = message.lines().next().unwrap().strip_prefix(&prefix).unwrap().to_owned();
        assert!(log.contains(&first), "{log}\n{first}");
    }
    (code, message)
}

#[test]
fn files_that_a_configuration_names_are_looked_at_when_asked() {
    let dir = place();
    let config = |rest: &str| {
        format!(
            "state_dir: DIR/state\nadmin: {{enabled: false}}\nwatch: {{mode: poll}}\nsources: \
             {{kubernetes: {{pods_dir: DIR/pods}}}}\n{rest}\n"
        )
    };
    let https =
        |more: &str| config(&format!("sinks: {{web: {{type: http, url: 'https://h/', {more}}}}}"));
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("two"), "hunter2\nhunter3\n").unwrap();
    fs::write(dir.path().join("a-file"), "").unwrap();
    for (config, what) in [
        (https("tls: {ca_file: DIR/missing.pem}"), "cannot read the certificate authorities"),
        (https("tls: {ca_file: DIR/secret}"), "PEM"),
        (https("tls: {cert_file: DIR/cert.pem, key_file: DIR/missing.pem}"), "certificate's key"),
        (https("tls: {cert_file: DIR/cert.pem, key_file: DIR/cert.pem}"), "key"),
        (https("auth: {bearer_token_file: DIR/missing}"), "cannot read the secret"),
        (https("auth: {bearer_token_file: DIR/empty}"), "is empty"),
        (https("auth: {basic_user: me, basic_password_file: DIR/two}"), "control character"),
        (https("auth: {header_name: x-key, header_value_file: DIR}"), "Is a directory"),
        (config("sinks: {a: {type: archive, dir: DIR/a-file/archive}}"), "cannot be opened"),
        (config("").replace("DIR/state", "DIR/a-file/state"), "Cannot use the state directory"),
        (config("").replace("DIR/state", "DIR/a-file"), "Cannot use the state directory"),
    ] {
        let (code, message) = check_files(dir.path(), &config);
        assert_eq!(code, Some(78), "{config}: {message}");
        assert!(message.contains(what) && !message.contains("hunter"), "{config}: {message}");
    }
    for config in [
        https("tls: {ca_file: DIR/cert.pem}, auth: {bearer_token_file: DIR/secret}"),
        https("tls: {cert_file: DIR/cert.pem, key_file: DIR/key.pem}"),
        config("sinks: {a: {type: archive}, f: {type: file, path: DIR/out/x}, n: {type: 'null'}}"),
    ] {
        assert_eq!(check_files(dir.path(), &config), (Some(0), String::new()), "{config}");
    }
    // What an agent would wait for is said, and no reason not to start it.
    for (path, what) in
        [("DIR/missing/x", "Create the directory."), ("DIR/pods", "no regular file")]
    {
        let config = config(&format!("sinks: {{f: {{type: file, path: {path}}}}}"));
        let (code, message) = check_files(dir.path(), &config);
        assert_eq!(code, Some(0), "{message}");
        assert!(message.contains("note: Sink `f`: ") && message.contains(what), "{message}");
    }
}

#[test]
fn the_doctor_names_sinks_that_would_not_start_or_wait() {
    let dir = place();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = "\
state_dir: DIR/state
admin: {enabled: false}
watch: {mode: poll}
sources: {kubernetes: {pods_dir: DIR/pods}, docker: {enabled: false}}
sinks:
  there: {type: http, url: 'http://ADDRESS/'}
  gone: {type: http, url: 'http://127.0.0.1:1/'}
  secretless: {type: http, url: 'http://127.0.0.1:1/', auth: {bearer_token_file: DIR/missing}}
  copy: {type: file, path: DIR/out/x}
  nowhere: {type: file, path: DIR/missing/x}
  store: {type: archive}
";
    let config = config.replace("ADDRESS", &listener.local_addr().unwrap().to_string());
    let path = dir.path().join("everyline.yaml");
    fs::write(&path, config.replace("DIR", &dir.path().display().to_string())).unwrap();
    let output = everyline(&["doctor", "-o", "json"], &path)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = |name: &str| {
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|it| it["name"] == format!("sink.{name}")).unwrap();
        (
            finding["status"].as_str().unwrap().to_owned(),
            finding["found"].as_str().unwrap().to_owned(),
        )
    };
    for name in ["there", "copy", "store"] {
        assert_eq!(found(name).0, "ok", "{name} {:?}", found(name));
    }
    for (name, what) in [
        ("gone", "127.0.0.1:1 cannot be reached: Connection refused"),
        ("secretless", "cannot read the secret"),
        ("nowhere", "Create the directory."),
    ] {
        let (status, text) = found(name);
        assert!(status == "problem" && text.contains(what), "{name} {text}");
    }
    assert!(!dir.path().join("state").exists());
}

#[test]
fn no_record_has_a_key_twice_and_no_attribute_may_be_called_like_one() {
    let dir = place();
    let path = |name: &str| dir.path().join(name);
    // Records of every kind: with and without a time, partial, split, cut off, not text.
    let cri =
        "2026-11-22T01:02:03Z stdout F fine\n2026-11-22T01:02:03Z stderr P half\nno cri at all\n";
    fs::write(path("p/cri.log"), cri).unwrap();
    let long = "x".repeat(300);
    fs::write(path("p/plain.log"), [b"a\xffb\n", long.as_bytes(), b"\nend"].concat()).unwrap();
    let config = |long_lines: &str, attributes: &str| {
        format!(
            "state_dir: DIR/state\nadmin: {{enabled: false}}\nwatch: {{mode: poll}}\nnode_name: n\n\
             read: {{max_line_bytes: 100, long_lines: {long_lines}, unfinished_after: 200ms}}\n\
             batch: {{max_age: 20ms}}\nsources:\n  kubernetes: {{enabled: false}}\n  docker: {{enabled: false}}\n  \
             files:\n  - {{paths: [DIR/p/cri.log], format: cri, attributes: {attributes}}}\n  \
             - {{paths: [DIR/p/plain.log], attributes: {attributes}}}\n\
             sinks: {{out: {{type: file, path: DIR/out/out.ndjson}}}}\n"
        )
        .replace("DIR", &dir.path().display().to_string())
    };
    let mut keys = BTreeSet::new();
    for long_lines in ["split", "cut"] {
        let _other = fs::remove_dir_all(path("state"));
        let _other = fs::remove_file(path("out/out.ndjson"));
        fs::write(path("everyline.yaml"), config(long_lines, "{service.name: x}")).unwrap();
        let mut agent = Reaped(
            everyline(&["run"], &path("everyline.yaml")).stderr(Stdio::null()).spawn().unwrap(),
        );
        let deadline = Instant::now() + patience();
        let text = loop {
            let text = fs::read_to_string(path("out/out.ndjson")).unwrap_or_default();
            if text.contains("\"end\"") && text.contains("\"half\"") {
                break text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        };
        agent.0.kill().unwrap();
        for line in text.lines() {
            let record: Pairs = serde_json::from_str(line).unwrap();
            let unique: BTreeSet<_> = record.0.iter().collect();
            assert_eq!(unique.len(), record.0.len(), "{line}");
            keys.extend(record.0);
        }
    }
    assert!(keys.remove("service.name"));
    for key in [
        "body",
        "timestamp",
        "observed_timestamp",
        "log.iostream",
        "log.file.path",
        "host.name",
        "log.record.uid",
        "everyline.body_base64",
        "everyline.partial",
        "everyline.split",
        "everyline.cut_bytes",
        "everyline.unparsed",
    ] {
        assert!(keys.contains(key), "{key} is not in {keys:?}");
    }
    for key in keys {
        fs::write(path("everyline.yaml"), config("cut", &format!("{{{key}: x}}"))).unwrap();
        let (code, message) =
            said(everyline(&["validate"], &path("everyline.yaml")).output().unwrap());
        assert_eq!(code, Some(78), "{key}");
        assert!(
            message.contains(&format!("every record may have a `{key}` of its own")),
            "{message}"
        );
    }
}

/// The names in an object, also those that are there twice.
struct Pairs(Vec<String>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> serde::de::Visitor<'de> for All {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Pairs, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, serde_json::Value>()? {
                    names.push(name);
                }
                Ok(Pairs(names))
            }
        }
        deserializer.deserialize_map(All)
    }
}
