//! The configuration's shape and its defaults. Keys and their documentation are written once, here
//! and in the files beside this one, a file for each part of the agent.

mod agent;
mod read;
mod sinks;
mod sources;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ByteSize, Span};
pub use agent::*;
pub use read::*;
pub use sinks::*;
pub use sources::*;
pub use watch::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name in every record. Empty: the environment's NODE_NAME, else the host's name.
    pub node_name: String,
    /// Where checkpoints, the lock and the archive live.
    pub state_dir: PathBuf,
    /// Where the host's root is mounted; log paths below are looked up under it.
    pub host_root: PathBuf,
    /// Where logs are.
    pub sources: Sources,
    /// How they are read.
    pub read: Read,
    /// How changes are noticed.
    pub watch: Watch,
    /// How records are grouped.
    pub batch: Batch,
    /// Bytes that may be between reader and acknowledgement, all sinks together.
    pub memory_budget: ByteSize,
    /// How often acknowledged offsets are made durable.
    pub checkpoint_interval: Span,
    /// How long a stopping agent goes on delivering what it has read.
    pub drain_timeout: Span,
    /// Where records go, by name. None configured: an archive under the state directory.
    pub sinks: BTreeMap<String, Sink>,
    /// Metrics, health and status over HTTP.
    pub admin: Admin,
    /// The agent's own log (standard error).
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            state_dir: "/var/lib/everyline".into(),
            host_root: "/".into(),
            sources: Sources::default(),
            read: Read::default(),
            watch: Watch::default(),
            batch: Batch::default(),
            memory_budget: ByteSize(16 * MIB),
            checkpoint_interval: Span(Duration::from_secs(1)),
            drain_timeout: Span(Duration::from_secs(25)),
            sinks: BTreeMap::new(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }
}

/// How records are grouped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Bytes before compression.
    pub max_bytes: ByteSize,
    /// Records.
    pub max_lines: u32,
    /// Age of the first record; 0: as soon as nothing is left to read. Lines that are written without
    /// pause are looked for twice in that time, where the kernel watches.
    pub max_age: Span,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_bytes: ByteSize(MIB), max_lines: 10_000, max_age: Span(Duration::from_secs(1)) }
    }
}
