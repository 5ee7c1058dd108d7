//! What the checkpoint knows of files, while they are being found again after a start.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::Path,
    sync::Arc,
};

use super::evidence;
use crate::{
    checkpoint::FileEntry,
    identity::{self, FileId, Identity, InodeKey, beneath, sys},
};

/// Entries that no file has claimed yet.
#[derive(Default)]
pub struct Unclaimed {
    by_inode: HashMap<u64, Vec<FileEntry>>,
    /// Lives that a truncation ended. No inode holds them any more; a copy may.
    former: Vec<FormerLife>,
}

/// A file's life that a truncation ended.
pub struct FormerLife {
    /// What is known of it.
    pub entry: FileEntry,
    /// Whether its size is what it was at its end.
    pub counted: bool,
    /// Whether a copy of it was found, and goes on under another id.
    pub copied: bool,
}

/// A file that looks for its entry.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Its inode.
    pub identity: &'a Identity,
    /// The source that it was found for.
    pub source: &'a Path,
    /// Its size, bytes; of a compressed file nothing is known.
    pub size: Option<u64>,
    /// Its first (uncompressed) bytes.
    pub head: &'a [u8],
}

impl Unclaimed {
    /// All entries of the checkpoint. Of several lives of one inode the latest is the inode's.
    pub fn new(entries: Vec<FileEntry>) -> Self {
        let mut by_inode: HashMap<u64, Vec<FileEntry>> = HashMap::with_capacity(entries.len());
        let mut former = Vec::new();
        for entry in entries {
            let others = by_inode.entry(entry.inode).or_default();
            match others.iter_mut().find(|other| are_lives_of_one_inode(other, &entry)) {
                None => {
                    others.reserve_exact(1);
                    others.push(entry);
                }
                Some(other) if lateness(other) >= lateness(&entry) => former.push(entry),
                Some(other) => former.push(std::mem::replace(other, entry)),
            }
        }
        // They ended under a former agent, which knew how long they were.
        let ended = |entry| FormerLife { entry, counted: true, copied: false };
        Self { by_inode, former: former.into_iter().map(ended).collect() }
    }

    /// Nobody claimed it after all.
    pub fn extend(&mut self, entry: Option<FileEntry>) {
        if let Some(entry) = entry {
            self.put_back(entry);
        }
    }

    /// Nobody claimed it yet.
    pub fn put_back(&mut self, entry: FileEntry) {
        self.by_inode.entry(entry.inode).or_default().push(entry);
    }

    /// The file lives on after a truncation: only a copy can still be what the entry knows.
    pub fn put_former(&mut self, life: FormerLife) {
        self.former.push(life);
    }

    /// Lives of a source that a truncation ended, and of which no copy was found yet.
    pub fn former_of(&self, source: &Path) -> impl Iterator<Item = &FileEntry> {
        let source = source.to_string_lossy().into_owned();
        let lives = self.former.iter().filter(|life| !life.copied).map(|life| &life.entry);
        lives.filter(move |entry| entry.source.as_os_str() == &*source)
    }

    /// What was not read of a life before its truncation is read from a copy of `length` bytes, under
    /// another id: no more than what followed is lost.
    pub fn gave_its_end_to_a_copy(&mut self, id: FileId, length: u64) {
        let Some(life) = self.former.iter_mut().find(|life| life.entry.id == id) else { return };
        let settled = life.entry.sinks.values().map(|offset| offset.settled).min().unwrap_or(0);
        // Sinks that were at other places miss no more than this one: the copy has the rest.
        life.entry.size = settled + life.entry.size.saturating_sub(length.max(settled));
        life.copied = true;
    }

    /// Takes out all lives that a truncation ended.
    pub fn take_former(&mut self) -> Vec<FormerLife> {
        std::mem::take(&mut self.former)
    }

    /// The entry of this file.
    pub fn claim(&mut self, seen: &Seen<'_>) -> Option<FileEntry> {
        let inode = seen.identity.key.inode;
        let entries = self.by_inode.get_mut(&inode)?;
        let ranked = entries.iter().enumerate();
        let ranked = ranked.filter_map(|(at, entry)| Some((rank(entry, seen)?, at)));
        let (_, at) = ranked.max()?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.by_inode.remove(&inode);
        }
        Some(entry)
    }

    /// A source's entries, but for lives that a truncation ended.
    pub fn of_source(&self, source: &Path) -> impl Iterator<Item = &FileEntry> {
        let source = source.to_string_lossy().into_owned();
        let entries = self.by_inode.values().flatten();
        entries.filter(move |entry| entry.source.as_os_str() == &*source)
    }

    /// Takes out an entry.
    pub fn take(&mut self, id: FileId) -> Option<FileEntry> {
        if let Some(at) = self.former.iter().position(|life| life.entry.id == id) {
            return Some(self.former.swap_remove(at).entry);
        }
        self.take_where(|entry| entry.id == id).pop()
    }

    /// Takes out a source's entries that no file claimed, oldest first.
    pub fn take_source(&mut self, source: &Path) -> Vec<FileEntry> {
        let source = source.to_string_lossy();
        self.take_where(|entry| entry.source.as_os_str() == &*source)
    }

    /// Whether an entry is of an inode with this number.
    pub fn knows_inode(&self, inode: u64) -> bool {
        self.by_inode.contains_key(&inode)
    }

    /// Whether all of them are claimed.
    pub fn is_empty(&self) -> bool {
        self.by_inode.is_empty() && self.former.is_empty()
    }

    /// Takes out all that is left.
    pub fn take_all(&mut self) -> Vec<FileEntry> {
        let taken = self.take_where(|_| true);
        // It held every file of the checkpoint, and will hold a few that come back.
        self.by_inode.shrink_to_fit();
        taken
    }

    fn take_where(&mut self, wanted: impl Fn(&FileEntry) -> bool) -> Vec<FileEntry> {
        let mut taken = Vec::new();
        self.by_inode.retain(|_, entries| {
            taken.extend(entries.extract_if(.., |entry| wanted(entry)));
            !entries.is_empty()
        });
        taken.sort_by_key(|entry| entry.born_ns);
        taken
    }
}

/// How well an entry fits a file, the better the greater; None: it is another file's.
///
/// With a birth time, the inode number says who it is: it is not used twice at one time. Two devices
/// may have the same numbers and times (one is a copy of the other): then the source decides, or the
/// device, unless the entry's own file still lies where it was. Without a birth time the number may
/// be a stranger's by now: the handle, which holds the inode's generation, says so; where it is not
/// to be had on both sides, the bytes that were read must still be there.
fn rank(entry: &FileEntry, seen: &Seen<'_>) -> Option<(bool, bool, bool, (u32, u64))> {
    let key = seen.identity.key;
    let same_source = *entry.source.to_string_lossy() == *seen.source.to_string_lossy();
    let same_device = entry.device == key.device;
    let same_handle = match (&entry.handle, &seen.identity.handle) {
        (Some(entry), Some(seen)) => Some(entry == seen),
        (None, _) | (_, None) => None,
    };
    let is_it = if entry.born_ns == 0 || key.born_ns == 0 {
        same_handle.unwrap_or_else(|| same_source && is_continued(entry, seen))
    } else {
        entry.born_ns == key.born_ns
    };
    let is_near = same_source || same_device && !lies_on_another_device(entry, key);
    let handle = same_handle == Some(true);
    (is_it && is_near).then(|| (handle, same_source, same_device, lateness(entry)))
}

/// Whether a file can be the one that was read: it begins alike and is long enough.
fn is_continued(entry: &FileEntry, seen: &Seen<'_>) -> bool {
    let read = entry.sinks.values().map(|offset| offset.settled).max().unwrap_or(0);
    let fingerprint = evidence::fingerprint(entry);
    let known = fingerprint.len > 0 || read == 0;
    known && fingerprint.matches(seen.head) && seen.size.is_none_or(|size| size >= read)
}

/// Whether the entry's file is where it was, and on another device than the one in question.
fn lies_on_another_device(entry: &FileEntry, key: InodeKey) -> bool {
    let path = entry.source.with_file_name(&*entry.name);
    identity::look_at(&path).is_ok_and(|look| {
        look.key != key && (look.key.inode, look.key.born_ns) == (key.inode, key.born_ns)
    })
}

/// Whether two entries with one inode number are of one inode, truncated in between. A former
/// version had several for a file whose handle appeared or vanished.
fn are_lives_of_one_inode(a: &FileEntry, b: &FileEntry) -> bool {
    let same_inode = match (&a.handle, &b.handle) {
        _ if a.born_ns != 0 => true,
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => a.source == b.source,
    };
    same_inode && (a.device, a.born_ns) == (b.device, b.born_ns)
}

/// Which of an inode's lives it is; of two that are one life, the one that was read further.
fn lateness(entry: &FileEntry) -> (u32, u64) {
    let settled = entry.sinks.values().map(|offset| offset.settled);
    (entry.epoch, settled.min().unwrap_or(0))
}

/// The identity that an entry stands for.
pub fn identity_of(entry: &FileEntry) -> Identity {
    let key = InodeKey { device: entry.device, inode: entry.inode, born_ns: entry.born_ns };
    Identity { key, handle: entry.handle.clone() }
}

/// Opens the file of an entry by its handle, wherever it was moved on the filesystem of `near`.
/// `taken`: files that are somebody's already.
pub fn reopen(entry: &FileEntry, near: &Path, taken: &HashSet<InodeKey>) -> Option<Arc<File>> {
    by_handle(&identity_of(entry), near, taken)
}

/// Opens a file by its handle, wherever it was moved on the filesystem of `near`.
pub fn by_handle(identity: &Identity, near: &Path, taken: &HashSet<InodeKey>) -> Option<Arc<File>> {
    let handle = identity.handle.as_ref()?;
    let near = beneath::open_directory(near).ok()?;
    let file = sys::open_by_handle(&near, handle).ok()?;
    let key = identity::look(&file).ok()?.key;
    let is_it = key.inode == identity.key.inode && !taken.contains(&key);
    (is_it && [key.born_ns, 0].contains(&identity.key.born_ns)).then(|| Arc::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Offset, identity::Fingerprint};

    fn entry(
        id: u64,
        (device, born_ns): (u64, i64),
        handle: Option<u8>,
        settled: u64,
    ) -> FileEntry {
        let fingerprint = Fingerprint::of(b"head");
        let offset = Offset { settled, resume: settled, ..Offset::default() };
        FileEntry {
            id: FileId(id),
            source: Path::new("/logs/a.log").into(),
            name: "a.log".into(),
            device,
            inode: 7,
            born_ns,
            handle: handle.map(|byte| sys::Handle::new(1, &[byte])),
            epoch: 0,
            fingerprint: fingerprint.hash,
            fingerprint_len: fingerprint.len as u16,
            crc: 0,
            truncated: 0,
            size: settled,
            ended: false,
            sinks: [("out".into(), offset)].into_iter().collect(),
        }
    }

    fn claim(
        entries: Vec<FileEntry>,
        (device, born_ns): (u64, i64),
        handle: Option<u8>,
        (source, head, size): (&str, &str, u64),
    ) -> Option<u64> {
        let key = InodeKey { device, inode: 7, born_ns };
        let identity = Identity { key, handle: handle.map(|byte| sys::Handle::new(1, &[byte])) };
        let mut unclaimed = Unclaimed::new(entries);
        let (source, head) = (Path::new(source), head.as_bytes());
        let seen = Seen { identity: &identity, source, size: Some(size), head };
        unclaimed.claim(&seen).map(|entry| entry.id.0)
    }

    const AS_BEFORE: (&str, &str, u64) = ("/logs/a.log", "head and more", 100);
    const MOVED: (&str, &str, u64) = ("/logs/b.log", "head and more", 100);

    #[test]
    fn a_birth_time_says_who_it_is_whatever_becomes_of_handles() {
        for before in [None, Some(1)] {
            for after in [None, Some(1), Some(2)] {
                for seen in [AS_BEFORE, MOVED] {
                    let known = vec![entry(1, (3, 9), before, 50)];
                    assert_eq!(claim(known, (3, 9), after, seen), Some(1));
                }
            }
        }
        assert_eq!(claim(vec![entry(1, (3, 9), Some(1), 50)], (3, 10), Some(1), AS_BEFORE), None);
    }

    #[test]
    fn without_a_birth_time_a_handle_decides_and_else_what_was_read() {
        let known = |handle| vec![entry(1, (3, 0), handle, 50)];
        assert_eq!(claim(known(Some(1)), (3, 0), Some(1), MOVED), Some(1));
        assert_eq!(claim(known(Some(1)), (3, 0), Some(2), AS_BEFORE), None, "a stranger");
        for (before, after) in [(None, None), (Some(1), None), (None, Some(1))] {
            assert_eq!(claim(known(before), (3, 0), after, AS_BEFORE), Some(1));
            assert_eq!(claim(known(before), (3, 0), after, ("/logs/a.log", "head", 49)), None);
            assert_eq!(claim(known(before), (3, 0), after, ("/logs/a.log", "other", 50)), None);
            assert_eq!(claim(known(before), (3, 0), after, MOVED), None);
        }
        // The filesystem learned to keep birth times, or forgot.
        assert_eq!(claim(known(None), (3, 9), None, AS_BEFORE), Some(1));
        assert_eq!(claim(vec![entry(1, (3, 9), None, 50)], (3, 0), None, AS_BEFORE), Some(1));
    }

    #[test]
    fn of_two_devices_with_the_same_numbers_the_source_decides_then_the_device() {
        let mut other = entry(2, (4, 9), None, 50);
        other.source = Path::new("/logs/b.log").into();
        let known = || vec![entry(1, (3, 9), None, 50), other.clone()];
        assert_eq!(claim(known(), (4, 9), None, AS_BEFORE), Some(1), "numbers changed places");
        assert_eq!(claim(known(), (3, 9), None, MOVED), Some(2));
        let elsewhere = ("/logs/c.log", "head", 50);
        assert_eq!(claim(known(), (4, 9), None, elsewhere), Some(2));
        assert_eq!(claim(known(), (5, 9), None, elsewhere), None, "neither");
    }

    #[test]
    fn of_several_entries_of_one_inode_the_latest_life_counts_then_what_was_read_further() {
        let next = FileEntry { epoch: 1, ..entry(2, (3, 9), Some(1), 10) };
        let all = [entry(1, (3, 9), Some(1), 50), next, entry(3, (3, 9), None, 60)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let unclaimed = Unclaimed::new(order.map(|at| all[at].clone()).into());
            assert_eq!((unclaimed.by_inode[&7].len(), unclaimed.by_inode[&7][0].id.0), (1, 2));
            assert_eq!(unclaimed.former.len(), 2);
        }
        let strangers = vec![entry(1, (3, 0), Some(1), 50), entry(2, (3, 0), Some(2), 50)];
        assert_eq!(Unclaimed::new(strangers).former.len(), 0);
    }
}
