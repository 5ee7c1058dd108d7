//! Keep: a state directory, a checkpoint or a lock that was removed under the running agent is made
//! again, from what is held in memory.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{LockError, OwnDirectory, Place, StateLock, Store, StoreError, place};
use crate::ownership;

/// How often the names are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the names led to when they were looked at last.
#[derive(Debug)]
pub(super) struct Names {
    directory: OwnDirectory,
    /// Device and inode number of the lock file; none where there was none.
    lock: Option<(u64, u64)>,
    /// The lock that was taken when the one taken at start was gone.
    retaken: Option<StateLock>,
    looked: Instant,
}

impl Names {
    /// The names in `dir` as they are now.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let directory = OwnDirectory::open(dir)?;
        Ok(Self { directory, lock: lock_in(dir), retaken: None, looked: Instant::now() })
    }
}

impl Store {
    /// Looks, every two seconds at most, whether the state directory, the checkpoint and the lock still
    /// are where they were, and makes again what is not.
    ///
    /// # Errors
    /// Something is gone and could not be made again. It is tried again at the next call.
    pub fn keep_place(&mut self) -> Result<(), StoreError> {
        if self.names.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.keep_place_now()
    }

    fn keep_place_now(&mut self) -> Result<(), StoreError> {
        let found = self.names.directory.look();
        let whole = found == Place::Kept
            && place::leads_to(&self.dir.join("checkpoint"), &self.file)
            && (self.names.lock.is_none() || lock_in(&self.dir) == self.names.lock);
        if whole {
            self.names.looked = Instant::now();
            return Ok(());
        }
        let dir = self.dir.clone();
        if found == Place::Hidden {
            let source = io::Error::new(
                io::ErrorKind::NotFound,
                "the directory above it is not the one it was in: is a filesystem no longer mounted?",
            );
            return Err(StoreError { action: "find the state directory", path: dir, source });
        }
        tracing::error!(dir = %dir.display(), "The state directory, or a file in it, was removed under the running agent. It is made again, with all offsets; nothing should remove it while an agent runs.");
        let failed = |source| StoreError { action: "make again", path: dir.clone(), source };
        ownership::make_directory(&dir, ownership::PRIVATE_DIRECTORY).map_err(failed)?;
        if self.names.lock.is_some() && lock_in(&dir) != self.names.lock {
            let taken = StateLock::acquire(&dir).map_err(|error| match error {
                LockError::Io { source, .. } => failed(source),
                held @ LockError::Held { .. } => failed(io::Error::other(held)),
            })?;
            self.names.retaken = Some(taken);
        }
        let names = Names::of(&dir).map_err(failed)?;
        self.compact()?;
        let retaken = self.names.retaken.take();
        self.names = Names { retaken, ..names };
        Ok(())
    }
}

fn lock_in(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir.join("lock")).map(|found| (found.dev(), found.ino())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Change;

    fn total(value: u64) -> Vec<Change> {
        vec![Change::Total { name: "n".to_owned(), value }]
    }

    fn stored(dir: &Path) -> u64 {
        Store::read(dir).unwrap().totals["n"]
    }

    #[test]
    fn what_is_removed_under_the_agent_is_made_again() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("state");
        let _lock = StateLock::acquire(&dir).unwrap();
        let (mut store, _) = Store::open(&dir).unwrap();
        let holder = || StateLock::holder(&dir).unwrap().map(|pid| pid == Some(std::process::id()));
        let removals: [fn(&Path); 5] = [
            |dir| fs::remove_dir_all(dir).unwrap(),
            |dir| fs::remove_file(dir.join("checkpoint")).unwrap(),
            |dir| fs::remove_file(dir.join("lock")).unwrap(),
            |dir| {
                fs::write(dir.join("checkpoint.copy"), "")
                    .and_then(|()| fs::rename(dir.join("checkpoint.copy"), dir.join("checkpoint")))
                    .unwrap()
            },
            |dir| {
                fs::rename(dir, dir.with_extension("old")).unwrap();
                fs::create_dir(dir).unwrap();
            },
        ];
        for (value, remove) in removals.into_iter().enumerate() {
            store.commit(total(value as u64 + 1)).unwrap();
            remove(&dir);
            store.keep_place_now().unwrap();
            assert_eq!(stored(&dir), value as u64 + 1, "removal {value}");
            assert_eq!(holder(), Some(true), "removal {value}");
            store.commit(total(value as u64 + 10)).unwrap();
            assert_eq!(stored(&dir), value as u64 + 10, "removal {value}");
        }
    }

    #[test]
    fn nothing_is_made_where_a_filesystem_is_missing() {
        let above = tempfile::tempdir().unwrap();
        let (mount, aside) = (above.path().join("mount"), above.path().join("aside"));
        let dir = mount.join("state");
        let (mut store, _) = Store::open(&dir).unwrap();
        store.commit(total(1)).unwrap();
        fs::rename(&mount, &aside).unwrap();
        fs::create_dir(&mount).unwrap();
        let error = store.keep_place_now().unwrap_err().to_string();
        assert!(error.contains("mounted"), "{error}");
        assert!(!dir.exists());
        fs::remove_dir(&mount).unwrap();
        fs::rename(&aside, &mount).unwrap();
        store.keep_place_now().unwrap();
        assert_eq!(stored(&dir), 1);
    }
}
