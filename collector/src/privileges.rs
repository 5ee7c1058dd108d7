//! Privileges: what the kernel shows of this process's rights. Whether they suffice (a user namespace, a
//! security module) shows only where something is tried.

use std::{fs, io};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Numbers of capabilities (`linux/capability.h`).
pub const DAC_READ_SEARCH: u32 = 2;
/// What did for BPF before there were capabilities for it.
pub const SYS_ADMIN: u32 = 21;
/// To attach programs and to have them read kernel memory.
pub const PERFMON: u32 = 38;
/// To load programs.
pub const BPF: u32 = 39;

/// This process's rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The effective capabilities, a bit each.
    pub effective: u64,
    /// A seccomp filter looks at its system calls.
    pub filtered: bool,
}

/// Has nobody read this process's memory, in which tokens and passwords are: no core file is written, whether into a directory
/// or through a program (`kernel.core_pattern`), and no other process of the same user may look (`/proc/PID/mem`,
/// `/proc/PID/environ`, a debugger).
///
/// # Errors
/// The kernel refuses.
pub fn keep_memory_private() -> io::Result<()> {
    // The limit alone does not hold where cores go to a program.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

impl Privileges {
    /// This process's; `None` if /proc does not tell.
    pub fn own() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let effective = u64::from_str_radix(value("CapEff:")?.trim(), 16).ok()?;
        Some(Self { effective, filtered: value("Seccomp:").is_some_and(|mode| mode.trim() == "2") })
    }

    /// Whether it has the capability of this number.
    pub fn has(self, number: u32) -> bool {
        self.effective & (1 << number) != 0
    }

    /// Whether nothing is missing for the kernel watch.
    pub fn may_load_programs(self) -> bool {
        self.has(SYS_ADMIN) || self.has(BPF) && self.has(PERFMON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let all = "Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let all = Privileges::parse(all).unwrap();
        assert!(all.filtered && all.has(BPF) && all.may_load_programs());
        let two = Privileges::parse("CapEff:\t000000c000000000\nSeccomp:\t0\n").unwrap();
        assert!(two.may_load_programs() && !two.has(SYS_ADMIN) && !two.filtered);
        let one = Privileges::parse("CapEff:\t0000008000000000\n").unwrap();
        assert!(!one.may_load_programs());
        assert_eq!(Privileges::parse("Name:\tx\n"), None);
        assert!(Privileges::own().is_some());
    }
}
