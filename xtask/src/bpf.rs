//! The object with the eBPF programs, which the agent's build embeds.
//!
//! Made with a compiler that has Rust's core library for BPF: a rustup nightly with rust-src, which
//! builds it, or a distribution's, which brings it built (on Debian, installed here where that is
//! allowed). The agent itself is built by neither.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    packages,
    workspace::{cargo, root, target_dir},
};

const TARGET: &str = "bpfel-unknown-none";
const LINKER: &str = "0.13.0";
const NIGHTLY: &str = "nightly";

/// Debian's compiler and its core library for BPF.
const PACKAGES: &str = "rustc-web libstd-rust-web-dev-bpf";
const DISTRIBUTIONS: &str = "/usr/bin/rustc";

/// What can be told to somebody on whose machine there is no compiler for BPF.
const ADVICE: &str = "For the kernel watch, install a compiler that makes BPF: \
     `rustup toolchain install nightly --component rust-src`, or on Debian as root \
     `apt-get install rustc-web libstd-rust-web-dev-bpf llvm-22-dev`.";

/// A compiler that makes BPF.
#[derive(Debug)]
struct Compiler {
    rustc: PathBuf,
    /// Where its core library's source is, if that has to be built too.
    core_source: Option<PathBuf>,
    /// LLVM's major version, which the linker has to have too.
    llvm: u32,
}

/// Builds the object if anything it is made of has changed; where it is. An error says what to
/// install.
pub(crate) fn build() -> Result<PathBuf> {
    let compiler = compiler()?;
    let linker = linker(&compiler)?;
    let built = compile(&compiler, &linker)?;
    // The agent's build script looks there, wherever cargo builds.
    let object = root().join("target/bpf/everyline.bpf.o");
    let bytes = fs::read(&built).with_context(|| format!("Reading {}", built.display()))?;
    if fs::read(&object).is_ok_and(|before| before == bytes) {
        return Ok(object);
    }
    fs::create_dir_all(object.parent().context("the object has no directory")?)?;
    fs::write(&object, bytes).with_context(|| format!("Writing {}", object.display()))?;
    Ok(object)
}

/// The object, or why the agent is built without.
pub(crate) fn build_if_possible() {
    if let Err(error) = build() {
        println!("Built without the kernel watch; inotify and polling are left: {error:#}");
    }
}

fn compiler() -> Result<Compiler> {
    if let Some(found) = nightly().or_else(distributions) {
        return Ok(found);
    }
    packages::install_all(PACKAGES).context(ADVICE)?;
    distributions()
        .with_context(|| format!("{DISTRIBUTIONS} has no core library for {TARGET}. {ADVICE}"))
}

fn nightly() -> Option<Compiler> {
    let which = rustup(&["which", "--toolchain", NIGHTLY, "rustc"]).output().ok()?;
    let rustc = PathBuf::from(String::from_utf8(which.stdout).ok()?.trim());
    let (sysroot, llvm) = about(&rustc)?;
    let source = sysroot.join("lib/rustlib/src/rust/library");
    let core_source = source.join("core/Cargo.toml").exists().then_some(source)?;
    Some(Compiler { rustc, core_source: Some(core_source), llvm })
}

fn distributions() -> Option<Compiler> {
    let rustc = PathBuf::from(DISTRIBUTIONS);
    let (sysroot, llvm) = about(&rustc)?;
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    library.exists().then_some(Compiler { rustc, core_source: None, llvm })
}

/// `rustup`, which is only asked: left to itself it installs a toolchain that is named and not there, 1.6 GB
/// of it and without a word, because its output is read here.
fn rustup(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(arguments).env("RUSTUP_AUTO_INSTALL", "0");
    command
}

/// A compiler's sysroot and LLVM's major version.
fn about(rustc: &Path) -> Option<(PathBuf, u32)> {
    let ask = |arguments: &[&str]| {
        let output = Command::new(rustc).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    Some((PathBuf::from(sysroot.trim()), llvm_version(&ask(&["--version", "--verbose"])?)?))
}

fn llvm_version(about: &str) -> Option<u32> {
    let version = about.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// The linker, of this compiler's LLVM; built where it is not there.
fn linker(compiler: &Compiler) -> Result<PathBuf> {
    let tools = target_dir().join(format!("tools/bpf-linker-{LINKER}-llvm-{}", compiler.llvm));
    let linker = tools.join("bin/bpf-linker");
    if linker.exists() {
        return Ok(linker);
    }
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{}", compiler.llvm));
    if !prefix.join("include/llvm-c").exists() {
        packages::install_all(&format!("llvm-{}-dev", compiler.llvm)).context(ADVICE)?;
    }
    println!("    building bpf-linker {LINKER}, once");
    let mut command = cargo();
    command.args(["install", "--quiet", "--locked", "--no-default-features", "--root"]).arg(&tools);
    command.args(["bpf-linker", "--version", LINKER]);
    command.arg("--features").arg(format!("llvm-{}", compiler.llvm));
    command.env("LLVM_PREFIX", &prefix).env("CARGO_TARGET_DIR", target_dir().join("tools/build"));
    let status = command.status().context("Starting cargo")?;
    ensure!(status.success(), "Building bpf-linker failed; cargo says why above.");
    Ok(linker)
}

fn compile(compiler: &Compiler, linker: &Path) -> Result<PathBuf> {
    let directory = target_dir().join("bpf/build");
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--profile", "bpf", "--target", TARGET]);
    command.args([
        "--package",
        "collector-ebpf",
        "--bin",
        "everyline-bpf",
        "--features",
        "programs",
    ]);
    if compiler.core_source.is_some() {
        command.args(["-Z", "build-std=core"]);
    }
    command.arg("--target-dir").arg(&directory);
    command.env("RUSTC", &compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(linker)?);
    command.env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    let status = command.status().context("Starting cargo")?;
    if !status.success() {
        bail!("Building the eBPF programs failed; cargo says why above.");
    }
    Ok(directory.join(TARGET).join("bpf/everyline-bpf"))
}

/// Paths of this machine do not get into the object: it is the same wherever it is built.
fn flags(linker: &Path) -> Result<OsString> {
    let mut flags = OsString::new();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut add = |text: &str, path: Option<&Path>, rest: &str| {
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push(text);
        flags.push(path.map(Path::as_os_str).unwrap_or_default());
        flags.push(rest);
    };
    let arch = env::consts::ARCH;
    add(&format!("--cfg=bpf_target_arch=\"{arch}\""), None, "");
    add("-Clinker=", Some(linker), "");
    add("--remap-path-prefix=", Some(&root()), "=.");
    if let Some(cargo_home) = cargo_home {
        add("--remap-path-prefix=", Some(&cargo_home), "=cargo");
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_a_toolchain_installs_none() {
        let home = tempfile::tempdir().unwrap();
        let mut ask = rustup(&["which", "--toolchain", NIGHTLY, "rustc"]);
        let Ok(output) = ask.env("RUSTUP_HOME", home.path()).output() else {
            println!("skipped: rustup is not installed");
            return;
        };
        assert!(!output.status.success(), "{output:?}");
        let toolchains = home.path().join("toolchains");
        let installed = fs::read_dir(toolchains).map_or(0, Iterator::count);
        assert_eq!(installed, 0, "{output:?}");
    }

    #[test]
    fn the_compilers_llvm_is_read() {
        let about = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_version(about), Some(22));
        assert_eq!(llvm_version("rustc 1.96.0"), None);
    }
}
