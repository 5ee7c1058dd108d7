//! Place: whether a directory that is held open still is what its path leads to.
//!
//! An open descriptor outlives the name. Who goes on writing through it after the directory was removed
//! writes what nobody will ever find.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A directory, held open.
#[derive(Debug)]
pub struct OwnDirectory {
    path: PathBuf,
    file: File,
    /// The directory above it.
    parent: Option<Inode>,
}

/// Whether a directory still is where it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The name still leads to it.
    Kept,
    /// It was removed or renamed. It can be made again.
    Removed,
    /// Another directory is in its place, which can be used.
    Replaced,
    /// The directory above it is another one, or cannot be seen: perhaps a filesystem was mounted or
    /// unmounted, and the directory comes back with it. Nothing must be made in its stead.
    Hidden,
}

/// Device and inode number.
type Inode = (u64, u64);

impl OwnDirectory {
    /// Opens the directory `path`, which must exist.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { path: path.to_owned(), file, parent: parent(path) })
    }

    /// The directory itself, to be locked or made durable.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Looks where the path leads now.
    pub fn look(&self) -> Place {
        let held = self.file.metadata().map(|found| inode(&found)).ok();
        match inode_at(&self.path) {
            Some(found) if Some(found) == held => Place::Kept,
            _ if self.parent.is_none() || self.parent != parent(&self.path) => Place::Hidden,
            Some(_) => Place::Replaced,
            None => Place::Removed,
        }
    }
}

/// Whether `path` leads to the open `file`.
pub(super) fn leads_to(path: &Path, file: &File) -> bool {
    file.metadata().is_ok_and(|held| inode_at(path) == Some(inode(&held)))
}

fn parent(path: &Path) -> Option<Inode> {
    inode_at(path.parent()?)
}

fn inode_at(path: &Path) -> Option<Inode> {
    fs::metadata(path).map(|found| inode(&found)).ok()
}

fn inode(found: &fs::Metadata) -> Inode {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_removed_replaced_or_hidden_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (above, path) = (dir.path().join("above"), dir.path().join("above/own"));
        fs::create_dir_all(&path).unwrap();
        let own = OwnDirectory::open(&path).unwrap();
        assert_eq!(own.look(), Place::Kept);
        fs::rename(&path, above.join("other")).unwrap();
        assert_eq!(own.look(), Place::Removed);
        fs::create_dir(&path).unwrap();
        assert_eq!(own.look(), Place::Replaced);
        fs::rename(&above, dir.path().join("elsewhere")).unwrap();
        assert_eq!(own.look(), Place::Hidden);
        fs::create_dir_all(&path).unwrap();
        assert_eq!(own.look(), Place::Hidden, "somebody made the directory above anew");
    }
}
