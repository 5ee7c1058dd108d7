//! `cargo xtask vm`: the tests that depend on the kernel, inside Debian's kernels, in QEMU.
//!
//! For each kernel: its package is unpacked under `target/vm` (never installed), an initrd is made of
//! the test binaries of this build, and a guest without a network runs them over an ext4 file
//! system of its own. The processor is emulated, so it works where there is no virtualisation and
//! is slow. Tests that do not depend on the kernel are left to `cargo xtask test`.

mod guest;
mod initrd;
mod kernels;
mod modules;
mod qemu;
mod suites;

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    packages::{self, Needed},
    workspace,
};
use guest::Report;
use kernels::{KERNELS, Kernel};
use suites::Built;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel: 6.1 or 6.12
    #[arg(long, value_parser = kernels::named)]
    kernel: Option<&'static Kernel>,
    /// Run the tests whose names contain one of these instead of the usual ones
    filters: Vec<String>,
}

/// Programs that this calls, and the Debian package each is in.
const NEEDED: [Needed; 11] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("ldd", "libc-bin"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];

/// Runs the tests in each kernel; an error if any failed or a guest did not come to its end.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "The guests are x86-64: run this on such a machine.");
    packages::install(&NEEDED)?;
    let built = suites::build()?;
    let (mut lines, mut good) = (Vec::new(), true);
    for kernel in KERNELS.iter().filter(|kernel| args.kernel.is_none_or(|one| one == *kernel)) {
        let begun = Instant::now();
        let line = match run_in(kernel, &built, &args.filters) {
            Ok((release, report)) => {
                good &= report.good();
                let seconds = begun.elapsed().as_secs_f64();
                format!("{release}: {} in {seconds:.0} s.{}", report.summary, report.details())
            }
            Err(error) => {
                good = false;
                format!("{}: {error:#}", kernel.name)
            }
        };
        println!("{line}");
        lines.push(line);
    }
    if lines.len() > 1 {
        println!("\n{}", lines.join("\n"));
    }
    if !good {
        bail!("Not every kernel passed.");
    }
    Ok(())
}

/// Boots the kernel and runs the tests in it: its release, and what came of them.
fn run_in(kernel: &Kernel, built: &Built, filters: &[String]) -> Result<(String, Report)> {
    let dir = workspace::target_dir().join("vm").join(kernel.name);
    let unpacked = kernel.unpacked(&dir)?;
    println!("=== Linux {}", unpacked.release);
    let image = initrd::make(&dir, &unpacked, built, filters)
        .with_context(|| format!("Making an initrd in {}", dir.display()))?;
    let scratch = initrd::scratch_disk(&dir)?;
    let mut report = Report::expecting(&built.suites, filters.is_empty());
    let console = dir.join("console.log");
    let ended =
        qemu::Guest { kernel: &unpacked.image, initrd: &image, disk: &scratch, console: &console }
            .run(|line| report.take(line));
    // A file of some gigabytes, mostly holes, that nothing reads again.
    std::fs::remove_file(&scratch).with_context(|| format!("Removing {}", scratch.display()))?;
    if let Err(error) = ended {
        report.problem(format!("{error:#}"));
    }
    if !report.done() {
        report.problem(format!("the guest's console: {}", tail(&console)));
    }
    Ok((unpacked.release, report))
}

/// Where a console's log is, why the kernel panicked if it did, and the last lines.
fn tail(console: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(console).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let last = lines.len().saturating_sub(12);
    let panic = lines[..last].iter().filter(|line| line.contains("Kernel panic"));
    let shown: Vec<_> = panic.chain(&lines[last..]).copied().collect();
    format!("{}\n        {}", console.display(), shown.join("\n        "))
}
