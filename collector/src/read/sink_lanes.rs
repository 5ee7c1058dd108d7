//! One sink's side of a reader: its lanes, and the tails that wait for memory.

use std::io;

use super::reader::TailId;
use crate::batch::{
    budget::Freed,
    compress::Compressor,
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
    /// The lanes of the first thread.
    pub(super) fn new(outlet: &Outlet) -> io::Result<Self> {
        let encoding = &outlet.encoding;
        let count = encoding.lanes.max(1);
        Ok(Self {
            lanes: (0..count).map(|n| Lane::new(n, outlet)).collect(),
            compressor: Compressor::new(encoding.compression, encoding.level)?,
            outlet: outlet.clone(),
            stalled: (0..count).map(|_| Vec::new()).collect(),
        })
    }

    /// Numbers them apart from other threads'.
    pub(super) fn number(&mut self, thread: u32) {
        let count = self.lanes.len() as u32;
        self.lanes = (0..count).map(|n| Lane::new(thread * count + n, &self.outlet)).collect();
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
