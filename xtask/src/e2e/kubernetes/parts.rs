//! What a node is made of: Debian's packages, unpacked beside the system; Kubernetes, built from Go's
//! modules; the agent and the writer as static binaries. Each is kept under `target/kubernetes` and made
//! again when what it is made of changes.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    bpf,
    packages::{self, Needed},
    workspace,
};

/// Debian packages that are unpacked, not installed.
const UNPACKED: [&str; 4] = ["containerd", "runc", "etcd-server", "containernetworking-plugins"];
/// Binaries of this workspace, built static.
const STATIC: [&str; 3] = ["everyline", "podlog", "oracle"];
/// Programs that this calls, and the Debian package each is in.
const NEEDED: [Needed; 7] = [
    ("ip", "iproute2"),
    ("musl-gcc", "musl-tools"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("sha256sum", "coreutils"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// Where everything is.
#[derive(Debug)]
pub(super) struct Parts {
    /// The root of the unpacked packages.
    pub(super) root: PathBuf,
    /// All of Kubernetes in one binary.
    pub(super) kube: PathBuf,
    /// Static: `everyline`.
    pub(super) everyline: PathBuf,
    /// Static: `podlog`.
    pub(super) podlog: PathBuf,
    /// Static too, so that the agent need not be built twice: `oracle`.
    pub(super) oracle: PathBuf,
}

impl Parts {
    /// Fetches and builds whatever is not there.
    pub(super) fn get() -> Result<Self> {
        ensure!(cfg!(target_arch = "x86_64"), "The node is built for x86-64: run this there.");
        packages::install(&NEEDED)?;
        let dir = workspace::target_dir().join("kubernetes");
        fs::create_dir_all(&dir)?;
        let root = unpacked(&dir)?;
        let kube = kubernetes(&dir)?;
        bpf::build_if_possible();
        let statics = static_binaries()?;
        let [everyline, podlog, oracle] = STATIC.map(|name| statics.join(name));
        Ok(Self { root, kube, everyline, podlog, oracle })
    }
}

/// Downloads packages once and unpacks them.
fn unpacked(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    if root.exists() {
        return Ok(root);
    }
    println!("    fetching {}", UNPACKED.join(", "));
    let (packages, unfinished) = (dir.join("packages"), dir.join("root.new"));
    for fresh in [&packages, &unfinished] {
        fs::remove_dir_all(fresh).ok();
        fs::create_dir_all(fresh)?;
    }
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "-q"]).args(UNPACKED).current_dir(&packages);
        run(&mut command)
    };
    if download().is_err() {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        download()?;
    }
    for package in fs::read_dir(&packages)? {
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&unfinished))?;
    }
    fs::rename(&unfinished, &root)?;
    Ok(root)
}

/// Builds Kubernetes unless it is there for these sources and this Go.
fn kubernetes(dir: &Path) -> Result<PathBuf> {
    let source = workspace::root().join("xtask/kubernetes");
    let go = Command::new("go").arg("version").output();
    let go =
        go.context("Kubernetes is built by Go: install Go 1.24 or later from https://go.dev")?;
    let mut hasher = DefaultHasher::new();
    go.stdout.hash(&mut hasher);
    for name in ["main.go", "go.mod", "go.sum"] {
        fs::read(source.join(name))?.hash(&mut hasher);
    }
    let kube = dir.join(format!("kube-{:016x}", hasher.finish()));
    if kube.exists() {
        return Ok(kube);
    }
    println!("    building Kubernetes from Go's modules (the first time takes about ten minutes)");
    let module = fs::read_to_string(source.join("go.mod"))?;
    let version = version(&module)?;
    let [major, minor, _] = version.splitn(3, '.').collect::<Vec<_>>()[..] else {
        anyhow::bail!("Kubernetes' version {version} has not three parts");
    };
    let package = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    let unfinished = dir.join("kube.new");
    let mut command = Command::new("go");
    command.args(["build", "-buildvcs=false", "-trimpath", "-ldflags", &flags, "-o"]);
    command.arg(&unfinished).arg(".").current_dir(&source).env("CGO_ENABLED", "0");
    run(&mut command)?;
    fs::rename(&unfinished, &kube)?;
    Ok(kube)
}

/// Kubernetes' version, as `go.mod` requires it.
fn version(module: &str) -> Result<&str> {
    let mut lines = module.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix("k8s.io/kubernetes v"));
    version.map(str::trim).context("go.mod does not require k8s.io/kubernetes")
}

/// The agent and the writer, as an image holds them: static. The directory they are in.
fn static_binaries() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    // Where rustup does not manage the toolchain it has the target or not: cargo says so.
    Command::new("rustup")
        .args(["target", "add", &target])
        .current_dir(workspace::root())
        .output()
        .ok();
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--locked", "--target", &target]);
    command.args(["--package", "collector", "--package", "benches"]);
    for name in STATIC {
        command.args(["--bin", name]);
    }
    let status = command.status().context("Starting cargo")?;
    ensure!(status.success(), "Building for {target} failed; cargo says why above.");
    Ok(workspace::target_dir().join(target).join("release"))
}

/// Runs a command to its good end.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("Starting {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_names_its_version() {
        let path = workspace::root().join("xtask/kubernetes/go.mod");
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(version(&text).unwrap().split('.').count(), 3);
        assert!(version("module x\n").is_err());
    }
}
