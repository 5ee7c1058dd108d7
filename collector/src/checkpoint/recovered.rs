//! What was found of a checkpoint, and what of it could not be used.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::SystemTime};

use super::{CopyOf, FileEntry, State, journal};
use crate::identity::{FileId, KernelInode, prefix::PrefixGuards};

/// What was found at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The files known.
    pub entries: Vec<FileEntry>,
    /// Where files are cut.
    pub cuts: BTreeMap<FileId, Box<[u64]>>,
    /// What tells copies of lives that truncations ended.
    pub prefixes: BTreeMap<FileId, PrefixGuards>,
    /// What files are copies of.
    pub copies: BTreeMap<FileId, CopyOf>,
    /// Where sinks that truncate themselves back stand, by name. A sink that is not in here must
    /// keep what it holds: its position may have been damaged (with all its offsets).
    pub positions: BTreeMap<Arc<str>, String>,
    /// Totals that outlive the files they came from, by name.
    pub totals: BTreeMap<String, u64>,
    /// Files whose end the kernel told last, and that are counted: it may tell them once more.
    pub counted: Box<[KernelInode]>,
    /// What could not be used, for the operator.
    pub damage: Vec<Damage>,
    /// No agent has run with this directory before. Only then may `read.start: end` skip what is
    /// there: after damage an unknown file can be one that was half read.
    pub fresh: bool,
    /// When it was written last before it was opened, by its file system's clock. None: there was none, or
    /// it was opened only to be read.
    pub written: Option<SystemTime>,
}

/// Something that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is and what follows, in a sentence.
    pub what: String,
    /// Where a copy is kept.
    pub set_aside: Option<PathBuf>,
}

impl Recovered {
    /// All that a state holds.
    pub(super) fn of(state: &State, damage: Vec<Damage>) -> Self {
        Self {
            entries: state.entries.values().map(|entry| (**entry).clone()).collect(),
            cuts: state.cuts.clone(),
            prefixes: state.prefixes.clone(),
            copies: state.copies.clone(),
            positions: state.positions.clone(),
            totals: state.totals.clone(),
            counted: state.counted.clone(),
            damage,
            fresh: false,
            written: None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.set_aside {
            Some(path) => write!(f, " The damaged file is kept as {}.", path.display()),
            None => Ok(()),
        }
    }
}

/// What is wrong with a journal, in sentences for the operator.
pub(super) fn describe(recovery: &journal::Recovery, unreadable: usize) -> String {
    let journal::Recovery { whole_len, torn_len, records, damaged, .. } = recovery;
    if let Some(version) = recovery.foreign_version {
        return format!(
            "The checkpoint was written in format version {version} and this everyline reads \
             version {}; starting without it, everything still on disk is read again.",
            journal::VERSION
        );
    }
    if whole_len + torn_len == 0 {
        return "The checkpoint is empty, which a crash alone never leaves; everything still on \
                disk is read again."
            .to_owned();
    }
    let mut what = format!(
        "The checkpoint is damaged: {records} records are good, {} stretches are not",
        damaged.len().max(usize::from(recovery.headless))
    );
    if let Some(first) = damaged.first() {
        let bytes: usize = damaged.iter().map(ExactSizeIterator::len).sum();
        what.push_str(&format!(" ({bytes} bytes, the first at byte {})", first.start));
    }
    if unreadable > 0 {
        what.push_str(&format!(", the disk could not read {unreadable} bytes"));
    }
    what.push_str("; what was acknowledged in them is sent again.");
    what
}
