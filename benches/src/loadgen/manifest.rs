//! The account of what was written, for the oracle.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{framing::Format, tag::Writer};

/// What a whole run wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// How lines are laid out.
    pub format: Format,
    /// What everything random followed from.
    pub seed: u64,
    /// One entry a log, by writer.
    pub writers: Vec<Written>,
}

/// What one writer wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Its number, as in its tags.
    pub writer: u32,
    /// Where its live file lies.
    pub path: String,
    /// Expected in every record.
    pub namespace: String,
    /// Expected in every record.
    pub pod: String,
    /// Expected in every record.
    pub container: String,
    /// Tagged messages per stream (standard output, standard error, unframed), numbered from 0.
    pub messages: [u64; 3],
    /// Messages without a tag (empty ones).
    pub untagged: u64,
    /// Bytes written to its files.
    pub bytes: u64,
    /// How often it was rotated.
    pub rotations: u64,
}

impl Manifest {
    /// Nothing written yet.
    pub fn new(format: Format, seed: u64) -> Self {
        Self { format, seed, writers: Vec::new() }
    }

    /// An account known beforehand: `writers` that each wrote so many messages per stream.
    pub fn of(format: Format, writers: impl IntoIterator<Item = (Writer, [u64; 3])>) -> Self {
        let writers = writers
            .into_iter()
            .map(|(writer, messages)| Written { messages, ..Written::new(writer, String::new()) });
        Self { format, seed: 0, writers: writers.collect() }
    }

    /// Enters or replaces one writer's account.
    pub fn set(&mut self, written: &Written) {
        match self.writers.binary_search_by_key(&written.writer, |entry| entry.writer) {
            Ok(index) => self.writers[index].clone_from(written),
            Err(index) => self.writers.insert(index, written.clone()),
        }
    }

    /// Messages written, tagged or not: as many records must come out.
    pub fn messages(&self) -> u64 {
        self.writers.iter().map(|entry| entry.messages.iter().sum::<u64>() + entry.untagged).sum()
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.writers.iter().map(|entry| entry.bytes).sum()
    }

    /// Adds another run's account; a writer in both is an error of the caller.
    pub fn merge(&mut self, other: Self) {
        let both = self.writers.drain(..).chain(other.writers);
        let by_writer: BTreeMap<_, _> = both.map(|entry| (entry.writer, entry)).collect();
        self.writers = by_writer.into_values().collect();
    }

    /// Reads one that [`Self::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes it so that a reader sees the whole old or the whole new one.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(temporary, path)
    }
}

impl Written {
    pub(super) fn new(writer: Writer, path: String) -> Self {
        Self {
            writer: writer.0,
            path,
            namespace: writer.namespace(),
            pod: writer.pod(),
            container: writer.container(),
            messages: [0; 3],
            untagged: 0,
            bytes: 0,
            rotations: 0,
        }
    }
}
