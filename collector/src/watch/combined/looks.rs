//! Looking at what is due.

use std::time::Instant;

use super::{Combined, entries::Look};
use crate::watch::{Event, FileToken, Mode, poll::FileState};

impl Combined {
    pub(super) fn look_at_due(&mut self) {
        let now = Instant::now();
        let before = self.queued.len();
        self.look_at_all_due(now);
        let written = |event: &&Event| matches!(event, Event::Written(_));
        let seen = self.queued[before..].iter().filter(written).count();
        self.count_wakeups(Mode::Poll, seen as u64);
    }

    fn look_at_all_due(&mut self, now: Instant) {
        while let Some(due) = self.times.due(now) {
            for look in due {
                match look {
                    Look::Directory(token, look) => self.look_at_directory(token, look, now),
                    Look::File(token, look) => self.look_at_file(token, look, now),
                }
            }
        }
    }

    fn look_at_file(&mut self, token: FileToken, look: u32, now: Instant) {
        let at = self.times.millis(now);
        let Some(file) = self.files.get_mut(token) else { return };
        if file.pace.look != look {
            return;
        }
        let state = match (file.file.upgrade(), &file.place) {
            (Some(open), _) => FileState::of(&open),
            (None, Some((directory, name))) => {
                let directory = self.directories.get(*directory);
                directory.and_then(|directory| FileState::at(&directory.path.join(&**name)))
            }
            (None, None) => file.state,
        };
        if state.zip(file.state).is_some_and(|(now, before)| !now.is_same_file(before)) {
            // Another file bears its name now: its own state stays, until it is found again.
            self.queued.push(Event::Written(token));
        } else if state != file.state {
            file.state = state;
            file.pace.changed = at;
            self.queued.push(Event::Written(token));
        }
        let (mode, quiet) = (file.mode, file.pace.quiet(at));
        self.times.again(Look::File(token, look), now, mode, quiet);
    }
}
