//! Which files this sink has made: a small file in the state directory, so that after a crash a file
//! begun after the last checkpoint is known to be ours and may be removed. Never the files' content.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::family::Identity;
use crate::ownership;

/// More are not remembered: the oldest are then no longer removed by `keep`.
const MOST: usize = 10_000;

/// A file this sink has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owned {
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// Counts the files begun.
    pub(super) serial: u64,
}

/// All of them, oldest first, on disk as JSON.
#[derive(Debug)]
pub(super) struct Ownership {
    path: PathBuf,
    owned: Vec<Owned>,
}

impl Ownership {
    /// Reads what is remembered. A file that is missing or damaged means nothing is, which is safe:
    /// unknown files are left alone.
    pub(super) fn load(state_dir: &Path, sink: &str) -> Self {
        let path = state_dir.join(format!("file-sink-{}.json", file_name(sink)));
        let owned = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(
                    sink, path = %path.display(), %error,
                    "The list of own output files is damaged; earlier output is left as it is."
                );
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(
                    sink, path = %path.display(), %error,
                    "Cannot read the list of own output files; earlier output is left as it is."
                );
                Vec::new()
            }
        };
        Self { path, owned }
    }

    /// Oldest first.
    pub(super) fn all(&self) -> &[Owned] {
        &self.owned
    }

    pub(super) fn serial(&self, identity: Identity) -> Option<u64> {
        self.owned.iter().rev().find(|owned| owned.identity == identity).map(|owned| owned.serial)
    }

    /// Remembers a file, durably, before anything is written to it.
    pub(super) fn add(&mut self, owned: Owned) -> io::Result<()> {
        let mut all = self.owned.clone();
        all.retain(|other| other.identity != owned.identity);
        all.push(owned);
        let surplus = all.len().saturating_sub(MOST);
        all.drain(..surplus);
        self.store(all)
    }

    /// Forgets files that are gone. Need not be durable.
    pub(super) fn forget(&mut self, gone: &[Identity]) {
        self.owned.retain(|owned| !gone.contains(&owned.identity));
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn store(&mut self, all: Vec<Owned>) -> io::Result<()> {
        let text = serde_json::to_vec(&all)?;
        ownership::replace(&self.path, &text)?;
        sync_directory(&self.path)?;
        self.owned = all;
        Ok(())
    }
}

/// Makes names in the directory of `path` durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// A sink's name as part of a file's: other characters than letters, digits and `-` in hex.
fn file_name(sink: &str) -> String {
    let mut name = String::new();
    for byte in sink.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_after_a_restart_and_damage_forgets_it() {
        let dir = tempfile::tempdir().unwrap();
        let identity = |inode| Identity { inode, born_ns: 1 };
        let mut ownership = Ownership::load(dir.path(), "a/../b");
        ownership.add(Owned { identity: identity(1), serial: 1 }).unwrap();
        ownership.add(Owned { identity: identity(2), serial: 2 }).unwrap();
        let again = Ownership::load(dir.path(), "a/../b");
        assert_eq!(again.serial(identity(2)), Some(2));
        assert_eq!(again.serial(Identity { inode: 2, born_ns: 9 }), None);
        assert_eq!(again.all().len(), 2);
        fs::write(again.path(), b"[{\"inode\":1,").unwrap();
        assert!(Ownership::load(dir.path(), "a/../b").all().is_empty());
    }
}
