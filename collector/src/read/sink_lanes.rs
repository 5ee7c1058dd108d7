//! One sink's side of a reader: its lanes, and the tails that wait for memory.

use std::io;

use super::tail::TailId;
use crate::batch::{
    budget::Freed,
    compress::Compressor,
    encoding::Grouping,
    lane::{Lane, Outlet, lane_of},
};

/// One sink's side of a reader.
pub(super) struct SinkLanes {
    pub(super) outlet: Outlet,
    pub(super) lanes: Vec<Lane>,
    pub(super) compressor: Compressor,
    /// Tails that wait for the sink's budget, by lane.
    pub(super) stalled: Box<[Vec<TailId>]>,
}

impl SinkLanes {
    /// The side of the reader thread of this number; no other thread has lanes of these numbers.
    pub(super) fn new(outlet: Outlet, thread: u32) -> io::Result<Self> {
        let encoding = &outlet.encoding;
        let count = encoding.lanes.max(1);
        Ok(Self {
            lanes: (0..count).map(|n| Lane::new(thread * count + n, &outlet)).collect(),
            compressor: Compressor::new(encoding.compression, encoding.level)?,
            stalled: (0..count).map(|_| Vec::new()).collect(),
            outlet,
        })
    }

    /// Seals what the lanes hold.
    pub(super) fn seal(&mut self) {
        for lane in &mut self.lanes {
            if let Err(error) = lane.seal(&self.outlet, &mut self.compressor) {
                tracing::error!(%error, "Compressing a batch failed; its lines are read again at the next start.");
            }
        }
    }

    /// Other bounds for the batches that are begun from now on.
    pub(super) fn regroup(&mut self, grouping: &Grouping) {
        self.outlet.encoding.regroup(grouping);
        for lane in &mut self.lanes {
            lane.regroup(&self.outlet);
        }
    }

    /// Whether a tail waits for memory.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.iter().any(|stalled| !stalled.is_empty())
    }

    /// Seals one lane's batch.
    pub(super) fn seal_lane(&mut self, lane: usize) -> io::Result<()> {
        self.lanes[lane].seal(&self.outlet, &mut self.compressor)
    }

    /// The tail waits until its lane has room.
    pub(super) fn stall(&mut self, id: TailId) {
        let lane = lane_of(id.0, self.lanes.len() as u32);
        self.stalled[lane as usize].push(id);
    }

    /// The tails that can go on; they wait no more.
    pub(super) fn take_stalled(&mut self, freed: Freed) -> Vec<TailId> {
        let freed = |lane: &Lane| freed == Freed::All || freed == Freed::Lane(lane.number());
        let lanes = self.lanes.iter().zip(&mut self.stalled).filter(|(lane, _)| freed(lane));
        lanes.flat_map(|(_, stalled)| std::mem::take(stalled)).collect()
    }
}
