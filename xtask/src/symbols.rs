//! A program's symbols, in a file of their own beside it: what is shipped is small, and a debugger still
//! finds them by the link that is left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Where the symbols of `program` are: `everyline.debug` of `everyline`.
pub(crate) fn beside(program: &Path) -> PathBuf {
    program.with_extension("debug")
}

/// Moves the symbols out of `program`. Cargo puts the program with its symbols back at every build, so this
/// has to follow each.
pub(crate) fn take_out(program: &Path) -> Result<()> {
    let symbols = beside(program);
    // Never in place: the file is a hard link to the one that cargo keeps.
    let stripped = program.with_extension("stripped");
    objcopy(&["--only-keep-debug"], program, &symbols)?;
    let link = format!("--add-gnu-debuglink={}", symbols.display());
    objcopy(&["--strip-all", &link], program, &stripped)?;
    fs::rename(&stripped, program).with_context(|| format!("Renaming {}", stripped.display()))
}

fn objcopy(arguments: &[&str], from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("objcopy");
    let status = command.args(arguments).arg(from).arg(to).status();
    let status = status.context("Starting objcopy (it comes with the linker: binutils)")?;
    ensure!(status.success(), "objcopy could not write {} ({status}).", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_its_symbols_is_smaller_runs_and_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        let own = std::env::current_exe().unwrap();
        fs::copy(&own, &program).unwrap();
        take_out(&program).unwrap();
        let size = |path: &Path| path.metadata().unwrap().len();
        assert!(size(&program) * 2 < size(&own), "{} of {}", size(&program), size(&own));
        assert!(size(&beside(&program)) > size(&program));
        let listed = Command::new(&program).args(["--list", "symbols"]).output().unwrap();
        assert!(listed.status.success());
        assert!(memchr_name(&fs::read(&program).unwrap(), b"program.debug"));
        // Once more, as after a second build that found nothing to do.
        fs::copy(&own, &program).unwrap();
        take_out(&program).unwrap();
        assert!(size(&beside(&program)) > size(&program));
    }

    #[test]
    fn what_is_no_program_is_said_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "no program").unwrap();
        let error = take_out(&text).unwrap_err().to_string();
        assert!(error.contains("objcopy"), "{error}");
        assert_eq!(fs::read_to_string(&text).unwrap(), "no program");
        assert!(take_out(&dir.path().join("absent")).is_err());
    }

    fn memchr_name(bytes: &[u8], name: &[u8]) -> bool {
        bytes.windows(name.len()).any(|window| window == name)
    }
}
