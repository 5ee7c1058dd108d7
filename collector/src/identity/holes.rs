//! Where a file has data, and how long it is without the NULs at its end.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// A run of so many NULs is no text, wherever it stands: the least that a disk writes.
pub const RUN: usize = 512;

/// Bytes looked through at once.
const STEP: usize = 64 << 10;
/// Stretches of data looked at to find a file's last one.
const STRETCHES: u32 = 64;

/// How many bytes are left without the NULs at the end.
#[inline]
pub fn text_len(bytes: &[u8]) -> usize {
    match bytes.last() {
        Some(0) => bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1),
        _ => bytes.len(),
    }
}

/// The first byte at or behind `from` that is not in a hole; `from` itself where the filesystem knows
/// no holes. None: there is none.
pub fn data_from(file: &File, from: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data.max(from))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file has a hole before its end, as far as its filesystem tells.
pub fn has_hole(file: &File) -> io::Result<bool> {
    match seek(file, SeekFrom::Hole(0)) {
        Ok(hole) => Ok(hole < file.metadata()?.len()),
        Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How long a file is without a run of NULs at its end, if it was `known` bytes long before.
pub fn length(file: &File, known: u64) -> io::Result<u64> {
    let about = file.metadata()?;
    let size = about.len();
    let mut last = [1; RUN];
    if size < known + RUN as u64 || file.read_exact_at(&mut last, size - RUN as u64).is_err() {
        return Ok(size);
    }
    if last != [0; RUN] {
        return Ok(size);
    }
    let mut end = known;
    let sparse = about.blocks() * 512 < size;
    for _ in 0..if sparse { STRETCHES } else { 1 } {
        let Some(data) = data_from(file, end)? else { return trim(file, known, end) };
        match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole < size => end = hole,
            Ok(_) | Err(_) => return trim(file, known, size),
        }
    }
    Ok(size)
}

/// Takes a run of NULs off the end of a stretch of data, as far as one look shows it.
fn trim(file: &File, known: u64, end: u64) -> io::Result<u64> {
    let from = known.max(end.saturating_sub(STEP as u64));
    let mut bytes = vec![0; (end - from) as usize];
    file.read_exact_at(&mut bytes, from)?;
    Ok(from + text_len(&bytes) as u64)
}
