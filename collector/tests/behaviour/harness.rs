//! A world of its own for every test: log directories, a state directory, an agent and writers.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up; the machine may be busy. Where it is slow
/// as well (an emulated one), `EVERYLINE_TEST_PATIENCE` says how many times as long.
pub(crate) fn patience() -> Duration {
    let factor = std::env::var("EVERYLINE_TEST_PATIENCE");
    Duration::from_secs(40) * factor.map_or(1, |factor| factor.parse().expect("a whole number"))
}

/// Whether the agent can have the kernel watch here; says why not.
pub(crate) fn has_kernel_watch() -> bool {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why = WHY_NOT.get_or_init(|| {
        let why = collector::watch::probe_kernel().err()?.to_string();
        // What the verifier finds wrong is our fault, not this machine's.
        assert!(!why.contains("Verifier output: 0"), "{why}");
        Some(why)
    });
    if let Some(why) = why {
        println!("skipped: no kernel watch: {why}");
    }
    why.is_none()
}

/// Tells threads that a test is over, also when it fails: else the test would wait for them for ever.
pub(crate) struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One test's directories and configuration.
pub(crate) struct World {
    pub dir: tempfile::TempDir,
    pub watch: &'static str,
    /// Files and directories that the kernel watches at most.
    pub slots: u32,
    /// Where the kernel watch pins, below `dir`.
    pub pins: &'static str,
    /// The list under `sources.files`.
    pub files: String,
    /// How often a sweep looks at everything.
    pub sweep_interval: &'static str,
    /// How long records wait for company.
    pub max_age: &'static str,
    /// The admin port; none unless a test asks for one.
    pub admin: Option<u16>,
    /// How long a container's first lines wait for its id.
    pub wait_for_id: &'static str,
    /// Names of pods that are excluded, separated by commas.
    pub exclude: &'static str,
    /// More keys of `sources.docker`, each behind a comma.
    pub docker: &'static str,
    /// Appended to the configuration, top level.
    pub extra: String,
    /// The `sinks:` section; the default is one exactly-once file.
    pub sinks: String,
}

impl World {
    pub(crate) fn new(watch: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pods", "plain", "out"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let out = dir.path().join("out/out.ndjson");
        let sinks =
            format!("  out:\n    type: file\n    path: {}\n    rotate_size: 1GiB\n", out.display());
        let (sweep_interval, max_age) = ("5s", "50ms");
        let files = format!("    - paths: [\"{}/plain/*.log\"]\n", dir.path().display());
        let (admin, extra) = (None, String::new());
        let (exclude, docker, wait_for_id) = ("", "", "2s");
        Self {
            dir,
            watch,
            slots: 512,
            pins: "bpf",
            files,
            wait_for_id,
            exclude,
            docker,
            sweep_interval,
            max_age,
            admin,
            extra,
            sinks,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path("everyline.yaml")
    }

    /// Writes the configuration as it stands.
    pub(crate) fn write_config(&self) {
        let dir = self.dir.path().display();
        let Self {
            watch, slots, pins, files, exclude, sweep_interval, max_age, extra, sinks, ..
        } = self;
        let (wait_for_id, docker) = (self.wait_for_id, self.docker);
        let admin = match self.admin {
            Some(port) => format!("listen: 127.0.0.1:{port}"),
            None => "enabled: false".to_owned(),
        };
        let text = format!(
            "node_name: node-1\nstate_dir: {dir}/state\nsources:\n  kubernetes:\n    pods_dir: {dir}/pods\n    containers_dir: {dir}/containers\n    wait_for_id: {wait_for_id}\n    exclude: {{pods: [{exclude}]}}\n  docker: {{containers_dir: {dir}/docker{docker}}}\n  files:\n{files}watch:\n  mode: {watch}\n  poll_interval: 50ms\n  sweep_interval: {sweep_interval}\n  kernel:\n    pin_dir: {dir}/{pins}\n    max_files: {slots}\nbatch:\n  max_age: {max_age}\ncheckpoint_interval: 100ms\nadmin:\n  {admin}\n{extra}sinks:\n{sinks}"
        );
        // In one step: an agent may be reading it at this moment.
        let temporary = self.path("everyline.yaml.new");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.config_path()).unwrap();
    }

    /// The binary where any user can run it.
    pub(crate) fn binary_for_all(&self) -> PathBuf {
        let binary = self.path("everyline");
        if !binary.exists() {
            fs::copy(env!("CARGO_BIN_EXE_everyline"), &binary).unwrap();
        }
        binary
    }

    /// Starts an agent.
    pub(crate) fn start(&self) -> Agent {
        self.start_by(Command::new(env!("CARGO_BIN_EXE_everyline")))
    }

    /// Starts an agent that reads this configuration file.
    pub(crate) fn start_with(&self, config: &Path) -> Agent {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_everyline")), config)
    }

    /// Starts it by a command that becomes the agent.
    pub(crate) fn start_by(&self, command: Command) -> Agent {
        self.write_config();
        self.spawn(command, &self.config_path())
    }

    fn spawn(&self, mut command: Command, config: &Path) -> Agent {
        let log =
            OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let child = command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Agent { child: Some(child) }
    }

    /// Runs a command of the agent's binary to its end.
    pub(crate) fn everyline(&self, arguments: &[&str]) -> Output {
        self.write_config();
        Command::new(env!("CARGO_BIN_EXE_everyline"))
            .args(arguments)
            .arg("--config")
            .arg(self.config_path())
            .output()
            .unwrap()
    }

    /// What the running agent's admin port serves at `path`.
    pub(crate) fn ask(&self, path: &str) -> String {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(body) = self.try_ask(path) {
                return body;
            }
            assert!(Instant::now() < deadline, "no answer\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin.unwrap())).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// Every record in the output file, in its order.
    pub(crate) fn records(&self) -> Vec<Value> {
        let Ok(text) = fs::read_to_string(self.path("out/out.ndjson")) else { return Vec::new() };
        // The last line may be in the middle of being written.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text[..whole].lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Waits until the output holds at least `count` records.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + patience();
        loop {
            let records = self.records();
            if records.len() >= count {
                return records;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} records arrived\n{}",
                records.len(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the agents of this world said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Waits until an agent said this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + patience();
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until an agent has looked at everything once.
    pub(crate) fn wait_for_first_look(&self) {
        let deadline = Instant::now() + patience();
        let said = ["The first look for logs is done.", "No log was found."];
        while !said.iter().any(|text| self.log().contains(text)) {
            assert!(Instant::now() < deadline, "no first look in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The audit while no agent runs: its exit status and its JSON.
    pub(crate) fn audit(&self) -> (i32, Value) {
        let output = self.everyline(&["audit", "-o", "json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("audit printed {text:?} {:?}: {error}", String::from_utf8_lossy(&output.stderr))
        });
        (output.status.code().unwrap(), json)
    }

    /// What the running agent says of its sink `name`; null: it does not answer yet.
    pub(crate) fn sink_status(&self, name: &str) -> Value {
        let output = self.everyline(&["status", "-o", "json"]);
        let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
            return Value::Null;
        };
        let sinks = report["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until the running agent says this of its sink `name`.
    pub(crate) fn wait_for_sink(&self, name: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + patience();
        loop {
            let status = self.sink_status(name);
            if !status.is_null() && done(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "still {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A container that writes CRI lines.
    pub(crate) fn container(&self, name: &str) -> Container {
        Container::new(&self.path("pods").join(format!("shop_{name}_uid-{name}/main")), 0)
    }
}

/// A running agent.
pub(crate) struct Agent {
    child: Option<Child>,
}

impl Agent {
    /// The most memory that it has had, MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(path).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the exit status.
    pub(crate) fn stop(self) -> Option<i32> {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.wait()
    }

    /// Waits for it to end by itself; the exit status.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let deadline = Instant::now() + 3 * patience();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.waits_for());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where in the kernel each of its threads waits.
    fn waits_for(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).unwrap();
        let read = |task: &Path, name| fs::read_to_string(task.join(name)).unwrap_or_default();
        let tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
        tasks
            .map(|task| format!("{} in {}", read(&task, "comm").trim(), read(&task, "wchan")))
            .collect()
    }

    /// A stop is waited for: until every thread has taken it, lines are still read.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
        let deadline = Instant::now() + patience();
        while signal == Signal::STOP && !self.is_stopped() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).unwrap();
        let mut stats =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
    }

    /// Files it holds open whose name contains `part`.
    pub(crate) fn open_files(&self, part: &str) -> usize {
        let fds = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        let links = fs::read_dir(fds).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains(part)).count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// A container's log as the runtime writes it and the kubelet rotates it.
pub(crate) struct Container {
    pub dir: PathBuf,
    restarts: u32,
    file: File,
    pub written: u32,
}

static ROTATIONS: AtomicU32 = AtomicU32::new(0);

impl Container {
    pub(crate) fn new(dir: &Path, restarts: u32) -> Self {
        fs::create_dir_all(dir).unwrap();
        let file = open(&dir.join(format!("{restarts}.log")));
        Self { dir: dir.to_owned(), restarts, file, written: 0 }
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.restarts))
    }

    /// Writes a raw line.
    pub(crate) fn raw(&mut self, line: &[u8]) {
        self.file.write_all(line).unwrap();
    }

    /// Writes `count` numbered messages.
    pub(crate) fn write(&mut self, count: u32) {
        let mut text = Vec::new();
        for _ in 0..count {
            let n = self.written;
            self.written += 1;
            writeln!(text, "2026-11-22T01:02:03.{:09}Z stdout F message {n}", n).unwrap();
        }
        self.raw(&text);
    }

    /// Renames the live file as the kubelet does and begins another; the rotated file's path.
    pub(crate) fn rotate(&mut self) -> PathBuf {
        let n = ROTATIONS.fetch_add(1, Ordering::Relaxed);
        let rotated = self.dir.join(format!("{}.log.20261122-{n:06}", self.restarts));
        fs::rename(self.live(), &rotated).unwrap();
        self.file = open(&self.live());
        rotated
    }

    /// Compresses a rotated file as the kubelet does.
    pub(crate) fn compress(&self, rotated: &Path) -> PathBuf {
        let mut bytes = Vec::new();
        File::open(rotated).unwrap().read_to_end(&mut bytes).unwrap();
        let temporary = PathBuf::from(format!("{}.tmp", rotated.display()));
        let compressed = PathBuf::from(format!("{}.gz", rotated.display()));
        let mut encoder = flate2::write::GzEncoder::new(
            File::create(&temporary).unwrap(),
            flate2::Compression::fast(),
        );
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap();
        fs::rename(&temporary, &compressed).unwrap();
        fs::remove_file(rotated).unwrap();
        compressed
    }

    pub(crate) fn pod(&self) -> String {
        let pod = self.dir.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        pod.split('_').nth(1).unwrap().to_owned()
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// So many numbered lines.
pub(crate) fn lines(what: &str, count: usize) -> String {
    (0..count).map(|number| format!("{what} {number}\n")).collect()
}

/// Writes at the end of a file, which is made if need be.
pub(crate) fn append(path: &Path, text: impl AsRef<[u8]>) {
    open(path).write_all(text.as_ref()).unwrap();
}

/// Waits until the audit says that nothing is on its way any more; what it says then.
pub(crate) fn settled_audit(world: &World) -> Value {
    let mut last = Value::Null;
    for _ in 0..150 {
        std::thread::sleep(Duration::from_millis(200));
        let (_, audit) = world.audit();
        let quiet = audit["complete"] == true
            && audit["sinks"].as_object().is_some_and(|sinks| {
                sinks.values().all(|sink| sink["unread"] == 0 && sink["in_flight"] == 0)
            });
        if quiet && audit == last {
            return audit;
        }
        last = audit;
    }
    panic!("something stays on its way: {last}\n{}", world.log());
}

/// A record's body.
pub(crate) fn body(record: &Value) -> &str {
    record["body"].as_str().unwrap()
}

/// Requires that every message of the container arrived once, in order, with its metadata and a
/// `log.record.uid` of its own.
pub(crate) fn assert_exactly_once(records: &[Value], container: &Container) {
    let pod = container.pod();
    let ours: Vec<&Value> = records.iter().filter(|r| r["k8s.pod.name"] == pod.as_str()).collect();
    let bodies: Vec<&str> = ours.iter().map(|record| body(record)).collect();
    let wanted: Vec<String> = (0..container.written).map(|n| format!("message {n}")).collect();
    if bodies != wanted {
        let at = bodies.iter().zip(&wanted).position(|(a, b)| a != b);
        let at = at.unwrap_or(bodies.len().min(wanted.len()));
        let near = &bodies[at.saturating_sub(2)..(at + 3).min(bodies.len())];
        panic!(
            "{} of {} messages; the first difference is at {at}: {near:?}",
            bodies.len(),
            wanted.len()
        );
    }
    let mut uids = BTreeMap::new();
    for record in &ours {
        assert_eq!(record["k8s.namespace.name"], "shop");
        assert_eq!(record["k8s.container.name"], "main");
        assert_eq!(record["k8s.node.name"], "node-1");
        let uid = record["log.record.uid"].as_str().unwrap();
        assert!(uids.insert(uid, body(record)).is_none(), "the uid {uid} repeats");
    }
}

/// Makes one test per watcher mode of each function that takes a [`World`].
macro_rules! in_every_mode {
    ($($name:ident),* $(,)?) => {
        mod kernel {
            $(#[test] fn $name() {
                if crate::harness::has_kernel_watch() {
                    super::$name(crate::harness::World::new("kernel"));
                }
            })*
        }
        mod inotify {
            $(#[test] fn $name() { super::$name(crate::harness::World::new("inotify")); })*
        }
        mod poll {
            $(#[test] fn $name() { super::$name(crate::harness::World::new("poll")); })*
        }
    };
}
pub(crate) use in_every_mode;

/// A bpffs of the test's own.
pub(crate) struct BpfFs(pub PathBuf);

impl BpfFs {
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: mounting a bpffs needs root and a kernel that has it");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _busy = Command::new("umount").arg(&self.0).status();
    }
}
