//! The open output: append durably, rotate, and find back to what counts after any failure.
//!
//! One path of recovery serves the start, a torn write, a full disk and somebody else's rename:
//! drop the descriptor, look at the directory, truncate to what is known to count.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    error::{During as _, Failure},
    family::{self, Identity, Member, Place},
    owned::{Owned, Ownership, sync_directory},
    position::{Known, Position},
};
use crate::{
    batch::Batch,
    checkpoint::{Usable, usable},
    config::{self, Compression},
    ownership,
};

/// Logs may hold secrets: not for everybody.
const MODE: u32 = 0o640;

pub(super) struct Output {
    sink: String,
    path: PathBuf,
    compression: Compression,
    /// 0: never.
    rotate_size: u64,
    /// 0: all.
    keep: usize,
    ownership: Ownership,
    /// What is durable and counts.
    known: Known,
    current: Option<Current>,
}

/// The file being written.
struct Current {
    file: File,
    identity: Identity,
    serial: u64,
    /// Durable bytes.
    length: u64,
}

impl Output {
    /// Touches nothing yet.
    pub(super) fn new(
        sink: &str,
        config: &config::FileSink,
        state_dir: &Path,
        known: Known,
    ) -> Self {
        Self {
            sink: sink.to_owned(),
            path: config.written(),
            compression: config.compression,
            rotate_size: config.rotate_size.0,
            keep: usize::try_from(config.keep).unwrap_or(usize::MAX),
            ownership: Ownership::load(state_dir, sink),
            known,
            current: None,
        }
    }

    /// Whether a file could be written at this path; leaves everything as it is.
    pub(super) fn check(path: &Path) -> Result<(), Failure> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => return Err(not_a_file()).during("open", path),
            _ => {}
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        match usable(directory) {
            Ok(Usable::Written) => Ok(()),
            // The sink makes no directories.
            Ok(Usable::Made) => Err(io::Error::from(rustix::io::Errno::NOENT)).during("open", path),
            Err(error) => Err(error).during("open", path),
        }
    }

    /// Writes batches from the front until all are written or the file is due for rotation, and
    /// makes them durable. Gives the position behind each. After a failure none of them counts;
    /// calling again with the same batches mends it.
    pub(super) fn append(&mut self, batches: &VecDeque<Batch>) -> Result<Vec<Position>, Failure> {
        let mut current = self.writable()?;
        let mut positions = Vec::with_capacity(batches.len());
        let mut length = current.length;
        for batch in batches {
            if !positions.is_empty() && self.is_due(length) {
                break;
            }
            let written = current.file.write_all_at(&batch.payload, length);
            if let Err(error) = written {
                // Give torn bytes back to a full disk at once; if that fails too, the next attempt
                // truncates.
                let _retried = current.file.set_len(current.length);
                return Err(error).during("write to", &self.path);
            }
            length += batch.payload.len() as u64;
            positions.push(Position {
                path: self.path.clone(),
                identity: current.identity,
                serial: current.serial,
                length,
            });
        }
        // After a failed sync the kernel may have thrown the pages away: never trust the descriptor
        // again, write everything anew. Not putting `current` back does that.
        current.file.sync_data().during("make durable", &self.path)?;
        fail::fail_point!("deliver.file_synced");
        current.length = length;
        if let Some(last) = positions.last() {
            self.known = Known::At(last.clone());
        }
        self.current = Some(current);
        Ok(positions)
    }

    fn is_due(&self, length: u64) -> bool {
        self.rotate_size > 0 && length >= self.rotate_size
    }

    /// The file to write to, taken out of `self.current`: whoever fails leaves it empty.
    fn writable(&mut self) -> Result<Current, Failure> {
        let current = match self.current.take() {
            Some(current) if self.is_unchanged(&current) => current,
            _ => self.reopen()?,
        };
        if current.length > 0 && self.is_due(current.length) { self.rotate() } else { Ok(current) }
    }

    /// Whether `path` still names the file and nobody made it shorter.
    fn is_unchanged(&self, current: &Current) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| {
            Identity::of(&found) == current.identity && found.len() >= current.length
        })
    }

    fn rotate(&mut self) -> Result<Current, Failure> {
        let members = self.members(&self.path)?;
        self.put_away(&self.path, self.compression.ending(), &members)?;
        fail::fail_point!("deliver.file_renamed");
        let current = self.create()?;
        self.prune();
        Ok(current)
    }

    /// Brings the directory into the state that counts and opens the file to go on with.
    fn reopen(&mut self) -> Result<Current, Failure> {
        let known = self.known.clone();
        match &known {
            Known::Nothing => {}
            Known::Empty => {
                let members = self.members(&self.path)?;
                self.remove_newer(&members, 0)?;
            }
            Known::At(position) => {
                if let Some(current) = self.recover(position)? {
                    return Ok(current);
                }
                if position.path != self.path {
                    let members = self.members(&self.path)?;
                    self.remove_newer(&members, position.serial)?;
                }
            }
        }
        self.put_away_others()?;
        let members = self.members(&self.path)?;
        match members.iter().find(|member| member.place == Place::Live) {
            Some(member) if !member.is_file => Err(not_a_file()).during("write to", &self.path),
            Some(member) => {
                // Prepared by an operator with an owner and a mode to their liking.
                let foreign = match member.length {
                    0 => match self.adopt()? {
                        Ok(current) => return Ok(current),
                        Err(foreign) => Some(foreign.to_string()),
                    },
                    _ => None,
                };
                let ours = self.ownership.serial(member.identity).is_some();
                let ending = family::fitting_ending(&member.path);
                let name = self.put_away(&member.path, ending, &members)?;
                tracing::warn!(
                    sink = self.sink, path = %self.path.display(), moved_to = %name.display(), ours,
                    foreign,
                    "A file that the checkpoint does not know, or that somebody else may have put \
                     there, lay at the output's path; it was moved aside and a new one is begun."
                );
                self.create()
            }
            None => self.create(),
        }
    }

    /// Truncates what counts to its length and removes what this sink began later. Gives the file,
    /// opened, if it still is the one to write to.
    fn recover(&mut self, position: &Position) -> Result<Option<Current>, Failure> {
        let members = match family::members(&position.path) {
            // A path that is no longer configured need not be there any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound && position.path != self.path => {
                return Ok(None);
            }
            members => members.during("look into the directory of", &position.path)?,
        };
        self.remove_newer(&members, position.serial)?;
        let Some(member) = members.iter().find(|member| member.identity == position.identity)
        else {
            tracing::warn!(
                sink = self.sink, path = %position.path.display(),
                "The output file written last is gone (removed or moved by somebody else); a new \
                 one is begun."
            );
            return Ok(None);
        };
        let file = open(&member.path, OpenOptions::new().write(true))?;
        if member.length < position.length {
            tracing::error!(
                sink = self.sink, path = %member.path.display(),
                delivered_bytes = position.length, found_bytes = member.length,
                "The output file is shorter than what was delivered into it: somebody truncated \
                 it. What was cut off is not written again; delivery goes on at its end."
            );
        } else if member.length > position.length {
            file.set_len(position.length).during("truncate", &member.path)?;
            file.sync_data().during("make durable", &member.path)?;
            tracing::info!(
                sink = self.sink, path = %member.path.display(),
                bytes = member.length - position.length,
                "Cut off what was written but not acknowledged; it is written again."
            );
        }
        if member.place != Place::Live || position.path != self.path {
            return Ok(None);
        }
        let length = member.length.min(position.length);
        Ok(Some(Current { file, identity: position.identity, serial: position.serial, length }))
    }

    /// Removes files this sink began after `serial`: nothing in them was acknowledged.
    fn remove_newer(&mut self, members: &[Member], serial: u64) -> Result<(), Failure> {
        for member in members {
            if self.ownership.serial(member.identity).is_some_and(|begun| begun > serial) {
                fs::remove_file(&member.path).during("remove the unfinished", &member.path)?;
                tracing::info!(
                    sink = self.sink, path = %member.path.display(), bytes = member.length,
                    "Removed an output file that was begun but not acknowledged."
                );
            }
        }
        Ok(())
    }

    /// What was written before the compression changed, or by a version whose files had no ending, is no
    /// longer written to: it becomes a former file, with the ending that fits it.
    fn put_away_others(&mut self) -> Result<(), Failure> {
        let written = match &self.known {
            Known::At(position) => Some(position.identity),
            Known::Nothing | Known::Empty => None,
        };
        loop {
            let members = self.members(&self.path)?;
            let ours = |member: &&Member| {
                member.place == Place::Beside
                    && member.is_file
                    && (Some(member.identity) == written
                        || self.ownership.serial(member.identity).is_some())
            };
            let Some(member) = members.iter().find(ours) else { return Ok(()) };
            if member.length == 0 {
                fs::remove_file(&member.path).during("remove the empty", &member.path)?;
                continue;
            }
            let ending = family::fitting_ending(&member.path);
            let name = self.put_away(&member.path, ending, &members)?;
            tracing::info!(
                sink = self.sink, path = %member.path.display(), moved_to = %name.display(),
                "The output has another name now; what was written so far is a former file."
            );
        }
    }

    /// Renames a file to the next former one's name, with this ending, never over anything.
    fn put_away(&self, path: &Path, ending: &str, members: &[Member]) -> Result<PathBuf, Failure> {
        let name = family::next_name(&self.path, self.compression, ending, members);
        let here = rustix::fs::CWD;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(here, path, here, &name, flags) {
            // A filesystem without the flag (some network ones). The name was free a moment ago.
            Err(rustix::io::Errno::INVAL) => fs::rename(path, &name),
            renamed => renamed.map_err(io::Error::from),
        }
        .during("rotate", path)?;
        Ok(name)
    }

    fn create(&mut self) -> Result<Current, Failure> {
        let file = ownership::create(&self.path, MODE).during("open", &self.path)?;
        sync_directory(&self.path).during("make durable the directory of", &self.path)?;
        self.begin(file)
    }

    /// Takes the empty file at the output's path, unless somebody else may have put it there.
    fn adopt(&mut self) -> Result<Result<Current, ownership::Foreign>, Failure> {
        let file = open(&self.path, OpenOptions::new().write(true))?;
        let found = file.metadata().during("look at", &self.path)?;
        match ownership::may_adopt(&self.path, &found) {
            Ok(()) => self.begin(file).map(Ok),
            Err(foreign) => Ok(Err(foreign)),
        }
    }

    /// Remembers an empty file as ours before a byte is written to it.
    fn begin(&mut self, file: File) -> Result<Current, Failure> {
        let identity = Identity::of(&file.metadata().during("look at", &self.path)?);
        let committed = if let Known::At(position) = &self.known { position.serial } else { 0 };
        let begun = self.ownership.all().last().map_or(0, |owned| owned.serial);
        let serial = begun.max(committed) + 1;
        let added = self.ownership.add(Owned { identity, serial });
        added.during("write the list of own files", self.ownership.path())?;
        Ok(Current { file, identity, serial, length: 0 })
    }

    /// Removes the oldest rotated files beyond `keep`. A failure is said and tried again at the
    /// next rotation: it must not hold up delivery.
    fn prune(&mut self) {
        if self.keep == 0 {
            return;
        }
        let Ok(members) = family::members(&self.path) else { return };
        let mut rotated: Vec<(u64, &Member)> = members
            .iter()
            .filter(|member| matches!(member.place, Place::Former(_)))
            .filter_map(|member| Some((self.ownership.serial(member.identity)?, member)))
            .collect();
        rotated.sort_by_key(|(serial, _)| *serial);
        rotated.truncate(rotated.len().saturating_sub(self.keep));
        let mut gone = Vec::new();
        for (_, member) in rotated {
            match fs::remove_file(&member.path) {
                Ok(()) => gone.push(member.identity),
                Err(error) => tracing::warn!(
                    sink = self.sink, path = %member.path.display(), %error,
                    "Cannot remove an old output file; trying again at the next rotation."
                ),
            }
        }
        self.ownership.forget(&gone);
    }

    fn members(&self, path: &Path) -> Result<Vec<Member>, Failure> {
        family::members(path).during("look into the directory of", path)
    }
}

/// Opens without following a link, and only a regular file.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, Failure> {
    // NONBLOCK: opening a pipe must fail or return, not wait for a reader.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = options.custom_flags(flags).open(path).during("open", path)?;
    let metadata = file.metadata().during("look at", path)?;
    if metadata.is_file() { Ok(file) } else { Err(not_a_file()).during("open", path) }
}

/// A link, a directory, a pipe: cannot be truncated back, and moving it aside would do harm.
fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, "it is there and is no regular file")
}
