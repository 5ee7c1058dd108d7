//! Checks records that lie in files: a `file` sink's output, or what a search printed.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result};

use super::Oracle;

/// Bytes handed to the oracle at once, roughly.
const PIECE: usize = 4 << 20;

/// Feeds files to the oracle in the order given: plain, `.zst` or `.gz` by what they begin with.
pub fn verify_files(oracle: &mut Oracle, paths: &[impl AsRef<Path>]) -> Result<()> {
    for path in paths {
        let path = path.as_ref();
        feed(oracle, path).with_context(|| format!("Reading {}", path.display()))?;
    }
    Ok(())
}

fn feed(oracle: &mut Oracle, path: &Path) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut reader: Box<dyn BufRead> = match file.fill_buf()? {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::with_capacity(1 << 20, zstd::Decoder::with_buffer(file)?))
        }
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(1 << 20, flate2::bufread::MultiGzDecoder::new(file)))
        }
        _ => Box::new(file),
    };
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        reader.read_until(b'\n', &mut piece)?;
        if read == 0 {
            return Ok(());
        }
        oracle.accept(&piece, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        framing::Format,
        loadgen::{Manifest, Messages},
        oracle::Limits,
        tag::{Stream, Writer},
    };

    #[test]
    fn files_are_read_whatever_their_compression() {
        let (mut messages, mut message) = (Messages::new(Writer(0), 1), Vec::new());
        let mut lines = Vec::new();
        for number in 0..300 {
            messages.next(Stream::Stdout, &mut message);
            let value = serde_json::json!({
                "log.record.uid": format!("1-{number:x}"),
                "body": String::from_utf8_lossy(&message),
                "log.iostream": "stdout",
                "container.id": Writer(0).container_id(),
            });
            lines.push(format!("{value}\n"));
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| dir.path().join(name));
        std::fs::write(&paths[0], lines[..100].concat()).unwrap();
        let zstd = zstd::encode_all(lines[100..200].concat().as_bytes(), 1).unwrap();
        std::fs::write(&paths[1], zstd).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, lines[200..].concat().as_bytes()).unwrap();
        std::fs::write(&paths[2], gzip.finish().unwrap()).unwrap();

        let mut oracle = Oracle::new(Limits::default());
        verify_files(&mut oracle, &paths).unwrap();
        let manifest = Manifest::of(Format::Docker, [(Writer(0), [300, 0, 0])]);
        let report = oracle.report(Some(&manifest));
        assert!(report.ok, "{report:?}");
        assert!(verify_files(&mut oracle, &[dir.path().join("absent")]).is_err());
    }
}
