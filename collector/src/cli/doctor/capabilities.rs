//! What this process may do, and what falls back where it may not.
//!
//! Only says what the kernel shows of this process; whether it suffices (a user namespace, a
//! security module) shows where it is tried.

use super::{Finding, Status};
use crate::{
    config::WatchMode,
    identity::beneath::{self, Way},
    privileges::{BPF, DAC_READ_SEARCH, PERFMON, Privileges, SYS_ADMIN},
};

const GIVE: &str = "Give the agent CAP_BPF and CAP_PERFMON, or set watch.mode to inotify.";

pub(super) fn findings(mode: WatchMode) -> Vec<Finding> {
    let mut findings = match Privileges::own() {
        Some(own) => of(mode, own),
        None => vec![Finding::note(
            "capabilities",
            "/proc/self/status does not tell this process's capabilities.",
            "Mount /proc.",
        )],
    };
    findings.push(links(beneath::way()));
    findings
}

fn of(mode: WatchMode, own: Privileges) -> Vec<Finding> {
    let has = |number: u32| own.has(number);
    let for_programs = |name, title: &str, number, without: &str| {
        if has(number) {
            Finding::ok(name, format!("This process has {title}."))
        } else if has(SYS_ADMIN) {
            Finding::ok(name, format!("{title} is missing; CAP_SYS_ADMIN does instead."))
        } else {
            let found = format!("{title} is missing: {without}; inotify watches instead.");
            Finding::ok(name, found).standing(Status::of_no_kernel_watch(mode), GIVE)
        }
    };
    vec![
        for_programs("capabilities.bpf", "CAP_BPF", BPF, "the kernel takes no programs"),
        for_programs(
            "capabilities.perfmon",
            "CAP_PERFMON",
            PERFMON,
            "programs may not be attached",
        ),
        sys_admin(has(SYS_ADMIN)),
        dac_read_search(has(DAC_READ_SEARCH)),
        seccomp(own.filtered),
    ]
}

/// Both ways are as strict.
fn links(way: Way) -> Finding {
    Finding::ok(
        "links",
        match way {
            Way::Openat2 => {
                "Logs are opened by openat2(2), which follows no link on the way to them."
            }
            Way::Names => {
                "openat2(2) is refused here (Linux before 5.6, or a seccomp profile): logs are opened name by \
                 name, which follows no link on the way to them either."
            }
        },
    )
}

/// Whether a filter refuses anything that is needed shows where it is tried.
fn seccomp(filtered: bool) -> Finding {
    let found = if filtered {
        "A seccomp filter looks at this process's system calls; it may refuse some whatever the capabilities."
    } else {
        "No seccomp filter is in force."
    };
    Finding::ok("seccomp", found)
}

fn sys_admin(has: bool) -> Finding {
    let found = if has {
        "This process has CAP_SYS_ADMIN; CAP_BPF and CAP_PERFMON would do."
    } else {
        "CAP_SYS_ADMIN is missing, and not needed: CAP_BPF and CAP_PERFMON do."
    };
    Finding::ok("capabilities.sys_admin", found)
}

fn dac_read_search(has: bool) -> Finding {
    let name = "capabilities.dac_read_search";
    if has {
        return Finding::ok(name, "This process has CAP_DAC_READ_SEARCH.");
    }
    Finding::note(
        name,
        "CAP_DAC_READ_SEARCH is missing: logs of other owners may not be readable, and a file that \
         was moved while no agent ran is found by listing only, not by its handle.",
        "Give it to the agent, unless what it allows weighs more (see SECURITY.md).",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(mode: WatchMode, numbers: &[u32]) -> [Status; 5] {
        let effective = numbers.iter().fold(0, |all, number| all | 1 << number);
        let findings = of(mode, Privileges { effective, filtered: false });
        findings.iter().map(|finding| finding.status).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn missing_capabilities_fall_back_and_one_may_stand_for_others() {
        use Status::{Note, Ok, Problem};
        let all = [DAC_READ_SEARCH, SYS_ADMIN, PERFMON, BPF];
        assert_eq!(statuses(WatchMode::Kernel, &all), [Ok; 5]);
        assert_eq!(statuses(WatchMode::Kernel, &[BPF, PERFMON, DAC_READ_SEARCH]), [Ok; 5]);
        assert_eq!(statuses(WatchMode::Kernel, &[SYS_ADMIN, DAC_READ_SEARCH]), [Ok; 5]);
        assert_eq!(statuses(WatchMode::Kernel, &[]), [Problem, Problem, Ok, Note, Ok]);
        assert_eq!(statuses(WatchMode::Auto, &[BPF]), [Ok, Note, Ok, Note, Ok]);
        assert_eq!(statuses(WatchMode::Inotify, &[]), [Ok, Ok, Ok, Note, Ok]);
    }
}
