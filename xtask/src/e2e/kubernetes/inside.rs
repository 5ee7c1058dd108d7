//! The node from within: the first process of its namespaces. Mounts what a node has, starts every
//! component, and starts again whichever ends.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    process::{WaitOptions, wait},
};

use super::{
    parts::run,
    settings::{ADDRESS, SERVICE, Settings},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's directory.
    #[arg(long)]
    dir: PathBuf,
    /// Where packages are unpacked.
    #[arg(long)]
    root: PathBuf,
    /// Kubernetes' binary.
    #[arg(long)]
    kube: PathBuf,
    /// A control group of every hierarchy, to enter before the namespaces are made.
    #[arg(long)]
    enter: Vec<PathBuf>,
}

/// Version 1 hierarchies, as the node mounts them.
const HIERARCHIES: [&str; 8] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
/// Settings of the whole machine that kubelet writes: here it gets files to write to.
const SHIELDED: [(&str, &str); 5] = [
    ("vm/overcommit_memory", "1"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Enters the control groups and makes the namespaces; in them, is the node.
pub(super) fn enter(args: &Args) -> Result<()> {
    if args.enter.is_empty() {
        return be_the_node(args);
    }
    for group in &args.enter {
        let what = || format!("Entering {}", group.display());
        fs::write(group.join("cgroup.procs"), std::process::id().to_string()).with_context(what)?;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "--propagation", "private"]);
    command.arg(std::env::current_exe()?).args(["e2e", "inside", "--dir"]).arg(&args.dir);
    command.arg("--root").arg(&args.root).arg("--kube").arg(&args.kube);
    Err(command.exec()).context("Starting unshare")
}

fn be_the_node(args: &Args) -> Result<()> {
    ensure!(std::process::id() == 1, "This is for the first process of a namespace.");
    let settings = Settings::of(&args.dir);
    mounts(&settings)?;
    network()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let root = args.root.display();
    let path = format!("{root}/usr/bin:{root}/usr/sbin:{path}");
    let components = settings.components(&args.kube);
    let mut running = BTreeMap::new();
    for (name, words) in &components {
        running.insert(start(&settings, name, words, &path)?, (*name, words));
    }
    loop {
        // Also the children of processes that ended without waiting for them.
        let Some((ended, _)) = wait(WaitOptions::empty()).context("Waiting for processes")? else {
            continue;
        };
        if let Some((name, words)) = running.remove(&ended.as_raw_nonzero().get()) {
            println!("{name} has ended; it is started again.");
            std::thread::sleep(Duration::from_millis(500));
            running.insert(start(&settings, name, words, &path)?, (name, words));
        }
    }
}

fn start(settings: &Settings, name: &str, words: &[String], path: &str) -> Result<i32> {
    let log = settings.path(&format!("out/{name}.log"));
    let log = File::options().create(true).append(true).open(log)?;
    let (program, arguments) = words.split_first().context("no command")?;
    // Found in the node's own search path, not in that of this process.
    let mut command = Command::new("env");
    command.arg(format!("PATH={path}")).arg(program).args(arguments);
    let child = command.stdout(log.try_clone()?).stderr(log).spawn();
    Ok(child.with_context(|| format!("Starting {name}"))?.id().cast_signed())
}

fn mounts(settings: &Settings) -> Result<()> {
    rustix::system::sethostname(b"node1")?;
    let (plain, none) = (MountFlags::empty(), None::<&std::ffi::CStr>);
    let new = |kind: &str, to: &Path| {
        mount(kind, to, kind, plain, none).with_context(|| format!("Mounting {}", to.display()))
    };
    new("sysfs", Path::new("/sys"))?;
    let groups = Path::new("/sys/fs/cgroup");
    new("tmpfs", groups)?;
    for name in HIERARCHIES.into_iter().chain(["systemd"]) {
        let to = groups.join(name);
        fs::create_dir(&to)?;
        let option = if name == "systemd" { "none,name=systemd" } else { name };
        let option = std::ffi::CString::new(option)?;
        let mounted = mount("cgroup", &to, "cgroup", plain, Some(option.as_c_str()));
        mounted.with_context(|| format!("Mounting the control groups of {name}"))?;
    }
    // As systemd does on every node.
    new("bpf", Path::new("/sys/fs/bpf"))?;
    new("tmpfs", Path::new("/run"))?;
    for (from, to) in [("varlib", "/var/lib"), ("varlog", "/var/log")] {
        mount_bind(settings.path(from), to).with_context(|| format!("Mounting {to}"))?;
    }
    fs::create_dir("/run/shield")?;
    for (name, value) in SHIELDED {
        let file = Path::new("/run/shield").join(name.replace('/', "."));
        fs::write(&file, value)?;
        let to = Path::new("/proc/sys").join(name);
        mount_bind(&file, &to).with_context(|| format!("Shielding {}", to.display()))?;
    }
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).context("Sharing mounts with pods")
}

/// A bridge has the node's addresses: another kind of device may not be there.
fn network() -> Result<()> {
    let node = format!("{ADDRESS}/24");
    let service = format!("{SERVICE}/32");
    for words in [
        "link set lo up",
        "link add node0 type bridge",
        &format!("addr add {node} dev node0"),
        &format!("addr add {service} dev node0"),
        "link set node0 up",
        &format!("route add default via {ADDRESS} dev node0"),
    ] {
        run(Command::new("ip").args(words.split_whitespace()))?;
    }
    Ok(())
}
