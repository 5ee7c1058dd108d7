//! What inotify tells, and what follows from it.

use std::io;

use super::{Combined, push};
use crate::watch::{DirToken, Event, Mode, inotify::Change};

impl Combined {
    pub(super) fn take_events(&mut self) -> io::Result<()> {
        // Taken out for the while, so that its events can be acted on.
        let Some(mut inotify) = self.inotify.take() else { return Ok(()) };
        let mut written = 0;
        let drained = inotify.drain(|change| {
            written += u64::from(matches!(change, Change::Modified(..)));
            self.take_change(&change);
        });
        self.count_wakeups(Mode::Inotify, written);
        for wd in self.given_back.drain(..) {
            inotify.remove(wd);
        }
        self.inotify = Some(inotify);
        drained
    }

    fn take_change(&mut self, change: &Change<'_>) {
        let wd = match change {
            Change::Overflow => {
                push(&mut self.queued, Event::Overflow);
                return self.falls.say_overflow(Mode::Inotify);
            }
            Change::Gone(wd)
            | Change::Appeared(wd)
            | Change::Left(wd, _)
            | Change::Modified(wd, _) => *wd,
        };
        // Of a watch given back meanwhile: nobody asks any more.
        let Some(tokens) = self.watches.get(&wd) else { return };
        if let [token] = tokens[..] {
            self.take_change_of(token, change);
        } else {
            for token in tokens.clone() {
                self.take_change_of(token, change);
            }
        }
    }

    fn take_change_of(&mut self, token: DirToken, change: &Change<'_>) {
        let Some(directory) = self.directories.get(token) else { return };
        match change {
            Change::Modified(_, name) => {
                // Of a name nobody registered: it is reported when it is registered.
                if let Some(file) = directory.names.get(name) {
                    push(&mut self.queued, Event::Written(file));
                }
                return;
            }
            Change::Left(_, name) => {
                // Whoever holds it open may go on writing, but no longer under this name.
                if let Some(file) = directory.names.get(name) {
                    self.set_adrift(file);
                }
            }
            Change::Gone(_) => self.lose(token),
            Change::Appeared(_) | Change::Overflow => {}
        }
        push(&mut self.queued, Event::Directory(token));
    }
}
