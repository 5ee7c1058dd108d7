//! Whether files can be found again by their handles, where state and logs lie; if not, what refuses it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{Finding, filesystem, survey::Survey};
use crate::{
    checkpoint::nearest,
    identity::sys,
    privileges::{DAC_READ_SEARCH, Privileges},
};

pub(super) fn findings(state_dir: &Path, survey: &Survey) -> Vec<Finding> {
    let own = Privileges::own().unwrap_or_default();
    let mut findings = Vec::new();
    if let Some(there) = nearest(state_dir) {
        let place = BTreeMap::from([(there.to_owned(), handles(there))]);
        findings.push(by_handle("state.handles", &place, own));
    }
    findings.push(by_handle("sources.handles", &of_logs(survey), own));
    findings
}

/// One directory of each filesystem that logs lie on.
fn of_logs(survey: &Survey) -> BTreeMap<PathBuf, io::Result<()>> {
    let holding = survey.directories.iter().filter(|directory| directory.holds_files);
    let by_filesystem: BTreeMap<u64, &Path> =
        holding.rev().map(|directory| (directory.magic, directory.path.as_path())).collect();
    by_filesystem.into_values().map(|path| (path.to_owned(), handles(path))).collect()
}

/// Asks for a directory's handle and opens it again by that.
fn handles(dir: &Path) -> io::Result<()> {
    let file = File::open(dir)?;
    let handle = sys::handle_of(&file)?;
    sys::open_by_handle(&file, &handle).map(drop)
}

fn by_handle(
    name: &'static str,
    places: &BTreeMap<PathBuf, io::Result<()>>,
    own: Privileges,
) -> Finding {
    let on = |path: &Path| {
        let filesystem = filesystem::number(path).map_or_else(|| "?".to_owned(), filesystem::name);
        format!("{} ({filesystem})", path.display())
    };
    let refused = places.iter().filter_map(|(path, answer)| Some((path, answer.as_ref().err()?)));
    let refused: Vec<_> = refused.collect();
    let Some((_, first)) = refused.first() else {
        let places: Vec<_> = places.keys().map(|path| on(path)).collect();
        return Finding::ok(
            name,
            match places.is_empty() {
                true => "No directory with logs is there to be tried.".to_owned(),
                false => format!("Files are found again by their handles: {}.", places.join(", ")),
            },
        );
    };
    // What somebody can change comes before what nobody can.
    let denied = refused.iter().map(|(_, error)| *error).find(|error| is_denied(error));
    Finding::note(
        name,
        "Files are not found again by their handles: one that was moved while no agent ran is \
         found by listing only.",
        advice(denied.unwrap_or(first), own),
    )
    .with(refused.iter().map(|(path, error)| format!("{}: {error}", on(path))).collect())
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What to do about it: not what is done already.
fn advice(error: &io::Error, own: Privileges) -> &'static str {
    if !is_denied(error) {
        return "Nothing can be done: this filesystem has no handles.";
    }
    match (own.has(DAC_READ_SEARCH), own.filtered) {
        (false, _) => "Give the agent CAP_DAC_READ_SEARCH.",
        (true, true) => {
            "The capability is there, so it is the seccomp profile that refuses: have it allow \
             name_to_handle_at and open_by_handle_at (in a pod `seccompProfile`, with Docker \
             `--security-opt seccomp=FILE`). Nothing is lost without."
        }
        (true, false) => {
            "The capability is there: a user namespace or a security module refuses. Run the agent \
             outside of it, or leave it so; nothing is lost by that."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Status;

    fn denied() -> io::Error {
        io::Error::from(io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn missing_handles_are_a_note_with_the_reason() {
        let own = Privileges::default();
        let ask = |places| by_handle("x", &BTreeMap::from(places), own);
        let finding = ask([("/".into(), Ok(())), ("/tmp".into(), Err(denied()))]);
        assert_eq!((finding.status, finding.details.len()), (Status::Note, 1), "{finding:?}");
        assert_eq!(by_handle("x", &BTreeMap::new(), own).status, Status::Ok);
        assert_eq!(ask([("/".into(), Ok(())), ("/tmp".into(), Ok(()))]).status, Status::Ok);
    }

    #[test]
    fn what_is_advised_is_what_is_missing() {
        let has = Privileges { effective: 1 << DAC_READ_SEARCH, filtered: false };
        let filtered = Privileges { filtered: true, ..has };
        let nothing = Privileges { effective: 0, filtered: true };
        let without = || io::Error::from(io::ErrorKind::Unsupported);
        assert!(advice(&denied(), nothing).contains("Give the agent CAP_DAC_READ_SEARCH"));
        assert!(advice(&denied(), filtered).contains("seccomp"));
        assert!(advice(&denied(), has).contains("security module"));
        for own in [has, filtered, nothing] {
            assert!(advice(&without(), own).contains("has no handles"));
            let both = BTreeMap::from([("/".into(), Err(without())), ("/x".into(), Err(denied()))]);
            let todo = by_handle("x", &both, own).advice;
            assert_eq!(todo.as_deref(), Some(advice(&denied(), own)));
        }
    }
}
