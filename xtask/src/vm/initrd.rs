//! What a guest boots into: busybox, modules, tools, the tests with the libraries they need, and an
//! empty disk. Made anew each time; it holds nothing of the machine that the tests do not use.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{
    guest,
    kernels::{Unpacked, run},
    modules,
    suites::{self, Built},
};

/// Beside what is built into the kernels: the disk, and the filesystems that logs live on.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "loop", "overlay", "xfs", "btrfs"];

/// Of this machine, as the tests call them; busybox stands in for the rest.
const TOOLS: [&str; 7] =
    ["losetup", "mkfs.btrfs", "mkfs.ext4", "mkfs.xfs", "mount", "setpriv", "umount"];

const DIRECTORIES: [&str; 12] =
    ["bin", "dev", "etc", "modules", "proc", "root", "run", "scratch", "sys", "tmp", "usr", "var"];

/// Files that name what programs ask for.
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// Room for what the tests write; the file takes what is written only.
const DISK_BYTES: u64 = 4 << 30;

/// Makes it in `dir`; its path.
pub(super) fn make(
    dir: &Path,
    kernel: &Unpacked,
    built: &Built,
    filters: &[String],
) -> Result<PathBuf> {
    let stage = Stage::new(dir.join("initrd"))?;
    for directory in DIRECTORIES {
        fs::create_dir_all(stage.0.join(directory))?;
    }
    for (name, text) in FILES {
        fs::write(stage.0.join(name), text)?;
    }
    // The tools ask it what is mounted.
    symlink("/proc/self/mounts", stage.0.join("etc/mtab"))?;
    fs::create_dir_all(stage.inside(&suites::package_dir()))?;
    stage.add_modules(kernel)?;

    let mut executables = vec![built.agent.clone()];
    executables.extend(built.suites.iter().map(|built| built.executable.clone()));
    let mut libraries = BTreeSet::new();
    for executable in &executables {
        libraries.extend(needed_libraries(executable)?);
        stage.add_stripped(executable)?;
    }
    for tool in TOOLS {
        let path = in_search_path(tool)?;
        libraries.extend(needed_libraries(&path)?);
        stage.copy(&path, &stage.0.join("bin").join(tool))?;
    }
    for library in libraries {
        stage.copy(&library, &stage.inside(&library))?;
    }
    stage.copy(&in_search_path("busybox")?, &stage.0.join("bin/busybox"))?;
    let init = stage.0.join("init");
    fs::write(&init, guest::init(&built.suites, filters))?;
    fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    stage.pack(dir.join("initrd.cpio"))
}

/// An empty ext4 file system in `dir`; its path.
pub(super) fn scratch_disk(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("scratch.img");
    let file = File::create(&path).with_context(|| format!("Creating {}", path.display()))?;
    file.set_len(DISK_BYTES)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&path))?;
    Ok(path)
}

/// The tree that becomes the initrd.
struct Stage(PathBuf);

impl Stage {
    fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        Ok(Self(root))
    }

    /// Where the guest finds `path`.
    fn inside(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        let copied = fs::copy(from, to);
        copied.with_context(|| format!("Copying {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    /// At the same path, without the debug information, which is most of it.
    fn add_stripped(&self, executable: &Path) -> Result<()> {
        let to = self.inside(executable);
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(executable))?;
        Ok(())
    }

    /// Uncompressed, numbered as they are to be inserted; `order` lists them.
    fn add_modules(&self, kernel: &Unpacked) -> Result<()> {
        let mut order = String::new();
        for (number, path) in modules::in_order(&kernel.modules, &MODULES)?.iter().enumerate() {
            let from = kernel.modules.join(path);
            let file = path.rsplit('/').next().unwrap_or(path);
            let name = format!("{number:02}-{}", file.trim_end_matches(".xz"));
            let to = self.0.join("modules").join(&name);
            if file.ends_with(".xz") {
                let mut command = Command::new("xz");
                command.arg("-dc").arg(&from).stdout(File::create(&to)?);
                let status = command.status().context("Starting xz")?;
                ensure!(status.success(), "Unpacking {} failed ({status})", from.display());
            } else {
                self.copy(&from, &to)?;
            }
            order.push_str(&name);
            order.push('\n');
        }
        fs::write(self.0.join("modules/order"), order)?;
        Ok(())
    }

    /// Uncompressed: QEMU hands it over in one piece, and unpacking would be emulated.
    fn pack(&self, to: PathBuf) -> Result<PathBuf> {
        let mut find =
            Command::new("find").arg(".").current_dir(&self.0).stdout(Stdio::piped()).spawn()?;
        let names = find.stdout.take().context("find has no output")?;
        let mut cpio = Command::new("cpio");
        cpio.args(["-o", "-H", "newc", "--quiet", "-R", "0:0"]).current_dir(&self.0);
        let status = cpio.stdin(names).stdout(File::create(&to)?).status()?;
        let found = find.wait()?;
        ensure!(status.success() && found.success(), "Packing {} failed", self.0.display());
        Ok(to)
    }
}

/// Libraries and loader that an executable is started with.
fn needed_libraries(executable: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = run(Command::new("ldd").arg(executable))?;
    let missing: Vec<_> = text.lines().filter(|line| line.contains("not found")).collect();
    ensure!(missing.is_empty(), "{} lacks {}", executable.display(), missing.join(", "));
    Ok(libraries(&text))
}

/// The absolute paths in what `ldd` says.
fn libraries(text: &str) -> BTreeSet<PathBuf> {
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

fn in_search_path(program: &str) -> Result<PathBuf> {
    let path = run(Command::new("sh").args(["-c", "command -v -- \"$1\"", "sh", program]))?;
    Ok(fs::canonicalize(path.trim())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 \
                    (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(text), expected.map(PathBuf::from).into());
    }
}
