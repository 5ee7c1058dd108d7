//! A small disk of its own for the agent's state and output, which can be full.
//!
//! An ext4 file system in a sparse file. Mounted in the mount namespace that `cargo xtask soak` makes for
//! this process, so that nothing is left mounted whatever ends it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    ballast: PathBuf,
}

impl Disk {
    /// Makes one of so many bytes under `dir` and mounts it.
    pub(crate) fn mount(dir: &Path, bytes: u64) -> Result<Self> {
        let image = dir.join("disk.img");
        File::create(&image)?.set_len(bytes)?;
        let path = dir.join("disk");
        fs::create_dir_all(&path)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { ballast: path.join("ballast"), path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all space that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let file = File::options().create(true).append(true).open(&self.ballast)?;
        let mut length = file.metadata()?.len();
        // What is left may be in pieces, and the agent takes of it meanwhile.
        let mut piece = 1 << 30;
        while piece >= 4096 {
            let mode = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, mode, length, piece) {
                Ok(()) => length += piece,
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(error).context("Filling the disk"),
            }
        }
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn free(&self) -> Result<()> {
        if self.ballast.exists() {
            fs::remove_file(&self.ballast).context("Freeing the disk")?;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// A bpffs of its own: what the agent pins there is nobody else's and goes with it.
#[derive(Debug)]
pub(crate) struct BpfFs(PathBuf);

impl BpfFs {
    /// Mounts one at `dir`.
    pub(crate) fn mount(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(dir))?;
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// What is still mounted cannot be removed.
fn unmount(path: &Path) {
    if let Err(error) = run(Command::new("umount").arg(path)) {
        eprintln!("{} stays mounted until this process ends: {error:#}.", path.display());
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("Starting {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", errors.trim());
    Ok(())
}
