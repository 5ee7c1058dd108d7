//! Paths as records have them: without the directory under which the host's root is mounted.

use std::path::Path;

use crate::ledger::report::Report;

/// Takes `root` off every path of a report. One that lies elsewhere stays as it is.
pub(super) fn tell(report: &mut Report, root: &Path) {
    for file in &mut report.files {
        file.path = of(&file.path, root);
        file.source = of(&file.source, root);
    }
    for lost in &mut report.lost_files {
        lost.path = of(&lost.path, root);
    }
}

/// What the host calls a path.
pub(super) fn of(path: &str, root: &Path) -> String {
    match Path::new(path).strip_prefix(root) {
        Ok(rest) => Path::new("/").join(rest).to_string_lossy().into_owned(),
        Err(_elsewhere) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_root_is_taken_off_and_nothing_else() {
        let of = |path, root: &str| of(path, Path::new(root));
        assert_eq!(of("/host/var/log/a.log", "/host"), "/var/log/a.log");
        assert_eq!(of("/host/var/log/a.log", "/host/"), "/var/log/a.log");
        assert_eq!(of("/hostile/a.log", "/host"), "/hostile/a.log");
        assert_eq!(of("/var/log/a.log", "/"), "/var/log/a.log");
        assert_eq!(of("/var/lib/host/a.log", "/host"), "/var/lib/host/a.log");
    }
}
