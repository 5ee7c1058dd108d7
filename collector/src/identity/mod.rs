//! Who a file is, whatever it is called at the moment.
//!
//! Identity is the inode, number and birth time: what every kernel says of it for all its life. Not
//! the path, not the device number, which a reboot may change, and not the handle, which a runtime
//! may refuse today and grant tomorrow: that is a means to reopen a file, and to tell a reused inode
//! number where there is no birth time. A hash of the file's first bytes is a means to doubt.

pub mod beneath;
pub mod checksum;
mod first_lines;
pub mod guard;
pub mod holes;
pub mod prefix;
pub mod sys;

use std::{fmt, fs::File, io, os::unix::fs::FileExt};

use rustix::fs::{AtFlags, StatxFlags};

/// Names one file's life (one incarnation: a truncation begins another) in every record's
/// `log.record.uid` and in the checkpoint. Derived from what the kernel says of the inode, so it is
/// the same before and after a crash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What `stat` says of an inode; tells two files apart while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeKey {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time, nanoseconds since the epoch; 0 where the filesystem keeps none. Tells a new file
    /// from a deleted one whose number it got.
    pub born_ns: i64,
}

/// What the kernel calls an inode: no other has ever had the same, until the filesystem is made anew.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(from = "(u64, u32, u32)", into = "(u64, u32, u32)")]
pub struct KernelInode {
    /// The inode's number on its filesystem.
    pub inode: u64,
    /// The superblock's device, as the kernel writes it.
    pub device: u32,
    /// Counted up when the number is used again.
    pub generation: u32,
}

impl From<(u64, u32, u32)> for KernelInode {
    fn from((inode, device, generation): (u64, u32, u32)) -> Self {
        Self { inode, device, generation }
    }
}

impl From<KernelInode> for (u64, u32, u32) {
    fn from(KernelInode { inode, device, generation }: KernelInode) -> Self {
        (inode, device, generation)
    }
}

/// What a look at a file tells, besides who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Which inode it is.
    pub key: InodeKey,
    /// Its length in bytes.
    pub size: u64,
    /// Names it has; 0: deleted.
    pub links: u32,
    /// Last modification, nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Whether it is a regular file.
    pub regular: bool,
}

/// An inode as the checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What `stat` says.
    pub key: InodeKey,
    /// The handle's type and bytes, where the filesystem has one and asking is allowed. Not a part
    /// of the id.
    pub handle: Option<sys::Handle>,
}

/// How many of a file's first bytes the fingerprint covers at most.
pub const FINGERPRINT_BYTES: usize = 256;

/// A hash of a file's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// The hash.
    pub hash: u64,
    /// How many bytes it covers; 0: none yet.
    pub len: u32,
}

impl Fingerprint {
    /// The fingerprint of a file that begins with `head` (all of it, or its first bytes).
    pub fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(FINGERPRINT_BYTES)];
        Self { hash: fnv1a(FNV_SEED, head), len: head.len() as u32 }
    }

    /// Whether a file that begins with `head` can be the one this was taken of. Any file can be one
    /// that was empty then.
    pub fn matches(self, head: &[u8]) -> bool {
        let len = self.len as usize;
        len == 0 || head.len() >= len && Self::of(&head[..len]).hash == self.hash
    }
}

/// Looks at an open file.
///
/// # Errors
/// As `statx(2)`.
pub fn look(file: &File) -> io::Result<Look> {
    Ok(from_statx(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, fields())?))
}

/// Looks at a path, following no link.
///
/// # Errors
/// As [`beneath::stat`].
pub fn look_at(path: &std::path::Path) -> io::Result<Look> {
    Ok(from_statx(&beneath::stat(path)?))
}

/// Which inode a path leads to, following no link, and when it changed last (of a directory: also its entries), in
/// nanoseconds since the epoch. Unlike the time of modification, nobody can set that.
///
/// # Errors
/// As [`beneath::stat`].
pub fn changed_at(path: &std::path::Path) -> io::Result<(InodeKey, i64)> {
    let about = beneath::stat(path)?;
    Ok((from_statx(&about).key, nanoseconds(&about.stx_ctime)))
}

/// Opens a log file for reading, following no link; who it is, is what its descriptor says.
///
/// # Errors
/// As [`beneath::open`].
pub fn open(path: &std::path::Path) -> io::Result<(File, Look)> {
    let (file, about) = beneath::open(path)?;
    Ok((file, from_statx(&about)))
}

/// Who an open file is.
pub fn identify(file: &File, look: &Look) -> Identity {
    Identity { key: look.key, handle: sys::handle_of(file).ok() }
}

/// The file's first bytes.
///
/// # Errors
/// As `pread(2)`.
pub fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; FINGERPRINT_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    Ok(head)
}

impl Identity {
    /// The inode's generation, as the handles of ext4, xfs and tmpfs tell it (`FILEID_INO32_GEN`, and xfs'
    /// with a number of 64 bits).
    pub fn generation(&self) -> Option<u32> {
        let handle = self.handle.as_ref()?;
        let at = match handle.kind() {
            1 => 4,
            0x81 => 8,
            _ => return None,
        };
        handle.bytes().get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The name of its life number `epoch`: the same after a reboot and with or without a handle.
    pub fn id(&self, epoch: u32) -> FileId {
        let mut hash = fnv1a(FNV_SEED, &self.key.inode.to_le_bytes());
        hash = fnv1a(hash, &self.key.born_ns.to_le_bytes());
        FileId(mix(hash.wrapping_add(u64::from(epoch).wrapping_mul(0x9e37_79b9_7f4a_7c15))))
    }

    /// The number of its first life. Without a birth time the id would be the inode number's for
    /// ever, whoever has it: the clock takes the birth time's place, in steps that are shorter than
    /// the time from one use of a number to the next. The checkpoint remembers it.
    pub fn first_epoch(&self) -> u32 {
        if self.key.born_ns != 0 {
            return 0;
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| (since.as_millis() / 64) as u32)
    }
}

fn fields() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

fn nanoseconds(time: &rustix::fs::StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

fn from_statx(stat: &rustix::fs::Statx) -> Look {
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    Look {
        key: InodeKey {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born_ns: if has_birth { nanoseconds(&stat.stx_btime) } else { 0 },
        },
        size: stat.stx_size,
        links: stat.stx_nlink,
        modified_ns: nanoseconds(&stat.stx_mtime),
        regular: rustix::fs::FileType::from_raw_mode(u32::from(stat.stx_mode))
            == rustix::fs::FileType::RegularFile,
    }
}

const FNV_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, because the value is stored: a library's hash may change with its version.
fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Spreads every input bit over the result (the finaliser of MurmurHash3).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn written(dir: &std::path::Path, name: &str, bytes: &[u8]) -> (File, Look) {
        let path = dir.join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        open(&path).unwrap()
    }

    #[test]
    fn a_number_that_is_used_again_has_another_generation() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..32 {
            let (file, look) = written(dir.path(), "a", b"a");
            let Some(generation) = identify(&file, &look).generation() else {
                println!("skipped: no generation is told here");
                return;
            };
            assert!(seen.insert((look.key.inode, generation)));
            std::fs::remove_file(dir.path().join("a")).unwrap();
        }
    }

    #[test]
    fn a_rename_keeps_the_identity_and_the_handle_finds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, look) = written(dir.path(), "a", b"hello");
        let before = identify(&file, &look);
        std::fs::create_dir(dir.path().join("old")).unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("old/b")).unwrap();
        let (file, look) = open(&dir.path().join("old/b")).unwrap();
        assert_eq!(identify(&file, &look), before);
        let Some(handle) = before.handle else { return };
        let near = File::open(dir.path()).unwrap();
        match sys::open_by_handle(&near, &handle) {
            Ok(found) => assert_eq!(head(&found).unwrap(), b"hello"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                println!("skipped: no CAP_DAC_READ_SEARCH");
            }
        }
    }

    #[test]
    fn a_reused_inode_is_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::HashSet::new();
        for round in 0..64 {
            let (file, look) = written(dir.path(), "a", format!("{round}").as_bytes());
            let identity = identify(&file, &look);
            let id = identity.id(identity.first_epoch());
            assert!(seen.insert(id), "identity of round {round} repeats");
            drop(file);
            std::fs::remove_file(dir.path().join("a")).unwrap();
        }
    }

    #[test]
    fn the_id_does_not_depend_on_a_handle() {
        let key = InodeKey { device: 1, inode: 2, born_ns: 3 };
        let handles =
            [None, Some(sys::Handle::new(1, &[1, 2])), Some(sys::Handle::new(1, &[1, 3]))];
        let with = |handle| Identity { key, handle }.id(7);
        let ids: std::collections::HashSet<FileId> = handles.map(with).into();
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn fingerprints_guard_a_growing_file() {
        let short = Fingerprint::of(b"abc");
        assert!(short.matches(b"abcdef"));
        assert!(!short.matches(b"abd"));
        assert!(!short.matches(b"ab"));
        assert!(Fingerprint::default().matches(b"") && Fingerprint::default().matches(b"a"));
        let long = vec![b'x'; 1000];
        assert_eq!(Fingerprint::of(&long).len as usize, FINGERPRINT_BYTES);
        assert!(Fingerprint::of(&long).matches(&long));
    }

    #[test]
    fn links_fifos_and_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), 0o600.into()).unwrap();
        for name in ["link", "fifo", "."] {
            assert!(open(&dir.path().join(name)).is_err(), "{name} was opened");
        }
    }
}
