//! The whole state as a new journal: what replaces one that has grown, or is damaged.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{State, StoreError, error::failed, journal};
use crate::ownership;

/// Files in one record of a rewritten journal: what one bad sector can cost.
const FILES_PER_RECORD: usize = 128;

/// Writes `checkpoint.new` and renames it over `checkpoint`. Returns it, and its length.
pub(super) fn write_snapshot(dir: &Path, state: &State) -> Result<(File, u64), StoreError> {
    let path = dir.join("checkpoint.new");
    let write = || {
        let file = ownership::create_anew(&path, ownership::PRIVATE)?;
        let mut out = BufWriter::new(&file);
        let len = write_records(state, &mut out)?;
        out.flush()?;
        drop(out);
        file.sync_all()?;
        fail::fail_point!("checkpoint.compact.written");
        fs::rename(&path, dir.join("checkpoint"))?;
        fail::fail_point!("checkpoint.compact.renamed");
        Ok((file, len))
    };
    write().map_err(|source| {
        // Its space may be what others wait for. If it cannot be removed, the next start will.
        let _left = fs::remove_file(&path);
        failed("write", &path)(source)
    })
}

/// The state as records, after a header. Returns how long they are.
pub(super) fn write_records(state: &State, out: &mut impl Write) -> io::Result<u64> {
    let mut buffer = Vec::new();
    let mut len = journal::encode_header(&mut buffer);
    out.write_all(&buffer)?;
    for record in state.as_records(FILES_PER_RECORD) {
        buffer.clear();
        len += journal::encode_record(&record, &[], &mut buffer);
        out.write_all(&buffer)?;
    }
    Ok(len as u64)
}
