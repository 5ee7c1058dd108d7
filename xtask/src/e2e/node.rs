//! containerd of its own for one run: configuration, state and socket in a scratch directory,
//! stopped, unmounted and removed afterwards. The machine's own containerd is not touched.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    cri::Cri,
    image::{self, Image},
};
use crate::{
    packages::{self, Needed},
    process::{Running, Scratch},
};

/// The image of pods and containers alike.
pub(super) const IMAGE: &str = "everyline.invalid/busybox:1";

/// A running containerd.
#[derive(Debug)]
pub(super) struct Node<'a> {
    scratch: &'a Scratch,
    running: Option<Running>,
    socket: PathBuf,
}

/// Programs and the Debian packages they are in.
const NEEDED: [Needed; 3] =
    [("containerd", "containerd"), ("runc", "runc"), ("busybox", "busybox-static")];

/// Installs what is missing, where that is possible.
pub(super) fn install() -> Result<()> {
    ensure!(rustix::process::getuid().is_root(), "Containers need root: run this as root.");
    packages::install(&NEEDED)
}

impl<'a> Node<'a> {
    /// Starts containerd, waits until its CRI answers, and imports the image.
    pub(super) fn start(scratch: &'a Scratch) -> Result<(Self, Cri)> {
        let socket = scratch.join("node/containerd.sock")?;
        let config = scratch.join("node/containerd.toml")?;
        fs::write(&config, configuration(scratch.path(), &socket))?;
        let log = File::create(scratch.join("node/containerd.log")?)?;
        let mut command = Command::new("containerd");
        command.arg("-c").arg(&config).stdout(log.try_clone()?).stderr(log);
        let running = Some(Running::start("containerd", &mut command)?);
        let node = Self { scratch, running, socket };
        let end = Instant::now() + Duration::from_secs(20);
        let cri = loop {
            match Cri::connect(&node.socket).and_then(|cri| cri.version().map(|_| cri)) {
                Ok(cri) => break cri,
                Err(error) if Instant::now() > end => {
                    let log = fs::read_to_string(scratch.path().join("node/containerd.log"))?;
                    bail!("containerd does not answer: {error:#}\n{log}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        node.import()?;
        Ok((node, cri))
    }

    fn import(&self) -> Result<()> {
        let dir = self.scratch.directory("image")?;
        let output = Command::new("sh").args(["-c", "command -v busybox"]).output()?;
        let busybox = String::from_utf8(output.stdout)?;
        let image = Image {
            tag: IMAGE,
            programs: &[(Path::new(busybox.trim()), "bin/busybox")],
            applets: &["sh", "sleep", "echo", "cat"],
            entrypoint: &[],
            command: &["/bin/sleep", "2147483647"],
        };
        let archive = image::build(&dir, &image)?;
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["-n", "k8s.io", "images", "import"]);
        let output = command.arg(archive).output().context("Starting ctr")?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "Importing the image failed: {errors}");
        Ok(())
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = running.stop(Duration::from_secs(10))
        {
            eprintln!("containerd did not stop: {error:#}.");
        }
        stop_shims(&self.socket);
        unmount(self.scratch.path());
    }
}

/// Pods are removed before; this is for a run that failed in between. A shim names our socket.
fn stop_shims(socket: &Path) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let ours = line.contains("containerd-shim") && line.contains(&*socket.to_string_lossy());
        let pid = entry.file_name().to_string_lossy().parse().ok();
        if let (true, Some(pid)) = (ours, pid.and_then(rustix::process::Pid::from_raw)) {
            // It may have ended by itself meanwhile.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Whatever is still mounted below, the deepest first.
fn unmount(below: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(below)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        if let Err(error) = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH) {
            eprintln!("{} could not be unmounted: {error}.", point.display());
        }
    }
}

/// `restrict_oom_score_adj`: sandboxes start without CAP_SYS_RESOURCE too.
fn configuration(scratch: &Path, socket: &Path) -> String {
    let (scratch, socket) = (scratch.display(), socket.display());
    format!(
        r#"version = 2
root = "{scratch}/node/root"
state = "{scratch}/node/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_tcp_service = true
  sandbox_image = "{IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{scratch}/node/cni"
"#
    )
}
