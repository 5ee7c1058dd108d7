//! The limits that the kernel sets, against what was found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::{Finding, Status, survey::Survey};
use crate::{
    cli::table::bytes,
    config::{Config, WatchMode},
    descriptors, supervisor,
};

/// Memory that the agent needs besides its budget, at least.
const OTHER_MEMORY: u64 = 32 << 20;

pub(super) fn findings(config: &Config, survey: &Survey) -> Vec<Finding> {
    let mode = config.watch.mode;
    let (directories, files) = (survey.directories.len() as u64, survey.files.len() as u64);
    vec![
        watches(mode, sysctl("max_user_watches"), directories),
        instances(mode, sysctl("max_user_instances")),
        queue(mode, sysctl("max_queued_events"), files),
        open_files(getrlimit(Resource::Nofile).maximum, supervisor::sink_count(config), files),
        memory(config.memory_budget.0, cgroup_limit()),
    ]
}

fn watches(mode: WatchMode, limit: Option<u64>, directories: u64) -> Finding {
    let name = "limits.inotify_watches";
    let Some(limit) = limit else { return unknown(name, "max_user_watches") };
    let found = format!(
        "fs.inotify.max_user_watches is {limit}, for all processes of a user; {directories} \
         directories are there to be watched."
    );
    let status = match mode {
        WatchMode::Poll => Status::Ok,
        WatchMode::Inotify if directories > limit => Status::Problem,
        // Others use some of them, and pods come and go.
        _ if directories > limit / 2 => Status::Note,
        _ => Status::Ok,
    };
    Finding::ok(name, found).standing(
        status,
        "Raise the sysctl fs.inotify.max_user_watches; what finds no room is polled.",
    )
}

fn instances(mode: WatchMode, limit: Option<u64>) -> Finding {
    let name = "limits.inotify_instances";
    let Some(limit) = limit else { return unknown(name, "max_user_instances") };
    let found = format!(
        "fs.inotify.max_user_instances is {limit}, for all processes of a user; the agent needs 1."
    );
    let status = if limit == 0 && mode != WatchMode::Poll { Status::Note } else { Status::Ok };
    Finding::ok(name, found)
        .standing(status, "Raise the sysctl fs.inotify.max_user_instances; else files are polled.")
}

fn queue(mode: WatchMode, limit: Option<u64>, files: u64) -> Finding {
    let name = "limits.inotify_queue";
    let Some(limit) = limit else { return unknown(name, "max_queued_events") };
    let found =
        format!("fs.inotify.max_queued_events is {limit}, with {files} files to be watched.");
    let status = if limit < files && mode != WatchMode::Poll { Status::Note } else { Status::Ok };
    Finding::ok(name, found).standing(
        status,
        "Raise the sysctl fs.inotify.max_queued_events; when the queue overflows, every file is \
         looked at.",
    )
}

fn unknown(name: &'static str, sysctl: &str) -> Finding {
    Finding::ok(name, format!("The sysctl fs.inotify.{sysctl} cannot be read."))
}

/// `limit`: the hard one, to which the agent raises its own; None: there is none.
fn open_files(limit: Option<u64>, sinks: usize, files: u64) -> Finding {
    let name = "limits.open_files";
    let Some(limit) = limit else {
        return Finding::ok(name, format!("Nothing limits open files; {files} are to be held."));
    };
    let kept_back = descriptors::kept_back(limit, sinks);
    let found = format!(
        "{limit} files may be open at once; {files} log files are to be held, and {kept_back} \
         descriptors are kept back for the agent itself."
    );
    let needed = files + kept_back;
    let status = match () {
        () if needed > limit => Status::Problem,
        // A rotated file is held beside the new one until it is delivered.
        () if needed > limit / 2 => Status::Note,
        () => Status::Ok,
    };
    Finding::ok(name, found).standing(
        status,
        "Raise the hard limit on open files (LimitNOFILE= in the unit): files beyond it take turns, \
         and what is deleted before its turn is lost.",
    )
}

/// `limit`: the smallest of the process's control groups; None: there is none.
fn memory(budget: u64, limit: Option<u64>) -> Finding {
    let name = "limits.memory";
    let Some(limit) = limit else {
        return Finding::ok(
            name,
            format!("No control group limits memory; memory_budget is {}.", bytes(budget)),
        );
    };
    let found =
        format!("The control group allows {}; memory_budget is {}.", bytes(limit), bytes(budget),);
    let status = match budget.saturating_add(OTHER_MEMORY) {
        needed if needed > limit => Status::Problem,
        needed if needed.saturating_mul(2) > limit => Status::Note,
        _ => Status::Ok,
    };
    Finding::ok(name, found).standing(
        status,
        "Raise the limit or lower memory_budget: the agent needs some tens of MiB besides it, and \
         is killed beyond the limit.",
    )
}

fn sysctl(name: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name)).ok()?;
    text.trim().parse().ok()
}

fn cgroup_limit() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&cgroups, Path::new("/sys/fs/cgroup"))
}

/// The smallest limit of a process's control group and those above it (`cgroups(7)`); of both
/// versions, as far as they are mounted where they usually are.
fn limit_of(cgroups: &str, mount: &Path) -> Option<u64> {
    let mut limits = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = if controllers.is_empty() {
            (mount.to_owned(), "memory.max")
        } else if controllers.split(',').any(|it| it == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut group: Option<PathBuf> = Some(root.join(path.trim_start_matches('/')));
        while let Some(at) = group.filter(|at| at.starts_with(&root)) {
            let text = fs::read_to_string(at.join(file)).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>());
            group = at.parent().map(Path::to_owned);
        }
    }
    // Version 1 has a number near the largest for none.
    limits.into_iter().min().filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_short_where_directories_need_more_than_half_of_them() {
        let status = |mode, directories| watches(mode, Some(100), directories).status;
        assert_eq!(status(WatchMode::Auto, 50), Status::Ok);
        assert_eq!(status(WatchMode::Auto, 51), Status::Note);
        assert_eq!(status(WatchMode::Kernel, 101), Status::Note);
        assert_eq!(status(WatchMode::Inotify, 101), Status::Problem);
        assert_eq!(status(WatchMode::Poll, 101), Status::Ok);
        assert_eq!(watches(WatchMode::Inotify, None, 101).status, Status::Ok);
    }

    #[test]
    fn no_instance_and_a_short_queue_cost_but_lose_nothing() {
        assert_eq!(instances(WatchMode::Inotify, Some(0)).status, Status::Note);
        assert_eq!(instances(WatchMode::Inotify, Some(1)).status, Status::Ok);
        assert_eq!(queue(WatchMode::Auto, Some(16), 17).status, Status::Note);
        assert_eq!(queue(WatchMode::Auto, Some(17), 17).status, Status::Ok);
    }

    #[test]
    fn files_that_cannot_all_be_opened_are_a_problem() {
        assert_eq!(open_files(Some(1024), 1, 100).status, Status::Ok);
        assert_eq!(open_files(Some(1024), 1, 450).status, Status::Note);
        assert_eq!(open_files(Some(1024), 1, 1000).status, Status::Problem);
        assert_eq!(open_files(None, 1, 1_000_000).status, Status::Ok);
    }

    #[test]
    fn a_budget_beyond_the_control_groups_limit_is_a_problem() {
        let status = |budget: u64, limit: u64| memory(budget << 20, Some(limit << 20)).status;
        assert_eq!(status(16, 256), Status::Ok);
        assert_eq!(status(16, 64), Status::Note);
        assert_eq!(status(64, 64), Status::Problem);
        assert_eq!(memory(1 << 40, None).status, Status::Ok);
    }

    #[test]
    fn the_smallest_limit_on_the_way_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit_of("0::/a/b\n", mount.path()), Some(1000));
        assert_eq!(limit_of("0::/\n", mount.path()), None);
        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of("3:cpu:/c\n2:memory:/c\n", mount.path()), None);
        write("memory/c/memory.limit_in_bytes", "500\n");
        assert_eq!(limit_of("3:cpu:/c\n2:memory:/c\n", mount.path()), Some(500));
    }
}
