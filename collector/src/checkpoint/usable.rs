//! Usable: whether this process may write to a directory, or make it. Only asks: nothing is written, so that
//! nobody who watches the directory sees anything, and a full disk is not taken for a forbidden one.

use std::{fs, io, path::Path};

use rustix::{
    fs::{Access, access},
    io::Errno,
};

use crate::ownership::{self, Remark};

/// How a directory can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// It is there and may be written to.
    Written,
    /// It is not there yet and may be made.
    Made,
}

/// What exists of the way to a path.
pub fn nearest(path: &Path) -> Option<&Path> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    path.ancestors().find(|path| path.exists())
}

/// Whether the directory may be used as the agent's own, with these files in it.
///
/// # Errors
/// It may not, and why.
pub fn usable_as_own(dir: &Path, files: &[&str]) -> io::Result<(Usable, Option<Remark>)> {
    let how = usable(dir)?;
    let remark = ownership::look_at_directory(dir)?;
    for file in files {
        ownership::look_at_file(&dir.join(file))?;
    }
    Ok((how, remark))
}

/// Whether the directory may be used.
///
/// # Errors
/// It may not, and why.
pub fn usable(dir: &Path) -> io::Result<Usable> {
    let (there, how) = match fs::metadata(dir) {
        Ok(_) => (dir, Usable::Written),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (nearest(dir).unwrap_or(dir), Usable::Made)
        }
        Err(error) => return Err(error),
    };
    if !there.is_dir() {
        return Err(Errno::NOTDIR.into());
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_asked_about_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let changed = || fs::metadata(dir.path()).unwrap().modified().unwrap();
        let before = changed();
        assert_eq!(usable(dir.path()).unwrap(), Usable::Written);
        assert_eq!(usable(&dir.path().join("a/b")).unwrap(), Usable::Made);
        assert_eq!(changed(), before);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below"), file.join("below/it")] {
            assert_eq!(usable(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
    }
}
