//! Whether the files that a sink reads are still what they were: a reload starts it anew when one was
//! replaced, and a sink whose deliveries fail reads them again.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::config;

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    /// None: it is not there.
    state: Option<State>,
}

/// Device, inode, size, and times of the last change of contents and of the inode.
type State = (u64, u64, u64, (i64, i64), (i64, i64));

/// Every file that the sink reads when it starts, as it is now.
pub fn stamps(sink: &config::Sink) -> Vec<Stamp> {
    let config::Sink::Http(http) = sink else { return Vec::new() };
    http.tls.files().chain(http.auth.file()).map(|(_key, file)| stamp(file)).collect()
}

/// This file as it is now.
pub(super) fn stamp(path: &Path) -> Stamp {
    let state = fs::metadata(path).ok().map(|about| {
        let modified = (about.mtime(), about.mtime_nsec());
        (about.dev(), about.ino(), about.size(), modified, (about.ctime(), about.ctime_nsec()))
    });
    Stamp { path: path.to_owned(), state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let text = format!(
            "sinks: {{it: {{type: http, url: 'https://x/', tls: {{ca_file: {}}}}}}}",
            ca.display()
        );
        let sink = config::Config::parse(&text, "test").unwrap().sinks["it"].clone();
        let missing = stamps(&sink);
        fs::write(&ca, "one").unwrap();
        let first = stamps(&sink);
        assert_ne!(first, missing);
        assert_eq!(first, stamps(&sink));
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &ca).unwrap();
        assert_ne!(first, stamps(&sink));
    }
}
