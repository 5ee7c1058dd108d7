//! A model agent. It acknowledges bytes, commits as the supervisor does, and remembers the truth.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;

use crate::{
    checkpoint::{Change, FileEntry, Offset, Offsets, State},
    identity::{FileId, KernelInode, guard::Guard, sys::Handle},
};

/// The sink with a position: the number of bytes acknowledged to it, over all files.
pub(super) const POSITIONED: &str = "file";
pub(super) const PLAIN: &str = "http";

/// What an agent does between two commits. Files go by their turn, modulo those that live.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Discover,
    Acknowledge { file: usize, positioned: bool, bytes: u64 },
    Rotate { file: usize },
    Forget { file: usize },
    Count { value: u64 },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Discover),
        8 => (any::<usize>(), any::<bool>(), 1..100_000_u64)
            .prop_map(|(file, positioned, bytes)| Op::Acknowledge { file, positioned, bytes }),
        3 => any::<usize>().prop_map(|file| Op::Rotate { file }),
        1 => any::<usize>().prop_map(|file| Op::Forget { file }),
        1 => any::<u64>().prop_map(|value| Op::Count { value }),
    ]
}

pub(super) fn commits() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 1..5), 1..25)
}

/// A fixed history that holds every kind of change, and offsets moved by file entries alone.
pub(super) fn sample_commits() -> Vec<Vec<Op>> {
    let acknowledge = |file, positioned, bytes| Op::Acknowledge { file, positioned, bytes };
    vec![
        vec![Op::Discover, Op::Discover],
        vec![acknowledge(0, true, 500), acknowledge(1, true, 70)],
        vec![acknowledge(0, true, 900), acknowledge(0, false, 1300)],
        vec![Op::Rotate { file: 0 }],
        vec![Op::Discover, Op::Count { value: 77 }],
        vec![acknowledge(2, true, 40)],
        vec![Op::Rotate { file: 1 }, Op::Rotate { file: 2 }],
        vec![acknowledge(1, false, 99)],
        vec![Op::Forget { file: 0 }],
        vec![acknowledge(0, true, 1_000_000)],
        vec![Op::Rotate { file: 0 }],
    ]
}

#[derive(Default)]
pub(super) struct World {
    alive: Vec<FileEntry>,
    born: u64,
    position: u64,
    /// The truth: how far each file was ever acknowledged, per sink.
    acknowledged: BTreeMap<(FileId, &'static str), u64>,
    /// The positioned sink's position right after a file's offset became this.
    position_at: BTreeMap<(FileId, u64), u64>,
}

impl World {
    /// Lives through `ops` and says what to commit.
    pub(super) fn live(&mut self, ops: &[Op]) -> Vec<Change> {
        ops.iter().flat_map(|op| self.step(op)).collect()
    }

    fn step(&mut self, op: &Op) -> Vec<Change> {
        match *op {
            Op::Discover => {
                self.born += 1;
                let entry = entry(self.born);
                self.alive.push(entry.clone());
                vec![Change::File(Box::new(entry))]
            }
            Op::Count { value } => {
                let gone = KernelInode { inode: value, device: 1, generation: value as u32 };
                let total = Change::Total { name: "lost.deleted".into(), value };
                vec![total, Change::Counted([gone].into())]
            }
            Op::Acknowledge { .. } | Op::Rotate { .. } | Op::Forget { .. }
                if self.alive.is_empty() =>
            {
                Vec::new()
            }
            Op::Forget { file } => {
                vec![Change::Forget(self.alive.remove(file % self.alive.len()).id)]
            }
            Op::Rotate { file } => {
                let count = self.alive.len();
                let entry = &mut self.alive[file % count];
                entry.name = format!("0.log.{}", entry.name.len()).into();
                entry.ended = true;
                vec![Change::File(Box::new(entry.clone()))]
            }
            Op::Acknowledge { file, positioned, bytes } => {
                self.acknowledge(file, positioned, bytes)
            }
        }
    }

    fn acknowledge(&mut self, file: usize, positioned: bool, bytes: u64) -> Vec<Change> {
        let count = self.alive.len();
        let entry = &mut self.alive[file % count];
        let sink = if positioned { POSITIONED } else { PLAIN };
        let mut offset = entry.sinks.get(sink).copied().unwrap_or_default();
        offset.settled += bytes;
        offset.resume = offset.settled - bytes % 3;
        offset.guard = guard_of(offset.settled);
        entry.sinks.insert(sink.into(), offset);
        entry.size = entry.size.max(offset.settled);
        let (file, size) = (entry.id, entry.size);
        self.acknowledged.insert((file, sink), offset.settled);
        let moved = Change::Offset { file, sink: sink.into(), offset, size };
        if !positioned {
            return vec![moved];
        }
        self.position += bytes;
        self.position_at.insert((file, offset.settled), self.position);
        let position = self.position.to_string();
        vec![moved, Change::Position { sink: sink.into(), position }]
    }

    /// What must hold of whatever is recovered, however little it is.
    pub(super) fn check_safe(&self, state: &State) -> Result<(), String> {
        let position: u64 = match state.positions.get(POSITIONED) {
            Some(text) => text.parse().map_err(|error| format!("position {text}: {error}"))?,
            None => 0,
        };
        if position > self.position {
            return Err(format!("position {position} was never reached"));
        }
        for (id, entry) in &state.entries {
            for (sink, offset) in entry.sinks.iter() {
                let sink = if **sink == *POSITIONED { POSITIONED } else { PLAIN };
                let truth = self.acknowledged.get(&(*id, sink)).copied().unwrap_or(0);
                if offset.settled > truth || offset.resume > offset.settled {
                    return Err(format!("{id} {sink}: {offset:?} where {truth} is acknowledged"));
                }
                if offset.guard != guard_of(offset.settled) {
                    return Err(format!("{id} {sink}: {offset:?} has another offset's guard"));
                }
                let needed = self.position_at.get(&(*id, offset.settled)).copied().unwrap_or(0);
                if sink == POSITIONED && needed > position {
                    return Err(format!(
                        "{id}: offset {} was reached at position {needed}, the sink is cut back \
                         to {position}",
                        offset.settled
                    ));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn entry(number: u64) -> FileEntry {
    FileEntry {
        id: FileId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        source: PathBuf::from(format!(
            "/var/log/pods/default_web-{number}_uid/app \"\u{1b}\n\u{fffd}/0.log"
        ))
        .into(),
        name: "0.log".into(),
        device: 2049,
        inode: number,
        born_ns: -1,
        handle: number.is_multiple_of(2).then(|| Handle::new(1, &number.to_be_bytes())),
        epoch: 0,
        fingerprint: u64::MAX - number,
        fingerprint_len: 1024,
        crc: 0,
        truncated: 0,
        size: 0,
        ended: false,
        sinks: Offsets::default(),
    }
}

/// The guard of an offset: another for each, so that a pair that does not belong together is seen.
pub(super) fn guard_of(settled: u64) -> Guard {
    if settled == 0 { Guard::NONE } else { Guard::of(&settled.to_le_bytes()) }
}

/// A change that moves one file's offset.
pub(super) fn moved(number: u64, sink: &str, settled: u64) -> Change {
    Change::Offset {
        file: entry(number).id,
        sink: sink.into(),
        offset: Offset { settled, resume: settled, dropped: 0, lost: 0, guard: guard_of(settled) },
        size: settled,
    }
}
