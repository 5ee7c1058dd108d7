//! The journal as a file: opened and recovered, appended to durably, rewritten when it has grown.
//! Commits what it is told; when to commit, and what, is the supervisor's business.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    Change, State, StoreError,
    error::failed,
    journal,
    keep::Names,
    recovered::{Damage, Recovered, describe},
    reserve::Reserve,
    salvage,
    snapshot::{write_records, write_snapshot},
};
use crate::ownership;

/// A journal below this is never rewritten for its size.
const COMPACT_MIN: u64 = 1 << 20;
/// A journal this many times what the bare state needs is rewritten.
const COMPACT_FACTOR: u64 = 4;
/// What is kept for the next commit's record. The first one, of all files, is far larger than those
/// that follow.
const BUFFER_KEPT: usize = 64 << 10;

/// The checkpoint, open for writing. The [`super::StateLock`] must be held.
#[derive(Debug)]
pub struct Store {
    pub(super) dir: PathBuf,
    pub(super) file: File,
    pub(super) names: Names,
    /// Bytes of `file` that are whole and durable.
    len: u64,
    /// Rewritten when longer than this.
    compact_beyond: u64,
    /// There may be bytes after `len`, of a commit that failed.
    tail: bool,
    /// The name `checkpoint` may not durably be that of `file`.
    unnamed: bool,
    reserve: Reserve,
    state: State,
    buffer: Vec<u8>,
}

impl Store {
    /// Opens the checkpoint of a state directory, creating both where missing. Damage is reported,
    /// never an error; an error means that nothing could be committed either.
    pub fn open(dir: &Path) -> Result<(Self, Recovered), StoreError> {
        ownership::make_directory(dir, ownership::PRIVATE_DIRECTORY)
            .map_err(failed("use the directory", dir))?;
        let path = dir.join("checkpoint");
        // What a crash in the middle of a rewrite leaves. Never read: `checkpoint` has it all.
        if let Err(error) = fs::remove_file(dir.join("checkpoint.new"))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "Cannot remove checkpoint.new.");
        }
        let file = match ownership::open_private(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let store = Self::create(dir, State::default())?;
                return Ok((store, Recovered { fresh: true, ..Recovered::default() }));
            }
            Err(error) => return Err(failed("open the checkpoint", &path)(error)),
        };
        // Asked first: whatever is written from here on changes it.
        let written = file.metadata().and_then(|about| about.modified()).ok();
        let (recovery, unreadable) = read(&file).map_err(failed("read the checkpoint", &path))?;
        let (store, recovered) = if recovery.is_damaged() {
            Self::open_damaged(dir, file, recovery, unreadable)?
        } else {
            let store = Self::open_sound(dir, file, recovery)?;
            let recovered = store.recovered(Vec::new());
            (store, recovered)
        };
        Ok((store, Recovered { written, ..recovered }))
    }

    /// Looks without changing anything, while another process may be writing.
    pub fn read(dir: &Path) -> Result<Recovered, StoreError> {
        let path = dir.join("checkpoint");
        let mut last = None;
        // A writer whose commit failed cuts it off and writes over it; read halfway, that looks
        // like damage. True damage looks the same twice.
        for _ in 0..3 {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Recovered { fresh: true, ..Recovered::default() });
                }
                Err(error) => return Err(failed("open the checkpoint", &path)(error)),
            };
            let (recovery, unreadable) =
                read(&file).map_err(failed("read the checkpoint", &path))?;
            let what = recovery.is_damaged().then(|| describe(&recovery, unreadable));
            let again = what.is_some() && last.as_ref() != Some(&what);
            last = Some(what.clone());
            if !again {
                let damage = what.map(|what| Damage { what, set_aside: None });
                return Ok(Recovered::of(&recovery.state, damage.into_iter().collect()));
            }
        }
        Err(failed("read the checkpoint", &path)(io::Error::other("it changes while it is read")))
    }

    /// Makes changes durable, all or none. On an error nothing has changed, here or on disk; they can
    /// be made, or later ones, and committed again.
    pub fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.keep_place()?;
        self.mend().map_err(failed("mend the checkpoint", &self.path()))?;
        let owed = self.state.positions_owed(&changes);
        let mut buffer = std::mem::take(&mut self.buffer);
        journal::encode_record(&changes, &owed, &mut buffer);
        let written = self.append(&buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
        written.map_err(failed("write the checkpoint", &self.path()))?;
        for change in changes {
            self.state.apply(change);
        }
        if self.len > self.compact_beyond
            && let Err(error) = self.compact()
        {
            // The journal is as good as ever, only long. Try again when it is longer still.
            self.compact_beyond = self.len.saturating_add(self.len / 2);
            tracing::warn!(%error, "Cannot rewrite the checkpoint; it goes on growing.");
        }
        self.reserve.keep(&self.file, self.len);
        Ok(())
    }

    /// What has been committed.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn create(dir: &Path, state: State) -> Result<Self, StoreError> {
        let (file, len) = write_snapshot(dir, &state)?;
        let mut store = Self {
            dir: dir.to_owned(),
            file,
            names: Names::of(dir).map_err(failed("open", dir))?,
            len,
            compact_beyond: compact_beyond(len),
            tail: false,
            unnamed: true,
            reserve: Reserve::default(),
            state,
            buffer: Vec::new(),
        };
        store.mend().map_err(failed("make durable", dir))?;
        store.reserve.keep(&store.file, store.len);
        Ok(store)
    }

    fn open_sound(dir: &Path, file: File, recovery: journal::Recovery) -> Result<Self, StoreError> {
        let journal::Recovery { state, whole_len, torn_len, records, .. } = recovery;
        let bare = write_records(&state, &mut io::sink())
            .map_err(failed("measure the checkpoint", dir))?;
        tracing::debug!(records, bytes = whole_len, torn_len, "Checkpoint read.");
        let mut store = Self {
            dir: dir.to_owned(),
            file,
            names: Names::of(dir).map_err(failed("open", dir))?,
            len: whole_len as u64,
            compact_beyond: compact_beyond(bare),
            tail: torn_len > 0,
            // The agent before may have ended between rename and fsync of the directory.
            unnamed: true,
            reserve: Reserve::default(),
            state,
            buffer: Vec::new(),
        };
        store.mend().map_err(failed("mend the checkpoint", &store.path()))?;
        store.reserve.keep(&store.file, store.len);
        Ok(store)
    }

    fn open_damaged(
        dir: &Path,
        file: File,
        recovery: journal::Recovery,
        unreadable: usize,
    ) -> Result<(Self, Recovered), StoreError> {
        let mut what = describe(&recovery, unreadable);
        let set_aside = match salvage::set_aside(dir, &dir.join("checkpoint")) {
            Ok(path) => Some(path),
            Err(error) => {
                what.push_str(&format!(" No copy could be kept: {error}."));
                None
            }
        };
        let foreign = recovery.foreign_version.is_some();
        let store = match Self::create(dir, recovery.state.clone()) {
            Ok(store) => store,
            // Not even space for a new file. The records in the old one are good for what they
            // are, and more can follow, unless they are in a format that is not ours.
            Err(error) if !foreign => {
                tracing::warn!(%error, "Cannot rewrite the damaged checkpoint; using it as it is.");
                Self::open_sound(dir, file, recovery)?
            }
            Err(error) => return Err(error),
        };
        let recovered = store.recovered(vec![Damage { what, set_aside }]);
        Ok((store, recovered))
    }

    /// Undoes what failed before: cuts off a torn tail, makes the name durable.
    fn mend(&mut self) -> io::Result<()> {
        if self.tail {
            self.file.set_len(self.len)?;
            self.tail = false;
            self.reserve.is_gone();
        }
        if self.unnamed {
            File::open(&self.dir)?.sync_all()?;
            self.unnamed = false;
        }
        Ok(())
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.tail = true;
        let written = self.file.write_all_at(record, self.len).and_then(|()| {
            fail::fail_point!("checkpoint.appended");
            self.file.sync_data()
        });
        if let Err(error) = written {
            if let Err(error) = self.mend() {
                tracing::debug!(%error, "Cannot cut off a torn record now; tried again later.");
            }
            return Err(error);
        }
        fail::fail_point!("checkpoint.synced");
        self.tail = false;
        self.len += record.len() as u64;
        Ok(())
    }

    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let (file, len) = write_snapshot(&self.dir, &self.state)?;
        // From here on `file` is the checkpoint, even if the directory cannot be synced now:
        // `mend` does that before the next commit. Until then a crash finds either file, and both
        // hold everything committed.
        self.file = file;
        self.len = len;
        self.compact_beyond = compact_beyond(len);
        self.reserve.is_gone();
        self.unnamed = true;
        self.mend().map_err(failed("make durable", &self.dir))
    }

    fn recovered(&self, damage: Vec<Damage>) -> Recovered {
        Recovered::of(&self.state, damage)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }
}

fn read(file: &File) -> io::Result<(journal::Recovery, usize)> {
    let (bytes, unreadable) = salvage::read_all(file)?;
    Ok((journal::recover(&bytes), unreadable))
}

fn compact_beyond(bare: u64) -> u64 {
    bare.saturating_mul(COMPACT_FACTOR).max(COMPACT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_large_record_is_given_back() {
        let temp = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(temp.path()).unwrap();
        let total = |length| Change::Total { name: "n".repeat(length), value: 1 };
        store.commit(vec![total(20 * BUFFER_KEPT)]).unwrap();
        assert!(store.buffer.capacity() <= BUFFER_KEPT);
        store.commit(vec![total(1000)]).unwrap();
        assert!(store.buffer.capacity() >= 1000);
    }
}
