//! Debian's cloud kernels: downloaded as packages, unpacked under `target/vm`, never installed. What
//! is there already is used as it is; remove its directory to have the newest.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// A kernel that the tests run in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// What it is called on the command line: the release begins so.
    pub name: &'static str,
    /// The package that depends on the newest of its series, in Debian 12.
    newest: &'static str,
}

pub(super) const KERNELS: [Kernel; 2] = [
    Kernel { name: "6.1", newest: "linux-image-cloud-amd64" },
    Kernel { name: "6.12", newest: "linux-image-6.12-cloud-amd64" },
];

/// The kernel of this name.
pub(super) fn named(name: &str) -> Result<&'static Kernel> {
    let names = KERNELS.each_ref().map(|kernel| kernel.name).join(", ");
    let found = KERNELS.iter().find(|kernel| kernel.name == name);
    found.with_context(|| format!("there is no kernel {name} here; there are {names}"))
}

/// A kernel's files.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub release: String,
    pub image: PathBuf,
    /// `lib/modules/RELEASE`, with the indexes that depmod makes.
    pub modules: PathBuf,
}

impl Kernel {
    /// Its files under `dir`, fetched if they are not there.
    pub(super) fn unpacked(&self, dir: &Path) -> Result<Unpacked> {
        let root = dir.join("kernel");
        if !root.exists() {
            self.fetch(dir, &root)
                .with_context(|| format!("Fetching Linux {} into {}", self.name, dir.display()))?;
        }
        Unpacked::in_dir(&root).with_context(|| {
            format!("There is no whole kernel in {0}: remove {0} and try again", root.display())
        })
    }

    /// Puts them at `root`, in one step.
    fn fetch(&self, dir: &Path, root: &Path) -> Result<()> {
        let part = dir.join("kernel.part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fs::create_dir_all(&part)?;
        let archive = match self.download(&part) {
            // Package lists that were never fetched, thrown away, or speak of what is gone.
            Err(_) if rustix::process::getuid().is_root() => {
                run(Command::new("apt-get").args(["update", "-q"]))
                    .and_then(|_| self.download(&part))
            }
            other => other,
        };
        let archive = archive.context("Is this Debian 12, and has apt-get update been run?")?;
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&part))?;
        fs::remove_file(archive)?;
        // The index of modules is made where a kernel is installed; the package has none.
        let release = release(&part)?;
        run(Command::new("depmod").arg("-b").arg(&part).arg(&release))?;
        fs::rename(&part, root)?;
        Ok(())
    }

    /// Downloads the package that the newest one stands for; its path.
    fn download(&self, dir: &Path) -> Result<PathBuf> {
        let text = run(Command::new("apt-cache").args(["depends", self.newest]))?;
        let package = concrete(&text, self.name).with_context(|| {
            format!("{} is no Linux {} here: this takes Debian 12", self.newest, self.name)
        })?;
        println!("    downloading {package}");
        run(Command::new("apt-get").args(["download", "-q", &package]).current_dir(dir))?;
        let downloaded = fs::read_dir(dir)?.next().context("apt-get has downloaded nothing")??;
        Ok(downloaded.path())
    }
}

impl Unpacked {
    fn in_dir(root: &Path) -> Result<Self> {
        let release = release(root)?;
        let image = root.join(format!("boot/vmlinuz-{release}"));
        let modules = root.join("lib/modules").join(&release);
        ensure!(image.is_file(), "{} is not there", image.display());
        let index = modules.join("modules.dep");
        ensure!(index.is_file(), "{} is not there", index.display());
        Ok(Self { release, image, modules })
    }
}

/// The release of the kernel that is unpacked there.
fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let listed = fs::read_dir(&modules).with_context(|| format!("Listing {}", modules.display()));
    let entry = listed?.next().with_context(|| format!("{} is empty", modules.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// The first dependency that is a kernel of this series, in what `apt-cache depends` says.
fn concrete(text: &str, series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends.find(|package| package.starts_with(&prefix)).map(str::to_owned)
}

/// Runs a command to its end: what it printed, or an error with what it complained of.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("Starting {command:?}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_concrete_package_is_of_the_series() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-base\n  Depends: \
                    linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(concrete(text, "6.1").unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(concrete(text, "6.12"), None);
        // In a later Debian the same name stands for another series.
        assert_eq!(concrete("  Depends: linux-image-6.12.57+deb13-cloud-amd64\n", "6.1"), None);
    }

    #[test]
    fn kernels_are_known_by_name() {
        assert_eq!(named("6.12").unwrap().name, "6.12");
        let error = named("5.10").unwrap_err().to_string();
        assert_eq!(error, "there is no kernel 5.10 here; there are 6.1, 6.12");
    }
}
