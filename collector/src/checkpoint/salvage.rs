//! Getting at a journal's bytes on a bad disk, and keeping a damaged journal for whoever wants to
//! look at it. Knows nothing of records.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Damaged checkpoints kept; older ones are removed.
const KEPT: usize = 3;
const PREFIX: &str = "checkpoint.damaged-";

/// All of a file, with zeros for pages that the disk cannot give, and how many bytes those are.
pub(super) fn read_all(file: &File) -> io::Result<(Vec<u8>, usize)> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    Ok(read_pages(len, |buffer, at| file.read_at(buffer, at as u64)))
}

/// `read` fills what it can of a buffer from an offset, as `pread` does.
fn read_pages(
    len: usize,
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> (Vec<u8>, usize) {
    const PAGE: usize = 4096;
    let mut bytes = vec![0; len];
    let (mut at, mut unreadable) = (0, 0);
    while at < len {
        match read(&mut bytes[at..], at) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                // A failed read says nothing about where it failed: go on page by page.
                let end = len.min((at / PAGE + 1) * PAGE);
                match read(&mut bytes[at..end], at) {
                    Ok(count) if count > 0 => at += count,
                    _ => {
                        bytes[at..end].fill(0);
                        unreadable += end - at;
                        at = end;
                    }
                }
            }
        }
    }
    // It shrank meanwhile (another process truncated a torn tail).
    bytes.truncate(at);
    (bytes, unreadable)
}

/// Keeps `path` under a dated name beside it and removes the oldest such copies.
pub(super) fn set_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    // Nanoseconds keep copies apart, and in order.
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.9fZ");
    let aside = dir.join(format!("{PREFIX}{time}"));
    // A link takes no space, and the damaged file is about to be replaced by rename.
    fs::hard_link(path, &aside).or_else(|_unsupported| fs::copy(path, &aside).map(drop))?;
    remove_oldest(dir);
    Ok(aside)
}

fn remove_oldest(dir: &Path) {
    let Ok(listing) = fs::read_dir(dir) else { return };
    let mut kept: Vec<PathBuf> = listing
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .collect();
    kept.sort();
    for path in kept.iter().rev().skip(KEPT) {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "Cannot remove an old damaged checkpoint.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_cannot_be_read_cost_only_themselves() {
        let disk: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8 + 1).collect();
        let bad = 8192..12_288;
        let read = |buffer: &mut [u8], at: usize| {
            let end = at + buffer.len();
            if at < bad.end && end > bad.start {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            buffer.copy_from_slice(&disk[at..end]);
            Ok(buffer.len())
        };
        let (bytes, unreadable) = read_pages(disk.len(), read);
        assert_eq!(unreadable, bad.len());
        assert_eq!(bytes[..bad.start], disk[..bad.start]);
        assert!(bytes[bad.clone()].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[bad.end..], disk[bad.end..]);
    }

    #[test]
    fn only_the_newest_damaged_checkpoints_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("checkpoint");
        fs::write(&path, "damaged").unwrap();
        let aside: Vec<PathBuf> = (0..5).map(|_| set_aside(temp.path(), &path).unwrap()).collect();
        let exists: Vec<bool> = aside.iter().map(|path| path.exists()).collect();
        assert_eq!(exists, [false, false, true, true, true]);
        assert!(path.exists());
    }
}
