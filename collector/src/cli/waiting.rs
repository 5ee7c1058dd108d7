//! Waiting for an agent that is not there: who follows an archive that nobody writes is told so.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use crate::archive;

/// How often is looked whether an agent writes.
const LOOK: Duration = Duration::from_secs(1);
/// An agent that is started anew, or changes its archive by a reload, is away this many looks at most.
const ABSENCE: u32 = 2;

/// As long as it lives, standard error is told when no agent writes the archive, and when one does again.
#[derive(Debug)]
pub(super) struct Waiting {
    _end: Sender<()>,
}

impl Waiting {
    /// Looks after the archive in `dir` from now on.
    pub(super) fn begin(dir: &Path) -> Self {
        let (end, ended) = channel();
        let dir = dir.to_owned();
        thread::spawn(move || watch(&dir, &ended));
        Self { _end: end }
    }
}

/// What was said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Waiting,
    Written,
}

fn watch(dir: &Path, ended: &Receiver<()>) {
    let (mut said, mut absent) = (Said::Nothing, 0);
    loop {
        // What cannot be looked at is for the search to complain about.
        let Ok(written) = archive::is_written(dir) else { return };
        absent = if written { 0 } else { absent + 1 };
        if let Some(text) = news(&mut said, written, absent) {
            let dir = dir.display();
            eprintln!("everyline: {text} ({dir}).");
        }
        match ended.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

/// What has changed since something was said.
fn news(said: &mut Said, written: bool, absent: u32) -> Option<&'static str> {
    let (next, text) = match *said {
        Said::Nothing if written => (Said::Written, None),
        Said::Nothing => (
            Said::Waiting,
            Some("waiting for an agent: none writes this archive; start one with `everyline run`"),
        ),
        Said::Waiting if written => (Said::Written, Some("an agent writes this archive now")),
        Said::Written if absent >= ABSENCE => {
            (Said::Waiting, Some("waiting for an agent: the one that wrote this archive has ended"))
        }
        same => (same, None),
    };
    *said = next;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_said_and_a_restart_is_none() {
        let looks = |looks: &[bool]| {
            let (mut said, mut absent) = (Said::Nothing, 0);
            let mut texts = Vec::new();
            for &written in looks {
                absent = if written { 0 } else { absent + 1 };
                texts.extend(news(&mut said, written, absent).map(|text| text.len()));
            }
            texts.len()
        };
        assert_eq!(looks(&[true, true, true]), 0);
        assert_eq!(looks(&[true, false, true, false, true]), 0);
        assert_eq!(looks(&[false, false, false]), 1);
        assert_eq!(looks(&[false, true, true]), 2);
        assert_eq!(looks(&[true, false, false, false, true]), 2);
    }
}
