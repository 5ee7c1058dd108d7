//! Usable: whether a directory can be written to, or made. Tries, and leaves everything as it was.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use rustix::fs::{Access, access};

/// How a directory can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// It is there and can be written to.
    Written,
    /// It is not there yet and can be made.
    Made,
}

/// What exists of the way to a path.
pub fn nearest(path: &Path) -> Option<&Path> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    path.ancestors().find(|path| path.exists())
}

/// Whether the directory can be used.
///
/// # Errors
/// It cannot, and why.
pub fn usable(dir: &Path) -> io::Result<Usable> {
    match fs::metadata(dir) {
        Ok(about) if !about.is_dir() => Err(rustix::io::Errno::NOTDIR.into()),
        Ok(_) => try_to_write(dir).map(|()| Usable::Written),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = nearest(dir).unwrap_or(dir);
            if !parent.is_dir() {
                return Err(rustix::io::Errno::NOTDIR.into());
            }
            let allowed = access(parent, Access::WRITE_OK | Access::EXEC_OK);
            allowed.map(|()| Usable::Made).map_err(Into::into)
        }
        Err(error) => Err(error),
    }
}

/// Makes a file, has it on the disk, and removes it.
fn try_to_write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".everyline.{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let written = file.write_all(b"x").and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}
