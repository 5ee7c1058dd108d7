//! The output file and its former files as they lie in the directory, whatever compression they were
//! written with. Looks; changes nothing.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::config::Compression;

/// One file, whatever its name. The birth time tells it from a later file that got its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) inode: u64,
    /// Nanoseconds since the epoch; 0 where the filesystem keeps none.
    pub(super) born_ns: i64,
}

impl Identity {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let born_ns = metadata.created().map_or(0, nanoseconds);
        Self { inode: metadata.ino(), born_ns }
    }
}

/// What a compressed file's name may end in.
const ENDINGS: [&str; 2] = [".zst", ".gz"];

/// What a name stands for beside the output's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The file being written.
    Live,
    /// Its name with another ending: what was written before the compression changed, and by versions that
    /// added none.
    Beside,
    /// A former file, `NAME.N` with or without an ending.
    Former(u64),
}

/// The output, or a file that it may have written.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) identity: Identity,
    pub(super) length: u64,
    /// Neither a directory nor a link nor a device.
    pub(super) is_file: bool,
}

/// All of them, in no order. An error if the directory cannot be read (or is not there).
pub(super) fn members(path: &Path) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    let directory = path.parent().unwrap_or(Path::new("/"));
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(place) = place(path, &entry.file_name()) else { continue };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        members.push(Member {
            path: entry.path(),
            place,
            identity: Identity::of(&metadata),
            length: metadata.len(),
            is_file: metadata.is_file(),
        });
    }
    Ok(members)
}

/// The name of the next former file, with this ending: `path`, without its own ending if it is compressed,
/// and a number larger than any there.
pub(super) fn next_name(
    path: &Path,
    compression: Compression,
    ending: &str,
    members: &[Member],
) -> PathBuf {
    let number = members.iter().filter_map(|member| match member.place {
        Place::Former(number) => Some(number),
        Place::Live | Place::Beside => None,
    });
    let number = number.max().unwrap_or(0).saturating_add(1);
    let whole = path.as_os_str().as_bytes();
    let stem = whole.strip_suffix(compression.ending().as_bytes()).unwrap_or(whole);
    let mut name = OsStr::from_bytes(stem).to_owned();
    name.push(format!(".{number}{ending}"));
    name.into()
}

/// The ending that fits what a file holds.
pub(super) fn fitting_ending(path: &Path) -> &'static str {
    let mut head = [0; 4];
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let read = file.and_then(|file| file.read_exact_at(&mut head, 0));
    match head {
        _ if read.is_err() => Compression::None.ending(),
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd.ending(),
        [0x1f, 0x8b, ..] => Compression::Gzip.ending(),
        _ => Compression::None.ending(),
    }
}

/// What `name` is beside `path`; None: a stranger's.
fn place(path: &Path, name: &OsStr) -> Option<Place> {
    let live = path.file_name()?.as_bytes();
    if name.as_bytes() == live {
        return Some(Place::Live);
    }
    // The configured name may itself have an ending.
    [live, without_ending(live)].into_iter().find_map(|stem| {
        let rest = without_ending(name.as_bytes().strip_prefix(stem)?);
        if rest.is_empty() {
            return Some(Place::Beside);
        }
        let digits = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
        // Only names that this sink writes: no sign, no leading zero.
        let number: u64 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(Place::Former(number))
    })
}

fn without_ending(name: &[u8]) -> &[u8] {
    let shorter = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending.as_bytes()));
    shorter.unwrap_or(name)
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_sink_writes_are_family() {
        let of = |path: &str, name: &str| place(&Path::new("/x").join(path), OsStr::new(name));
        assert_eq!(of("out.log", "out.log"), Some(Place::Live));
        assert_eq!(of("out.log", "out.log.12"), Some(Place::Former(12)));
        assert_eq!(of("out.log", "out.log.12.gz"), Some(Place::Former(12)));
        assert_eq!(of("out.log", "out.log.zst"), Some(Place::Beside));
        assert_eq!(of("out.log.zst", "out.log.zst"), Some(Place::Live));
        assert_eq!(of("out.log.zst", "out.log"), Some(Place::Beside));
        for former in ["out.log.3", "out.log.3.zst", "out.log.3.gz", "out.log.zst.3"] {
            assert_eq!(of("out.log.zst", former), Some(Place::Former(3)), "{former}");
        }
        for stranger in
            ["out.log.", "out.log.012", "out.log.+1", "out.log.1.bz2", "out.logs", "o", "out.1.zst"]
        {
            assert_eq!(of("out.log", stranger), None, "{stranger}");
            assert_eq!(of("out.log.zst", stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_former_file_is_named_after_the_live_one_and_what_it_holds() {
        let named = |path: &str, compression, ending| {
            next_name(Path::new(path), compression, ending, &[]).to_string_lossy().into_owned()
        };
        assert_eq!(named("/x/out", Compression::None, ""), "/x/out.1");
        assert_eq!(named("/x/out.zst", Compression::Zstd, ".zst"), "/x/out.1.zst");
        assert_eq!(named("/x/out.zst", Compression::Zstd, ""), "/x/out.1");
        assert_eq!(named("/x/out.gz", Compression::None, ""), "/x/out.gz.1");
    }
}
