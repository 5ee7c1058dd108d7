//! What the settling thread is told besides receipts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    checkpoint::FileEntry,
    identity::FileId,
    ledger::FileAccount,
    reason::{Reason, Unknown},
    watch::Counted,
};

/// What the settling thread is told besides receipts.
pub enum Command {
    /// Forget these files: finished, and gone from disk.
    Forget(Vec<FileId>),
    /// This file is gone, and what is open of it is lost.
    Lose(Box<FileEntry>, Reason),
    /// A truncation ended this life, and what was read of it is settled. What was not is lost, but for
    /// what copies hold: up to `copied`, or all together so much.
    CutOff {
        /// The account of the life that ended.
        account: Arc<FileAccount>,
        /// The end of what a copy holds of this life.
        copied: u64,
        /// Bytes of lives in between, of which nobody but a copy knew.
        read_anew: u64,
    },
    /// Files are gone that nobody had ever opened.
    Went(Went),
    /// This file is known, though nothing of it is to be sent.
    Keep(Arc<FileAccount>),
    /// Whatever was known at the start has been found or given up by now.
    Complete,
    /// Something could not be known (a word that says why): what is stated is the least.
    Unknown(Unknown),
    /// Commit this often from now on.
    Interval(Duration),
    /// Look at every file's entry: sinks were added.
    Refresh,
    /// The sink in this slot is new; what it skips of the files that are there is to be booked.
    Joined(u16),
    /// So is what the sink in this slot skips of this file.
    Skipped(Arc<FileAccount>, u16),
    /// Settle everything that the sink in this slot has acknowledged, and say where it stands.
    Stand {
        /// Its slot. Nothing acts for it now.
        sink: u16,
        /// Where it stands if it never committed anything.
        first: Option<String>,
        /// Its position.
        reply: oneshot::Sender<Option<String>>,
    },
    /// What holds together: all of it becomes durable in one commit.
    Together(Vec<Command>),
    /// Commit everything and end.
    Stop,
}

/// Files that nobody had ever opened are gone. All of it is made durable in one step: what is, the
/// kernel need not tell again.
#[derive(Default)]
pub struct Went {
    /// Their paths, how much of each is lost, and why.
    pub lost: Vec<(PathBuf, u64, Reason)>,
    /// What could not be known.
    pub unknown: Vec<Unknown>,
    /// What is to be forgotten once this is durable.
    pub counted: Option<Counted>,
}
