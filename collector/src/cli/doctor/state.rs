//! The state directory, who holds it, and what is pinned for it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use rustix::fs::statvfs;

use super::Finding;
use crate::{
    checkpoint::{LockError, STATE_FILES, StateLock, Usable, nearest, usable_as_own},
    cli::table::bytes,
    config::{self, Config, Sink, WatchMode},
    ownership,
    watch::{Pinned, pinned},
};

/// What checkpoints need at least, while one is being rewritten.
const LEAST_ROOM: u64 = 16 << 20;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let dir = &config.state_dir;
    let holder = StateLock::holder(dir);
    let running = matches!(holder, Ok(Some(_)));
    let mut findings = vec![directory(dir), agent(dir, holder)];
    if let Some(there) = nearest(dir) {
        findings.extend(statvfs(there).ok().map(|about| {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            // A filesystem that does not count files says that it has none.
            let full = about.f_files > 0 && about.f_favail == 0;
            room(dir, free, full, growth(config))
        }));
    }
    findings.push(pins(config.watch.mode, running, pinned(config)));
    findings
}

fn directory(dir: &Path) -> Finding {
    let name = "state.directory";
    let shown = dir.display();
    let usable = usable_as_own(dir, STATE_FILES).and_then(|(how, remark)| match how {
        Usable::Written => try_to_write(dir).map(|()| (how, remark)),
        Usable::Made => Ok((how, remark)),
    });
    match usable {
        Ok((_, Some(remark))) => Finding::note(
            name,
            remark,
            "Take the right to write there away from others: chmod o-w, or another directory.",
        ),
        Ok((Usable::Written, None)) => Finding::ok(name, format!("{shown} can be written to.")),
        Ok((Usable::Made, None)) => {
            Finding::ok(name, format!("{shown} does not exist yet and can be made."))
        }
        Err(error) => Finding::problem(
            name,
            format!("{shown} cannot be used: {error}. Without it the agent does not start."),
            LockError::advice(&error),
        ),
    }
}

/// Makes a file, has it on the disk, and removes it.
fn try_to_write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("doctor.{}", std::process::id()));
    let mut file = ownership::create(&path, ownership::PRIVATE)?;
    let written = file.write_all(b"x").and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}

fn agent(dir: &Path, holder: io::Result<Option<Option<u32>>>) -> Finding {
    let name = "state.agent";
    let dir = dir.display();
    match holder {
        Ok(None) => Finding::ok(name, format!("No agent runs with {dir}.")),
        Ok(Some(Some(pid))) => {
            Finding::ok(name, format!("An agent runs with {dir}: process {pid}."))
        }
        Ok(Some(None)) => Finding::ok(name, format!("An agent runs with {dir}.")),
        Err(error) => Finding::note(
            name,
            format!("Whether an agent runs with {dir} cannot be told: {error}."),
            "Ask again as the user that the agent runs as.",
        ),
    }
}

/// `growth`: bytes by which archives below the state directory may still grow.
fn room(dir: &Path, free: u64, full: bool, growth: u64) -> Finding {
    let name = "state.room";
    let dir = dir.display();
    if full {
        return Finding::problem(
            name,
            format!("The filesystem of {dir} has no room for one more file."),
            "Remove some files there, or set state_dir to another disk.",
        );
    }
    let found = format!("{} are free for {dir}.", bytes(free));
    if free < LEAST_ROOM {
        return Finding::problem(
            name,
            found,
            "Free some space: offsets are not durable without it, and lines are sent again.",
        );
    }
    if free - LEAST_ROOM < growth {
        return Finding::note(
            name,
            format!("{found} The archive there may still grow by {}.", bytes(growth)),
            "Free some space or lower the archive's max_bytes: on a full disk collection waits.",
        );
    }
    Finding::ok(name, found)
}

fn growth(config: &Config) -> u64 {
    let default = config::Archive::default();
    let mut archives: Vec<&config::Archive> = config
        .sinks
        .values()
        .filter_map(|sink| match sink {
            Sink::Archive(archive) => Some(archive),
            _ => None,
        })
        .collect();
    if config.sinks.is_empty() {
        archives.push(&default);
    }
    let left = archives.into_iter().map(|archive| {
        let dir = archive.directory(&config.state_dir);
        let inside = dir.starts_with(&config.state_dir);
        if inside { archive.max_bytes.0.saturating_sub(size(&dir)) } else { 0 }
    });
    left.fold(0, u64::saturating_add)
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
}

fn pins(mode: WatchMode, running: bool, pinned: io::Result<Option<Pinned>>) -> Finding {
    let name = "state.pins";
    let pinned = match pinned {
        Ok(Some(pinned)) => pinned,
        Ok(None) => return Finding::ok(name, "Nothing is pinned for this state directory."),
        Err(error) => {
            return Finding::note(
                name,
                format!("What is pinned for this state directory cannot be told: {error}."),
                "Ask again as the user that the agent runs as.",
            );
        }
    };
    let Pinned { directory, names, hooks } = pinned;
    let programs = names.iter().filter(|name| name.starts_with("link_")).count();
    let what = format!("{programs} programs and {} maps", names.len() - programs);
    let directory = directory.display();
    let wanted = matches!(mode, WatchMode::Auto | WatchMode::Kernel);
    match hooks {
        _ if running => Finding::ok(name, format!("The agent has {what} pinned in {directory}.")),
        Some(_) if wanted => Finding::ok(
            name,
            format!(
                "{what} go on in {directory} while no agent runs; the next one takes them over."
            ),
        ),
        Some(_) => Finding::note(
            name,
            format!("{what} go on in {directory}, though watch.mode is not auto or kernel."),
            "The agent removes them when it starts; so does `everyline doctor --unpin`.",
        ),
        None => Finding::note(
            name,
            format!(
                "{what} in {directory} are what an agent left that was ended while it started."
            ),
            "The next agent begins anew; `everyline doctor --unpin` removes them.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    #[test]
    fn a_state_directory_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(directory(dir.path()).status, Status::Ok);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let new = dir.path().join("a/b");
        let finding = directory(&new);
        assert!(finding.found.ends_with("does not exist yet and can be made."), "{finding:?}");
        assert!(!new.exists());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(directory(&file).status, Status::Problem);
        assert_eq!(directory(&file.join("below")).status, Status::Problem);
    }

    #[test]
    fn room_is_judged_by_what_may_still_be_written() {
        let dir = Path::new("/state");
        let gib = 1 << 30;
        assert_eq!(room(dir, 2 * gib, false, gib).status, Status::Ok);
        assert_eq!(room(dir, gib, false, gib).status, Status::Note);
        assert_eq!(room(dir, LEAST_ROOM - 1, false, 0).status, Status::Problem);
        assert_eq!(room(dir, 2 * gib, true, 0).status, Status::Problem);
    }

    #[test]
    fn only_archives_below_the_state_directory_grow_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("archive")).unwrap();
        fs::write(dir.path().join("archive/1.zst"), vec![0; 1000]).unwrap();
        let state = dir.path().display();
        let growth = |sinks: &str| {
            growth(&Config::parse(&format!("state_dir: {state}\n{sinks}"), "t").unwrap())
        };
        assert_eq!(growth(""), (1 << 30) - 1000);
        assert_eq!(growth("sinks: {a: {type: 'null'}}"), 0);
        assert_eq!(growth("sinks: {a: {type: archive, dir: /elsewhere}}"), 0);
        assert_eq!(growth("sinks: {a: {type: archive, max_bytes: 100MiB}}"), (100 << 20) - 1000);
    }

    #[test]
    fn pins_are_judged_by_who_wants_them() {
        let status = |mode, running, hooks: Option<()>| {
            let names = ["SLOTS", "link_exit_ext4"].map(str::to_owned).to_vec();
            let hooks = hooks.map(|()| Vec::new());
            let pinned = Pinned { directory: "/bpf/x".into(), names, hooks };
            let finding = pins(mode, running, Ok(Some(pinned)));
            assert!(finding.found.contains("1 programs and 1 maps"), "{finding:?}");
            finding.status
        };
        assert_eq!(status(WatchMode::Auto, true, Some(())), Status::Ok);
        assert_eq!(status(WatchMode::Auto, false, Some(())), Status::Ok);
        assert_eq!(status(WatchMode::Inotify, false, Some(())), Status::Note);
        assert_eq!(status(WatchMode::Auto, true, None), Status::Ok);
        assert_eq!(status(WatchMode::Auto, false, None), Status::Note);
        assert_eq!(pins(WatchMode::Auto, false, Ok(None)).status, Status::Ok);
    }
}
