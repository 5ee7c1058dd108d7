//! What came of trying a filesystem's hooks: which is at work, and why no better one is.
//!
//! The agent's log and `everyline doctor` tell it; here it is only held.

use std::fmt;

use serde::Serialize;

use collector_ebpf::{CHECKS, OWN};

use crate::config::KernelHook;

/// One filesystem's hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// As the kernel calls it.
    pub filesystem: &'static str,
    /// Its number (`linux/magic.h`).
    #[serde(skip)]
    pub magic: u64,
    /// What sees writes; None: the kernel watches none of its files.
    pub hook: Option<KernelHook>,
    /// Whether that is one that any filesystem's writes pass.
    pub any: bool,
    /// Whether changes of its directories are seen.
    pub directories: bool,
    /// What was tried before, in that order.
    pub refused: Vec<RefusedHook>,
}

/// Programs that only together do something, and that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedHook {
    /// What they would have seen.
    pub sees: Sees,
    /// Their kind.
    pub hook: KernelHook,
    /// Why not.
    pub why: String,
}

/// What programs see of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sees {
    /// Bytes written to files.
    Writes,
    /// Truncation, and files' ends.
    Ends,
    /// Changes of directories.
    Directories,
}

/// A filesystem that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) name: &'static str,
    pub(super) magic: u64,
    pub(super) hook: KernelHook,
    /// Whether the hook is one that any filesystem's writes pass.
    pub(super) any: bool,
    pub(super) directories: bool,
}

impl Active {
    /// Which of the programs count writes of its files, as slots have it.
    pub(super) fn slot_hook(&self) -> u16 {
        if self.any { CHECKS } else { OWN }
    }

    /// Whether they run once the inode's lock is given back: at the end of `write_iter` it is.
    pub(super) fn unlocked(&self) -> bool {
        self.hook == KernelHook::Fexit && !self.any
    }
}

impl HookReport {
    pub(super) fn new(filesystem: &'static str, magic: u64) -> Self {
        let (hook, any, directories, refused) = (None, false, false, Vec::new());
        Self { filesystem, magic, hook, any, directories, refused }
    }

    /// What is at work, if anything is.
    pub(super) fn active(&self) -> Option<Active> {
        let Self { filesystem: name, magic, hook, any, directories, refused: _ } = *self;
        Some(Active { name, magic, hook: hook?, any, directories })
    }

    /// Why nothing better is at work, for the agent's log.
    pub(super) fn say_refusals(&self) {
        for refused in &self.refused {
            tracing::debug!(filesystem = self.filesystem, "The kernel refuses a hook: {refused}.");
        }
    }
}

impl From<&Active> for HookReport {
    fn from(active: &Active) -> Self {
        let Active { name: filesystem, magic, hook, any, directories } = *active;
        Self { filesystem, magic, hook: Some(hook), any, directories, refused: Vec::new() }
    }
}

impl fmt::Display for RefusedHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sees, hook, why } = self;
        write!(f, "{hook} for {sees}: {why}")
    }
}

impl fmt::Display for Sees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writes => "writes",
            Self::Ends => "truncation and ends",
            Self::Directories => "directories",
        })
    }
}

/// All refusals in one line, for an error.
pub(super) fn refusals(reports: &[HookReport]) -> String {
    let of_one = |report: &HookReport| {
        let refused: Vec<_> = report.refused.iter().map(ToString::to_string).collect();
        format!("{}: {}", report.filesystem, refused.join("; "))
    };
    reports.iter().map(of_one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_every_filesystem_and_every_refusal() {
        let mut report = HookReport::new("ext4", 1);
        for (sees, hook) in
            [(Sees::Writes, KernelHook::Fexit), (Sees::Ends, KernelHook::Tracepoint)]
        {
            report.refused.push(RefusedHook { sees, hook, why: "no".to_owned() });
        }
        assert_eq!(report.active(), None);
        assert_eq!(
            refusals(&[report, HookReport::new("xfs", 2)]),
            "ext4: fexit for writes: no; tracepoint for truncation and ends: no; xfs: "
        );
    }

    #[test]
    fn what_an_earlier_agent_left_at_work_is_reported_too() {
        let (hook, directories) = (KernelHook::Tracepoint, true);
        let active = Active { name: "ext4", magic: 1, hook, any: false, directories };
        assert_eq!(HookReport::from(&active).active(), Some(active));
    }
}
