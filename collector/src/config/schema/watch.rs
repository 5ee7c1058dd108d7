//! How changes are noticed.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::Span;

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Which mechanism.
    pub mode: WatchMode,
    /// How often polled files and directories are looked at.
    pub poll_interval: Span,
    /// How often everything is looked at, whatever the mode (writes that nothing notices: mmap,
    /// network filesystems).
    pub sweep_interval: Span,
    /// The kernel watch.
    pub kernel: KernelWatch,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            mode: WatchMode::Auto,
            poll_interval: Span(Duration::from_millis(250)),
            sweep_interval: Span(Duration::from_secs(5)),
            kernel: KernelWatch::default(),
        }
    }
}

/// Which mechanism notices changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    /// The best that works here.
    #[default]
    Auto,
    /// The kernel's own tally, inotify where it does not reach.
    Kernel,
    /// inotify, polling what it cannot cover.
    Inotify,
    /// Polling only.
    Poll,
}

/// The kernel watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelWatch {
    /// Which kind of hook sees writes.
    pub hook: KernelHook,
    /// Where programs and tallies are pinned (a bpffs), to go on while no agent runs.
    pub pin_dir: PathBuf,
    /// Files and directories watched at most; the rest is left to inotify.
    pub max_files: u32,
}

impl Default for KernelWatch {
    fn default() -> Self {
        let pin_dir = "/sys/fs/bpf/everyline".into();
        Self { hook: KernelHook::Auto, pin_dir, max_files: collector_ebpf::SLOTS }
    }
}

/// Which kind of hook sees writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum KernelHook {
    /// The best that the kernel takes.
    #[default]
    Auto,
    /// The end of the filesystem's write function.
    Fexit,
    /// The filesystem's tracepoints.
    Tracepoint,
}

impl std::fmt::Display for KernelHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fexit => "fexit",
            Self::Tracepoint => "tracepoint",
        })
    }
}
