//! Files that are gone and whose end the kernel saw: how long they were, to the byte.
//!
//! Knows two kinds: files of ours, whose loss `missing` counts with the size learned here; and files
//! that were born, written and deleted without anybody having looked, whose loss is counted here.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use super::{Registry, recovery, strangers::Stranger};
use crate::{
    checkpoint::FileEntry,
    identity::{self, FileId, InodeKey, KernelInode},
    ledger::truncation,
    messages::{self, Kind},
    reason::{Reason, Unknown},
    settle::{Command, Went},
    watch::Departed,
};

/// How a file ended.
#[derive(Clone, Copy)]
pub(super) struct End {
    size: u64,
    truncated: u32,
    /// False while somebody holds it open.
    ended: bool,
}

impl End {
    fn of(gone: &Departed) -> Self {
        Self { size: gone.size, truncated: gone.truncated, ended: gone.ended }
    }

    /// Whether nobody holds it open any more.
    pub(super) fn ended(self) -> bool {
        self.ended
    }

    /// How long a life was, and those that followed, of which `seen` bytes were seen and at whose beginning
    /// truncations had taken away so much.
    pub(super) fn length(self, seen: u64, truncated: u32) -> u64 {
        match truncation::size_at_end(seen, truncated, self.truncated) {
            Some(former) => former + self.size,
            None => self.size,
        }
    }
}

/// What the kernel saw while no agent ran.
#[derive(Default)]
pub(super) struct WhileDown {
    /// Final sizes of files that somebody may be missing.
    sizes: HashMap<FileId, End>,
    /// What the checkpoint knows.
    known: HashSet<FileId>,
    /// Files that nobody had ever claimed, or that the checkpoint does not know.
    strangers: Vec<Departed>,
    /// What the agent before this one had counted, and the kernel may not have forgotten.
    counted: HashSet<KernelInode>,
    /// When the agent before this one wrote its checkpoint last.
    pub(super) since: Option<SystemTime>,
    /// Sources' live files as the checkpoint knows them, the latest of each.
    live: HashMap<Arc<Path>, InodeKey>,
    /// Something is gone whose end nobody saw, or may be.
    unknown: bool,
}

impl WhileDown {
    /// Since the checkpoint was written.
    pub(super) fn since(
        since: Option<SystemTime>,
        entries: &[FileEntry],
        counted: &[KernelInode],
    ) -> Self {
        let mut live: HashMap<_, InodeKey> = HashMap::new();
        let is_live =
            |entry: &&FileEntry| entry.source.file_name() == Some(OsStr::new(&*entry.name));
        for entry in entries.iter().filter(is_live) {
            let key = recovery::identity_of(entry).key;
            let known = live.entry(Arc::clone(&entry.source)).or_insert(key);
            if known.born_ns < key.born_ns {
                *known = key;
            }
        }
        let known = entries.iter().map(|entry| entry.id).collect();
        let counted = counted.iter().copied().collect();
        Self { since, known, live, counted, ..Self::default() }
    }

    /// Whether a source is rotated by renaming: another file than the one that was known is its live
    /// one now. Then every former file began as the live one. A copy that `copytruncate` made did not.
    fn was_renamed(&self, source: &Path) -> bool {
        let known = self.live.get(source);
        known.is_some_and(|known| identity::look_at(source).is_ok_and(|look| look.key != *known))
    }

    /// Whether it saw nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty() && self.strangers.is_empty()
    }
}

impl Registry {
    /// Asks, before the first look, what happened while no agent ran.
    pub(super) fn learn_departed(&mut self) {
        for gone in self.setup.watcher.departed() {
            match gone.id {
                Some(id) if self.while_down.known.contains(&id) => {
                    self.while_down.sizes.insert(id, End::of(&gone));
                }
                // Claimed, and gone before the agent before this one had made that durable.
                Some(_) | None if gone.ended => self.while_down.strangers.push(gone),
                // Told again when it ends.
                Some(_) | None => {}
            }
        }
    }

    /// How long the file of an entry was at its end, if the kernel saw it.
    pub(super) fn final_size(&mut self, entry: &FileEntry) -> Option<u64> {
        if let Some(end) = self.while_down.sizes.get(&entry.id) {
            return Some(end.length(entry.size, entry.truncated));
        }
        // Registered, and not yet claimed when the agent ended.
        let generation = recovery::identity_of(entry).generation()?;
        let strangers = &mut self.while_down.strangers;
        let at = strangers.iter().position(|gone| {
            (gone.inode.inode, gone.inode.generation) == (entry.inode, generation)
        })?;
        let end = End::of(&strangers.swap_remove(at));
        self.while_down.sizes.insert(entry.id, end);
        Some(end.length(entry.size, entry.truncated))
    }

    /// A file is given up that somebody still holds open: what becomes of it is nobody's any more, and is
    /// not to be counted again when it ends.
    pub(super) fn disown_departing(&mut self, entry: &FileEntry) {
        if self.while_down.sizes.get(&entry.id).is_some_and(|end| !end.ended) {
            self.setup.watcher.disown(entry.id);
        }
    }

    /// Whether the end of a file was told to the agent before this one, if it is not told now: the kernel
    /// counts in its directory, or in the next one above that is there.
    pub(super) fn was_told(&self, entry: &FileEntry) -> bool {
        let mut above = entry.source.ancestors().skip(1);
        let near = above.find_map(|path| self.directories.find(path));
        near.is_some_and(|token| self.setup.watcher.tallied_while_down(token))
    }

    /// A file is gone and how long it was nobody saw: more may be lost than is said.
    pub(super) fn note_unseen_end(&mut self, entry: &FileEntry) {
        let source = entry.source.display();
        tracing::debug!(%source, name = &*entry.name, id = %entry.id, "Nobody saw a file's end.");
        self.while_down.unknown = true;
    }

    /// A file was truncated and nobody counts what is written to it.
    pub(super) fn note_uncounted_truncation(&mut self) {
        self.tell(Command::Unknown(Unknown::Truncated));
    }

    /// A file was truncated while no agent ran, and no copy holds what it was before. What was written to
    /// it until then nobody saw.
    pub(super) fn note_unseen_truncation(&mut self, path: &Path) {
        if let Some(unsaid) = messages::admit(Kind::Truncated, path) {
            tracing::warn!(
                path = %path.display(),
                "The file was truncated while no agent ran. What was written to it until then is not \
                 known: what is said to be lost is the least that was lost.{unsaid}"
            );
        }
        self.tell(Command::Unknown(Unknown::Truncated));
    }

    /// Counts what was born, written and deleted while no agent ran.
    pub(super) fn count_strangers(&mut self) {
        let mut while_down = std::mem::take(&mut self.while_down);
        let mut copies = HashSet::new();
        let (mut went, mut unsure) = (Went::default(), 0);
        let strangers = std::mem::take(&mut while_down.strangers).into_iter();
        for gone in strangers.filter(|gone| !while_down.counted.contains(&gone.inode)) {
            // What has its inode number now was found since: it is another file.
            let renamed = |source: &Path| while_down.was_renamed(source);
            let reason = match self.complete {
                true => Reason::DeletedUnseen,
                false => Reason::DeletedWhileDown,
            };
            match self.stranger(&gone, renamed, &mut copies) {
                Stranger::Lost(bytes, path) => went.lost.push((path, bytes, reason)),
                Stranger::Nothing => {}
                Stranger::Unsure => unsure += 1,
            }
        }
        if unsure > 0 {
            tracing::warn!(
                files = unsure,
                "Files were written and deleted while no agent ran of which the kernel watch does not \
                 tell whether they were logs. What is said to be lost is the least that was lost."
            );
            went.unknown.push(Unknown::Unsure);
        }
        if while_down.unknown {
            tracing::warn!(
                "What was written and deleted while no agent ran is not known: the kernel watch's \
                 programs were not at work. What is said to be lost is the least that was lost."
            );
            went.unknown.push(Unknown::NoTally);
        }
        self.setup.watcher.forget_strangers();
        self.note_gone(went);
    }

    /// Whatever the kernel told is counted: once that is durable, it need not keep it.
    fn note_gone(&mut self, went: Went) {
        let counted = self.setup.watcher.counted();
        self.tell(Command::Went(Went { counted, ..went }));
    }

    /// Notes, after the first look, whether files may have come and gone that nobody counted: their
    /// directory has changed since the checkpoint.
    pub(super) fn note_unseen_changes(&mut self) {
        let Some(since) = self.while_down.since else { return };
        let since = since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_nanos());
        let modified = |path: &Path| u128::try_from(identity::look_at(path).ok()?.modified_ns).ok();
        let changed = |path: &Path| modified(path).is_some_and(|at| at > since);
        // What happens around them, where one of them may be made, is no log's.
        let places = self.setup.discovery.places();
        let holds_logs = |path: &&Path| places.iter().any(|place| path.starts_with(place));
        let untallied = self.directories.all().filter(|(token, path)| {
            holds_logs(path) && !self.setup.watcher.tallied_while_down(*token)
        });
        for (_, path) in untallied.filter(|(_, path)| changed(path)) {
            tracing::debug!(path = %path.display(), "Nobody counted what went from a directory that changed.");
            self.while_down.unknown = true;
        }
    }

    /// Files are gone that nobody had claimed: born and deleted between two looks.
    pub(super) fn heed_departed(&mut self) {
        self.together(Self::count_departed);
    }

    fn count_departed(&mut self) {
        // While files are looked for that were known, nothing is counted: all at once afterwards, so that
        // what the kernel may forget is all that it told.
        let looking = self.scanning || self.give_up_at.is_some();
        let (mut copies, mut went) = (HashSet::new(), Went::default());
        for gone in self.setup.watcher.departed() {
            if gone.id.is_none() {
                self.waiting.heed_departed(&gone);
            }
            match gone.id {
                Some(id) => {
                    if looking {
                        self.while_down.sizes.insert(id, End::of(&gone));
                    }
                    let known = self.while_down.known.contains(&id);
                    if looking && !self.complete && !known && self.setup.accounts.get(id).is_none()
                    {
                        self.while_down.strangers.extend(gone.ended.then_some(gone));
                    } else {
                        self.heed_end(id, End::of(&gone));
                    }
                }
                None if !gone.ended || self.is_known_inode(&gone) => {}
                None if looking => self.while_down.strangers.push(gone),
                None => {
                    let not_known = |_: &Path| false;
                    match self.stranger(&gone, not_known, &mut copies) {
                        Stranger::Lost(bytes, path) => {
                            went.lost.push((path, bytes, Reason::DeletedUnseen));
                        }
                        Stranger::Nothing => {}
                        Stranger::Unsure => went.unknown = vec![Unknown::Unsure],
                    }
                }
            }
        }
        if !looking {
            self.note_gone(went);
        }
    }
}
