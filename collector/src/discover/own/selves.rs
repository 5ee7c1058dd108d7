//! Who the agent has been: the pods and containers that ran it with this state directory before.
//!
//! A file in the state directory, which only the agent writes. What a log or a container says of itself
//! (a name, a label) is not believed: whoever could choose it could hide from collection.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::ownership;

/// Former selves that are kept. Their logs are long gone when it is this many later.
const KEPT: usize = 64;
/// A longer file is not the agent's.
const LONGEST: u64 = 64 << 10;

/// Uids of pods and ids of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::discover) struct Selves {
    pub(in crate::discover) pods: BTreeSet<String>,
    pub(in crate::discover) containers: BTreeSet<String>,
}

impl Selves {
    /// What is remembered in a state directory; nothing if that cannot be read.
    pub(super) fn read(state_dir: &Path) -> Self {
        let mut selves = Self::default();
        for line in lines(&file(state_dir)) {
            match line.split_once(' ') {
                Some(("pod", uid)) => _ = selves.pods.insert(uid.to_owned()),
                Some(("container", id)) => _ = selves.containers.insert(id.to_owned()),
                _ => {}
            }
        }
        selves
    }
}

/// Remembers a pod's uid or a container's id (`kind`), the latest last.
pub(super) fn remember(state_dir: &Path, kind: &str, id: &str) -> io::Result<()> {
    let path = file(state_dir);
    let mut known = lines(&path);
    let line = format!("{kind} {id}");
    if known.last() == Some(&line) {
        return Ok(());
    }
    known.retain(|other| *other != line);
    known.push(line);
    let kept = &known[known.len().saturating_sub(KEPT)..];
    ownership::replace(&path, (kept.join("\n") + "\n").as_bytes())
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("selves")
}

fn lines(path: &Path) -> Vec<String> {
    if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file() || about.len() > LONGEST) {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_selves_are_remembered_each_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Selves::read(dir.path()), Selves::default());
        for n in 0..100 {
            remember(dir.path(), "pod", &format!("uid-{n}")).unwrap();
        }
        remember(dir.path(), "container", "f00d").unwrap();
        remember(dir.path(), "pod", "uid-99").unwrap();
        remember(dir.path(), "pod", "uid-99").unwrap();
        let selves = Selves::read(dir.path());
        assert_eq!((selves.pods.len(), selves.containers.len()), (KEPT - 1, 1));
        assert!(selves.pods.contains("uid-99") && !selves.pods.contains("uid-0"));
        assert_eq!(lines(&file(dir.path())).last().map(String::as_str), Some("pod uid-99"));
    }

    #[test]
    fn garbage_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), b"pod\ncontainer\n\xff\xfe\n").unwrap();
        assert_eq!(Selves::read(dir.path()), Selves::default());
        fs::write(file(dir.path()), "what is this\npod a\n").unwrap();
        assert_eq!(Selves::read(dir.path()).pods.len(), 1);
        fs::write(file(dir.path()), "pod a\n".repeat(LONGEST as usize)).unwrap();
        assert_eq!(Selves::read(dir.path()), Selves::default());
        remember(dir.path(), "pod", "b").unwrap();
        assert_eq!(lines(&file(dir.path())), ["pod b"]);
    }
}
