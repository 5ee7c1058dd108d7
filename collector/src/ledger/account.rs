//! The account of one file's life: who it is, how long it was seen to be, and each sink's side of it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use super::{
    sink::SinkAccount,
    sinks::{SinkAccounts, SinkSlot},
    truncation,
};
use crate::{
    checkpoint::FileEntry,
    identity::{FileId, Fingerprint, Identity, checksum::Checksum, holes},
    source::Source,
};

/// What was skipped of the file before anything was read is booked.
const BEGUN: u8 = 1;
/// The file's sums are in the totals.
const FORGOTTEN: u8 = 2;

/// The account of one file's life. All counters are bytes of the (uncompressed) file.
#[derive(Debug)]
pub struct FileAccount {
    /// Which file.
    pub id: FileId,
    /// Its inode, as first seen.
    pub identity: Identity,
    /// Counts truncations of the same inode.
    pub epoch: u32,
    /// The log that the file belongs to.
    pub source: Arc<Source>,
    /// The size last seen.
    pub seen: AtomicU64,
    /// True once it can grow no more and its size is final.
    pub ended: AtomicBool,
    /// True once the checkpoint knows it, durably: nothing of it is sent before.
    pub registered: AtomicBool,
    /// True once a compressed file was found that may hold what was not read of it. Whether it does is known only later,
    /// so nothing of this file is given up as lost before that.
    pub awaited: AtomicBool,
    /// True once it was gone before it was read whole: its end is booked as lost, or is about to be.
    pub vanished: AtomicBool,
    /// True where its entry, not only its offsets, must be written.
    pub stale: AtomicBool,
    /// What truncations had taken away of the inode when this life began, as the kernel counts.
    pub truncated: AtomicU32,
    /// What was booked of it as a whole: bits of `BEGUN` and `FORGOTTEN`.
    booked: AtomicU8,
    sinks: Box<SinkAccounts>,
    changing: Mutex<Changing>,
}

/// What changes rarely.
#[derive(Debug)]
struct Changing {
    /// None: the source's own.
    path: Option<Box<Path>>,
    fingerprint: u64,
    fingerprint_len: u16,
    /// 0: not known.
    crc: u32,
    file: Weak<File>,
}

impl FileAccount {
    /// The account of a file that no sink has read yet. `sinks`: how many there will be, most likely.
    pub fn new(
        identity: Identity,
        epoch: u32,
        source: Arc<Source>,
        path: &Path,
        sinks: usize,
    ) -> Self {
        let path = unless_own(path, &source);
        Self {
            id: identity.id(epoch),
            identity,
            epoch,
            source,
            seen: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            registered: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            vanished: AtomicBool::new(false),
            stale: AtomicBool::new(true),
            truncated: AtomicU32::new(0),
            booked: AtomicU8::new(0),
            sinks: SinkAccounts::new(sinks),
            changing: Mutex::new(Changing {
                path,
                fingerprint: 0,
                fingerprint_len: 0,
                crc: 0,
                file: Weak::new(),
            }),
        }
    }

    /// The account of a file that the checkpoint knows. Sinks it does not know begin at byte 0.
    pub fn recovered(
        entry: &FileEntry,
        identity: Identity,
        source: Arc<Source>,
        path: &Path,
        sinks: &[SinkSlot],
    ) -> Self {
        let mut account = Self::new(identity, entry.epoch, source, path, sinks.len());
        account.id = entry.id;
        account.seen = AtomicU64::new(entry.size);
        account.registered = AtomicBool::new(true);
        account.truncated = AtomicU32::new(entry.truncated);
        account.booked = AtomicU8::new(BEGUN);
        for slot in sinks {
            let Some(offset) = entry.sinks.get(&slot.name) else { continue };
            account.sink(slot.number).recover(offset);
        }
        let mut changing = account.changing();
        (changing.fingerprint, changing.fingerprint_len) =
            (entry.fingerprint, entry.fingerprint_len);
        changing.crc = entry.crc;
        drop(changing);
        account
    }

    /// A sink's side of it, by the sink's slot.
    pub fn sink(&self, slot: u16) -> &SinkAccount {
        self.sinks.get(usize::from(slot))
    }

    /// Whether every byte is settled for these sinks and no byte can be added.
    pub fn is_done(&self, slots: impl IntoIterator<Item = u16>) -> bool {
        self.ended.load(Ordering::Acquire) && self.is_settled(slots)
    }

    /// Whether every byte seen so far is settled for these sinks.
    pub fn is_settled(&self, slots: impl IntoIterator<Item = u16>) -> bool {
        let seen = self.seen.load(Ordering::Acquire);
        slots.into_iter().all(|slot| {
            let sink = self.sink(slot);
            sink.settled.load(Ordering::Acquire) >= seen
                && sink.resume.load(Ordering::Acquire) >= seen
        })
    }

    /// Whether everything that these sinks have read is settled.
    pub fn is_settled_as_read(&self, slots: impl IntoIterator<Item = u16>) -> bool {
        slots.into_iter().all(|slot| {
            let sink = self.sink(slot);
            let read = sink.read.load(Ordering::Acquire);
            sink.settled.load(Ordering::Acquire) >= read
                && sink.resume.load(Ordering::Acquire) >= read
        })
    }

    /// Whether this is the first time that what was skipped of it is asked for.
    pub fn begin(&self) -> bool {
        self.booked.fetch_or(BEGUN, Ordering::AcqRel) & BEGUN == 0
    }

    /// Whether what was skipped of it is booked.
    pub fn has_begun(&self) -> bool {
        self.booked.load(Ordering::Acquire) & BEGUN != 0
    }

    /// Whether its sums are in the totals: nothing more is booked on it.
    pub fn is_forgotten(&self) -> bool {
        self.booked.load(Ordering::Acquire) & FORGOTTEN != 0
    }

    /// Its sums are in the totals from now on.
    pub(super) fn forget(&self) {
        self.booked.fetch_or(FORGOTTEN, Ordering::AcqRel);
    }

    /// Notes that the file holds at least `size` bytes.
    pub fn see(&self, size: u64) {
        self.seen.fetch_max(size, Ordering::AcqRel);
    }

    /// A truncation ended its life when truncations had taken away so much of the inode, as the kernel
    /// counts: notes how long it was. Lives since, of which nobody saw anything, are part of it.
    pub fn end_at(&self, truncated: u32) {
        let before = self.truncated.load(Ordering::Acquire);
        let seen = self.seen.load(Ordering::Acquire);
        if let Some(size) = truncation::size_at_end(seen, before, truncated) {
            self.see(size);
        }
    }

    /// Looks at the file's size, if it is held open and plain. A run of NULs at its end is not part of
    /// it yet: whether it ever is, what is written behind it decides. Whoever lets go of the file waits
    /// for this: afterwards a size is another life's.
    pub fn refresh(&self) {
        let changing = self.changing();
        let file = changing.file.upgrade();
        let known = self.seen.load(Ordering::Acquire);
        if let Some(size) = file.and_then(|file| holes::length(&file, known).ok()) {
            self.see(size);
        }
    }

    /// Its present or last path.
    pub fn path(&self) -> PathBuf {
        self.changing().path(&self.source).to_owned()
    }

    /// It is called this now.
    pub fn rename(&self, path: &Path) {
        let mut changing = self.changing();
        if changing.path(&self.source) != path {
            changing.path = unless_own(path, &self.source);
            self.stale.store(true, Ordering::Release);
        }
    }

    /// The hash of its first bytes.
    pub fn fingerprint(&self) -> Fingerprint {
        let changing = self.changing();
        Fingerprint { hash: changing.fingerprint, len: changing.fingerprint_len.into() }
    }

    /// Its first bytes have this hash.
    pub fn set_fingerprint(&self, fingerprint: Fingerprint) {
        let mut changing = self.changing();
        // No more than `FINGERPRINT_BYTES`.
        (changing.fingerprint, changing.fingerprint_len) =
            (fingerprint.hash, fingerprint.len as u16);
        self.stale.store(true, Ordering::Release);
    }

    /// What a compressed copy of all that was seen has in its trailer, once that is known. Of a file
    /// that grew since, it is nobody's.
    pub fn checksum(&self) -> Option<Checksum> {
        let crc = self.changing().crc;
        let length = self.seen.load(Ordering::Acquire) as u32;
        (crc != 0).then_some(Checksum { crc, length })
    }

    /// The CRC-32 of all that was seen.
    pub fn set_crc(&self, crc: u32) {
        self.changing().crc = crc;
        self.stale.store(true, Ordering::Release);
    }

    /// It is held open through this descriptor.
    pub fn hold(&self, file: &Arc<File>) {
        self.changing().file = Arc::downgrade(file);
    }

    /// The descriptor that it is held open through.
    pub fn held(&self) -> Option<Arc<File>> {
        self.changing().file.upgrade()
    }

    /// It is not the descriptor's file any more (truncated: the inode's next life is).
    pub fn let_go(&self) {
        self.changing().file = Weak::new();
    }

    /// Its entry for the checkpoint.
    pub fn entry(&self, sinks: &[SinkSlot]) -> FileEntry {
        let changing = self.changing();
        let key = self.identity.key;
        let name = changing.path(&self.source).file_name().unwrap_or_default();
        FileEntry {
            id: self.id,
            source: Arc::clone(&self.source.path),
            name: name.to_string_lossy().into(),
            device: key.device,
            inode: key.inode,
            born_ns: key.born_ns,
            handle: self.identity.handle.clone(),
            epoch: self.epoch,
            fingerprint: changing.fingerprint,
            fingerprint_len: changing.fingerprint_len,
            crc: changing.crc,
            truncated: self.truncated.load(Ordering::Acquire),
            size: self.seen.load(Ordering::Acquire),
            ended: self.ended.load(Ordering::Acquire),
            sinks: sinks
                .iter()
                .map(|slot| (slot, self.sink(slot.number)))
                .filter(|(_, sink)| !sink.is_excluded())
                .map(|(slot, sink)| (Arc::clone(&slot.name), sink.offset()))
                .collect(),
        }
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    fn path<'a>(&'a self, source: &'a Source) -> &'a Path {
        self.path.as_deref().unwrap_or(&source.path)
    }
}

/// A path to be kept: most files are their source's live file, whose path is there already.
fn unless_own(path: &Path, source: &Source) -> Option<Box<Path>> {
    (*path != *source.path).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;
    use crate::{identity::InodeKey, source::Format};

    #[test]
    fn account_fills_its_size_class() {
        // Two counters come before it in its `Arc`; the allocator would round more up to 192.
        let counters = 2 * size_of::<usize>();
        assert!(counters + size_of::<FileAccount>() <= 160, "{}", size_of::<FileAccount>());
    }

    #[test]
    fn only_another_path_than_the_sources_is_kept() {
        let key = InodeKey { device: 1, inode: 2, born_ns: 3 };
        let identity = Identity { key, handle: None };
        let (live, former) = (Path::new("/logs/a.log"), Path::new("/logs/a.log.1"));
        let source = Arc::new(Source::anonymous(live, Format::Plain));
        let account = FileAccount::new(identity, 0, source, live, 0);
        let names = [];
        let state =
            || (account.path(), account.entry(&names).name, account.changing().path.is_some());
        account.stale.store(false, Ordering::Release);
        account.rename(live);
        assert!(!account.stale.load(Ordering::Acquire));
        assert_eq!(state(), (live.to_owned(), "a.log".into(), false));
        account.rename(former);
        assert!(account.stale.load(Ordering::Acquire));
        assert_eq!(state(), (former.to_owned(), "a.log.1".into(), true));
        account.rename(live);
        assert_eq!(state(), (live.to_owned(), "a.log".into(), false));
    }
}
