//! What the fuzz targets do: each takes any bytes, and panics where a property does not hold.
//!
//! One module a target; `fuzz_targets` hands them to the fuzzer, and `collector/tests/fuzz_corpora.rs`
//! replays the seeds without one. An input is a line of choices and the content: see [`input`].

use std::path::{Path, PathBuf};

pub mod config;
pub mod cri;
pub mod docker_json;
pub mod frames;
pub mod globs;
pub mod http_reply;
pub mod input;
pub mod joiner;
pub mod journal;
pub mod lines;
pub mod times;

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("config", config::run),
    ("cri", cri::run),
    ("docker_json", docker_json::run),
    ("frames", frames::run),
    ("globs", globs::run),
    ("http_reply", http_reply::run),
    ("joiner", joiner::run),
    ("journal", journal::run),
    ("times", times::run),
];

/// A target's directory in this process, in memory if there is such a filesystem. Whoever ran the target removes it: a
/// fuzzer ends without a word.
pub fn scratch(target: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("everyline-fuzz-{target}-{}", std::process::id()))
}
