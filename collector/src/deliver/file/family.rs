//! The output file and its rotated siblings as they lie in the directory. Looks; changes nothing.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

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

/// `path` itself, or one of its rotated siblings `path.N`.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    /// None: `path` itself.
    pub(super) number: Option<u64>,
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
        let Some(number) = number(path, &entry.file_name()) else { continue };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        members.push(Member {
            path: entry.path(),
            number,
            identity: Identity::of(&metadata),
            length: metadata.len(),
            is_file: metadata.is_file(),
        });
    }
    Ok(members)
}

/// The name under which `path` is put away next: `path.N`, N larger than any there.
pub(super) fn next_name(path: &Path, members: &[Member]) -> PathBuf {
    let number = members.iter().filter_map(|member| member.number).max().unwrap_or(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", number.saturating_add(1)));
    name.into()
}

/// `Some(None)`: it is `path`. `Some(Some(n))`: it is `path.n`.
fn number(path: &Path, name: &OsStr) -> Option<Option<u64>> {
    let rest = name.as_bytes().strip_prefix(path.file_name()?.as_bytes())?;
    if rest.is_empty() {
        return Some(None);
    }
    let digits = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
    // Only names that this sink writes: no sign, no leading zero.
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(Some(number))
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
        let path = Path::new("/x/out.log");
        let of = |name: &str| number(path, OsStr::new(name));
        assert_eq!(of("out.log"), Some(None));
        assert_eq!(of("out.log.12"), Some(Some(12)));
        for stranger in ["out.log.", "out.log.012", "out.log.+1", "out.log.1.gz", "out.logs", "o"] {
            assert_eq!(of(stranger), None, "{stranger}");
        }
    }
}
