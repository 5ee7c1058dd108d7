//! The checkpoint's content in memory, and what a change does to it. No I/O.

use std::{collections::BTreeMap, sync::Arc};

use super::{Change, CopyOf, FileEntry};
use crate::identity::{FileId, KernelInode, prefix::PrefixGuards};

/// Everything a checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Files by id.
    pub entries: BTreeMap<FileId, Box<FileEntry>>,
    /// Where files are cut; most are not.
    pub cuts: BTreeMap<FileId, Box<[u64]>>,
    /// What tells copies of lives that truncations ended.
    pub prefixes: BTreeMap<FileId, PrefixGuards>,
    /// What files are copies of; most are none.
    pub copies: BTreeMap<FileId, CopyOf>,
    /// Where sinks that truncate themselves back stand, by name.
    pub positions: BTreeMap<Arc<str>, String>,
    /// Totals that outlive the files they came from, by name.
    pub totals: BTreeMap<String, u64>,
    /// Files whose end the kernel told last, and that are counted.
    pub counted: Box<[KernelInode]>,
}

impl State {
    /// Applies one change. An offset of a file that is not known (its entry was damaged, or it was
    /// forgotten) says nothing that could be used, and is ignored: the file is read again.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::File(mut entry) => {
                // Offsets of sinks that are not configured now are kept: they may come back.
                if let Some(known) = self.entries.get(&entry.id) {
                    for (sink, offset) in known.sinks.iter() {
                        if !entry.sinks.contains_key(sink) {
                            entry.sinks.insert(Arc::clone(sink), *offset);
                        }
                    }
                }
                self.entries.insert(entry.id, entry);
            }
            Change::Offset { file, sink, offset, size } => {
                let Some(entry) = self.entries.get_mut(&file) else { return };
                entry.size = size;
                entry.sinks.insert(sink, offset);
            }
            Change::Cuts { file, at } => {
                if at.is_empty() {
                    self.cuts.remove(&file);
                } else if self.entries.contains_key(&file) {
                    self.cuts.insert(file, at);
                }
            }
            Change::Prefixes { file, guards } => {
                if self.entries.contains_key(&file) {
                    self.prefixes.insert(file, guards);
                }
            }
            Change::Copy { file, of } => {
                if self.entries.contains_key(&file) {
                    self.copies.insert(file, of);
                }
            }
            Change::Forget(file) => {
                self.entries.remove(&file);
                self.cuts.remove(&file);
                self.prefixes.remove(&file);
                self.copies.remove(&file);
            }
            Change::Position { sink, position } => {
                self.positions.insert(sink, position);
            }
            Change::Total { name, value } => {
                self.totals.insert(name, value);
            }
            Change::Counted(files) => self.counted = files,
        }
    }

    /// The positions that `changes` must carry besides their own: those of sinks whose offsets they
    /// hold (see the invariant in the module's documentation).
    pub(super) fn positions_owed(&self, changes: &[Change]) -> Vec<Change> {
        let given: Vec<&Arc<str>> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Position { sink, .. } => Some(sink),
                _ => None,
            })
            .collect();
        let holds_offset_of = |sink: &Arc<str>| {
            changes.iter().any(|change| match change {
                Change::File(entry) => entry.sinks.contains_key(sink),
                Change::Offset { sink: moved, .. } => moved == sink,
                Change::Cuts { .. }
                | Change::Prefixes { .. }
                | Change::Copy { .. }
                | Change::Forget(_)
                | Change::Position { .. }
                | Change::Counted(_)
                | Change::Total { .. } => false,
            })
        };
        self.positions
            .iter()
            .filter(|(sink, _)| !given.contains(sink) && holds_offset_of(sink))
            .map(|(sink, position)| position_change(sink, position))
            .collect()
    }

    /// The state as groups of changes, each to be one record and each with every position and total.
    pub(super) fn as_records(&self, files_per_record: usize) -> impl Iterator<Item = Vec<Change>> {
        let shared = || {
            let positions = self.positions.iter().map(|(sink, at)| position_change(sink, at));
            let totals = self
                .totals
                .iter()
                .map(|(name, value)| Change::Total { name: name.clone(), value: *value });
            positions.chain(totals).collect::<Vec<_>>()
        };
        let mut entries = self.entries.values().peekable();
        let mut first = true;
        std::iter::from_fn(move || {
            if entries.peek().is_none() && !first {
                return None;
            }
            let mut record = shared();
            if first && !self.counted.is_empty() {
                record.push(Change::Counted(self.counted.clone()));
            }
            first = false;
            for entry in entries.by_ref().take(files_per_record) {
                record.push(Change::File(entry.clone()));
                let cuts = self.cuts.get(&entry.id).cloned();
                record.extend(cuts.map(|at| Change::Cuts { file: entry.id, at }));
                let guards = self.prefixes.get(&entry.id).copied();
                record.extend(guards.map(|guards| Change::Prefixes { file: entry.id, guards }));
                let copy = self.copies.get(&entry.id).copied();
                record.extend(copy.map(|of| Change::Copy { file: entry.id, of }));
            }
            Some(record)
        })
        .filter(|record| !record.is_empty())
    }
}

fn position_change(sink: &Arc<str>, position: &str) -> Change {
    Change::Position { sink: Arc::clone(sink), position: position.to_owned() }
}
