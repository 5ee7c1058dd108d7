//! Programs that tasks call and the Debian packages that hold them: installed where that is possible,
//! else named in one line. Knows no other distribution and removes nothing.

use std::process::Command;

use anyhow::{Result, ensure};

/// A program, and the packages that bring it.
pub(crate) type Needed = (&'static str, &'static str);

/// An error that says what to install, if something is missing.
pub(crate) fn require(needed: &[Needed]) -> Result<()> {
    let missing = missing(needed);
    ensure!(missing.is_empty(), "Install first: apt-get install {}", missing.join(" "));
    Ok(())
}

/// Installs what is missing: on Debian, as root. An error that says what to install elsewhere.
pub(crate) fn install(needed: &[Needed]) -> Result<()> {
    if !rustix::process::getuid().is_root() {
        return require(needed);
    }
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    install_all(&missing.join(" "))
}

/// Installs packages, named in one text, whether there or not: on Debian, as root.
pub(crate) fn install_all(packages: &str) -> Result<()> {
    let root = rustix::process::getuid().is_root();
    if root {
        println!("    installing {packages}");
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.output().is_ok_and(|output| output.status.success())
    };
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    let install: Vec<_> = install.into_iter().chain(packages.split_whitespace()).collect();
    // Package lists that were never fetched, or speak of what is gone.
    let done = root && (apt(&install) || apt(&["update", "-q"]) && apt(&install));
    ensure!(done, "Install first: apt-get update && apt-get install {packages}");
    Ok(())
}

/// Whether `program` is in the search path.
fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v -- \"$1\"", "sh", program]).output();
    found.is_ok_and(|output| output.status.success())
}

fn missing(needed: &[Needed]) -> Vec<&'static str> {
    let missing = needed.iter().filter(|(program, _)| !installed(program));
    missing.flat_map(|(_, packages)| packages.split_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert!(require(&[("sh", "dash")]).is_ok());
        let error = require(&[("sh", "dash"), ("no-such-program-anywhere", "one two")]);
        assert_eq!(error.unwrap_err().to_string(), "Install first: apt-get install one two");
    }
}
