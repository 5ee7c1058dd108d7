//! What the machine can do at best on the same bytes. Each returns the CPU time it took.
//!
//! These are the yardsticks: written plainly, but not carelessly, because a slow yardstick flatters.

use std::{
    fs::File,
    hint::black_box,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::clock::thread_cpu;

const READ: usize = 256 * 1024;
const PIECE: usize = 1 << 20;

/// Reads files in 256 KiB pieces, nothing else.
pub fn page_cache_read(paths: &[PathBuf]) -> Result<Duration> {
    let mut buffer = vec![0; READ];
    let begun = thread_cpu();
    for path in paths {
        each_piece(path, &mut buffer, |piece| {
            black_box(piece);
            Ok(0)
        })?;
    }
    Ok(thread_cpu() - begun)
}

/// Reads files, finds every line and copies it to an output buffer of 1 MiB.
pub fn read_split_copy(paths: &[PathBuf]) -> Result<Duration> {
    let (mut buffer, mut out) = (vec![0; READ], Vec::with_capacity(2 * PIECE));
    let begun = thread_cpu();
    for path in paths {
        each_piece(path, &mut buffer, |piece| {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', piece) {
                if out.len() >= PIECE {
                    black_box(&out);
                    out.clear();
                }
                out.extend_from_slice(&piece[start..=end]);
                start = end + 1;
            }
            Ok(piece.len() - start)
        })?;
    }
    Ok(thread_cpu() - begun)
}

/// Compresses with zstd level 1 in pieces of 1 MiB, context reused.
pub fn zstd_pieces(bytes: &[u8]) -> Result<Duration> {
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    let mut out = vec![0; zstd::zstd_safe::compress_bound(PIECE)];
    let begun = thread_cpu();
    for piece in bytes.chunks(PIECE) {
        black_box(compressor.compress_to_buffer(piece, &mut out)?);
    }
    Ok(thread_cpu() - begun)
}

/// Reads files and makes simd-json's tape of every line, buffers reused.
pub fn simd_json_tape(paths: &[PathBuf]) -> Result<Duration> {
    let mut buffer = vec![0; READ];
    let mut buffers = simd_json::Buffers::new(64 * 1024);
    let mut spare = Some(simd_json::Tape::null());
    let begun = thread_cpu();
    for path in paths {
        each_piece(path, &mut buffer, |piece| {
            let mut rest = piece;
            while let Some(end) = memchr::memchr(b'\n', rest) {
                let (line, tail) = rest.split_at_mut(end + 1);
                let mut tape = spare.take().unwrap_or(simd_json::Tape::null()).reset();
                simd_json::fill_tape(&mut line[..end], &mut buffers, &mut tape)?;
                black_box(&tape);
                spare = Some(tape.reset());
                rest = tail;
            }
            Ok(rest.len())
        })?;
    }
    Ok(thread_cpu() - begun)
}

/// Hands a file's bytes to `each` piece by piece; what `each` leaves over (it returns how many
/// bytes) comes again in front of the next piece.
fn each_piece(
    path: &Path,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&mut [u8]) -> Result<usize>,
) -> Result<()> {
    let what = || format!("Reading {}", path.display());
    let file = File::open(path).with_context(what)?;
    let (mut offset, mut kept) = (0, 0);
    loop {
        if kept == buffer.len() {
            buffer.resize(2 * kept, 0);
        }
        let read = match file.read_at(&mut buffer[kept..], offset) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(what),
        };
        offset += read as u64;
        let end = kept + read;
        kept = each(&mut buffer[..end])?;
        buffer.copy_within(end - kept..end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_file_whatever_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let line = format!("{{\"log\":\"{}\"}}\n", "x".repeat(300));
        std::fs::write(&path, line.repeat(100)).unwrap();
        let mut lines = 0;
        // A buffer smaller than a line must grow; one larger must carry the rest over.
        for size in [64, 1000] {
            each_piece(&path, &mut vec![0; size], |piece| {
                let whole = memchr::memrchr(b'\n', piece).map_or(0, |end| end + 1);
                lines += memchr::memchr_iter(b'\n', piece).count();
                Ok(piece.len() - whole)
            })
            .unwrap();
        }
        assert_eq!(lines, 200);
        let paths = [path];
        assert!(simd_json_tape(&paths).unwrap() > Duration::ZERO);
        assert!(read_split_copy(&paths).unwrap() > Duration::ZERO);
        assert!(page_cache_read(&paths).unwrap() > Duration::ZERO);
        assert!(zstd_pieces(line.as_bytes()).unwrap() > Duration::ZERO);
    }
}
