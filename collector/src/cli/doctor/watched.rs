//! What is collected, and what notices that it was written: files by filesystem and mode.

use std::collections::BTreeMap;

use super::{Finding, Status, survey::Survey};
use crate::{
    config::{Config, WatchMode},
    privileges::{DAC_READ_SEARCH, Privileges},
    watch::{Mode, Trial},
};

pub(super) fn findings(config: &Config, trial: &Trial, survey: &Survey) -> Vec<Finding> {
    let mode = config.watch.mode;
    let refused = trial.inotify.as_ref().err().map(ToString::to_string);
    vec![
        sources(survey),
        unreadable(survey),
        inotify(mode, refused.as_deref()),
        files(mode, survey),
        directories(mode, survey),
    ]
}

fn sources(survey: &Survey) -> Finding {
    let name = "sources.found";
    let Survey { directories, files, compressed, .. } = survey;
    let found = format!(
        "{}, {} to watch, {} to unpack",
        counted(directories.len(), "directory", "directories"),
        counted(files.len(), "file", "files"),
        compressed,
    );
    if files.is_empty() && *compressed == 0 {
        return Finding::note(
            name,
            format!("No log is there to be collected ({found})."),
            "Nothing needs doing if none is expected; else compare `sources` and `host_root` with \
             where logs are.",
        );
    }
    Finding::ok(name, found + ".")
}

fn unreadable(survey: &Survey) -> Finding {
    let name = "sources.readable";
    match survey.problems.len() {
        0 => Finding::ok(name, "Everything found can be listed and opened."),
        count => Finding::problem(
            name,
            format!(
                "{} what should be collected.",
                counted(count, "thing keeps the agent from", "things keep the agent from")
            ),
            unreadable_advice(Privileges::own().unwrap_or_default()),
        )
        .with(survey.problems.clone()),
    }
}

/// What is missing is not what this process has.
fn unreadable_advice(own: Privileges) -> &'static str {
    if own.has(DAC_READ_SEARCH) {
        "See each; CAP_DAC_READ_SEARCH is there, so what refuses is a security module, a user \
         namespace or the filesystem itself."
    } else {
        "See each; most of the time the agent has to run as root or with CAP_DAC_READ_SEARCH."
    }
}

fn inotify(mode: WatchMode, refused: Option<&str>) -> Finding {
    let name = "watch.inotify";
    let Some(error) = refused else {
        return Finding::ok(name, "An inotify instance is to be had.");
    };
    let status = match mode {
        WatchMode::Inotify => Status::Problem,
        WatchMode::Auto | WatchMode::Kernel => Status::Note,
        WatchMode::Poll => Status::Ok,
    };
    Finding::ok(name, format!("No inotify instance is to be had: {error}. Files are polled."))
        .standing(
            status,
            "Raise the sysctl fs.inotify.max_user_instances, or set watch.mode to poll.",
        )
}

fn files(mode: WatchMode, survey: &Survey) -> Finding {
    let all: Vec<_> =
        survey.files.iter().map(|file| (file.filesystem.clone(), file.mode)).collect();
    grouped("watch.files", ("file", "files"), mode, &all)
}

fn directories(mode: WatchMode, survey: &Survey) -> Finding {
    // Those on the way to logs are there to notice what will be, and seldom change.
    let holding = survey.directories.iter().filter(|directory| directory.holds_files);
    let all: Vec<_> = holding
        .map(|directory| (super::filesystem::name(directory.magic), directory.mode))
        .collect();
    grouped("watch.directories", ("directory", "directories"), mode, &all)
}

/// By filesystem and mode, and whether that is what the configuration asks for.
fn grouped(
    name: &'static str,
    (one, many): (&str, &str),
    wanted: WatchMode,
    all: &[(String, Mode)],
) -> Finding {
    let mut groups: BTreeMap<(Mode, &str), usize> = BTreeMap::new();
    for (filesystem, mode) in all {
        *groups.entry((*mode, filesystem)).or_default() += 1;
    }
    let groups = groups.iter().map(|((mode, filesystem), count)| {
        format!("{} on {filesystem}: {}", counted(*count, one, many), described(*mode))
    });
    let fallen = all.iter().filter(|(_, mode)| is_fallback(wanted, *mode)).count();
    let found = match (all.len(), fallen) {
        (0, _) => format!("No {one} with logs is there to be watched."),
        (_, 0) => format!("Every {one} is watched as configured."),
        (all, fallen) if all == fallen => format!("No {one} is watched by the best mechanism."),
        (all, fallen) => format!("{fallen} of {all} {many} are not watched by the best mechanism."),
    };
    let status = match wanted {
        _ if fallen == 0 => Status::Ok,
        WatchMode::Kernel => Status::Problem,
        _ => Status::Note,
    };
    let finding = Finding::ok(name, found).with(groups.collect());
    finding.standing(
        status,
        match status {
            Status::Problem => {
                "See kernel.programs and hooks.* for the reason, or set watch.mode to auto."
            }
            _ => "Nothing needs doing: what watches instead costs more CPU or notices later.",
        },
    )
}

fn is_fallback(wanted: WatchMode, mode: Mode) -> bool {
    match wanted {
        WatchMode::Auto | WatchMode::Kernel => mode != Mode::Kernel,
        WatchMode::Inotify => mode == Mode::Poll,
        WatchMode::Poll => false,
    }
}

fn described(mode: Mode) -> &'static str {
    match mode {
        Mode::Kernel => "the kernel's own tally",
        Mode::Inotify => "inotify",
        Mode::Poll => "polled",
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(wanted: WatchMode, modes: &[Mode]) -> Status {
        let all: Vec<_> = modes.iter().map(|mode| ("ext4".to_owned(), *mode)).collect();
        grouped("watch.files", ("file", "files"), wanted, &all).status
    }

    #[test]
    fn falling_back_is_a_problem_only_where_the_kernel_watch_is_asked_for() {
        use Mode::{Inotify, Kernel, Poll};
        assert_eq!(status(WatchMode::Kernel, &[Kernel, Kernel]), Status::Ok);
        assert_eq!(status(WatchMode::Kernel, &[Kernel, Inotify]), Status::Problem);
        assert_eq!(status(WatchMode::Auto, &[Kernel, Inotify]), Status::Note);
        assert_eq!(status(WatchMode::Inotify, &[Inotify]), Status::Ok);
        assert_eq!(status(WatchMode::Inotify, &[Inotify, Poll]), Status::Note);
        assert_eq!(status(WatchMode::Poll, &[Poll]), Status::Ok);
        assert_eq!(status(WatchMode::Kernel, &[]), Status::Ok);
    }

    #[test]
    fn files_are_counted_by_filesystem_and_mode() {
        let all = [("ext4", Mode::Kernel), ("overlay", Mode::Inotify), ("ext4", Mode::Kernel)];
        let all = all.map(|(filesystem, mode)| (filesystem.to_owned(), mode));
        let finding = grouped("watch.files", ("file", "files"), WatchMode::Auto, &all);
        assert_eq!(finding.found, "1 of 3 files are not watched by the best mechanism.");
        assert_eq!(
            finding.details,
            ["2 files on ext4: the kernel's own tally", "1 file on overlay: inotify"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_problem_and_nothing_to_read_is_a_note() {
        let mut survey = Survey::default();
        assert_eq!(sources(&survey).status, Status::Note);
        assert_eq!(unreadable(&survey).status, Status::Ok);
        survey.compressed = 1;
        assert_eq!(sources(&survey).status, Status::Ok);
        survey.problems.push("The file \"/a.log\" cannot be opened.".to_owned());
        let finding = unreadable(&survey);
        assert_eq!((finding.status, &finding.details), (Status::Problem, &survey.problems));
    }

    #[test]
    fn no_inotify_instance_is_a_problem_where_inotify_is_asked_for() {
        let status = |mode, refused| inotify(mode, refused).status;
        assert_eq!(status(WatchMode::Inotify, None), Status::Ok);
        assert_eq!(status(WatchMode::Inotify, Some("too many")), Status::Problem);
        assert_eq!(status(WatchMode::Auto, Some("too many")), Status::Note);
        assert_eq!(status(WatchMode::Poll, Some("too many")), Status::Ok);
    }
}
