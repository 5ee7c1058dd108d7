//! What the watcher and the readers say.
//!
//! Turns events into wakes, listings and changes of the registry; looks into no file.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use slotmap::Key;

use super::Registry;
use crate::{
    read::{
        reader::{Feedback, Message},
        tail::TailId,
    },
    watch::{Event, FileToken},
};

/// Files that may have new bytes, by reader.
type Wakes = HashMap<usize, Vec<(TailId, FileToken)>>;

impl Registry {
    pub(super) fn heed_watcher(&mut self, events: &[Event]) {
        self.turns.begin();
        // Directories take longer.
        self.heed_written(events);
        let mut wakes: Wakes = HashMap::new();
        for event in events {
            match *event {
                Event::Written(_) => {}
                Event::Directory(token) => self.heed_directory(token),
                Event::Departed => self.heed_departed(),
                Event::Overflow => {
                    self.ways.change_unseen();
                    let all = self.directories.tokens();
                    all.into_iter().for_each(|token| self.heed_directory(token));
                    for state in self.sources.values() {
                        let reader = state.tail.0 as usize % self.setup.readers.len();
                        wakes.entry(reader).or_default().push((state.tail, FileToken::null()));
                    }
                    self.look_at_dormant();
                }
            }
        }
        self.wake(wakes);
    }

    fn heed_written(&mut self, events: &[Event]) {
        let mut wakes: Wakes = HashMap::new();
        for event in events {
            let Event::Written(token) = *event else { continue };
            let Some(held) = self.held.get(token) else { continue };
            if held.dormant {
                self.look_closer(token);
                self.look_inside(token);
                continue;
            }
            let reader = held.tail.0 as usize % self.setup.readers.len();
            wakes.entry(reader).or_default().push((held.tail, token));
        }
        self.wake(wakes);
    }

    fn wake(&self, wakes: Wakes) {
        for (reader, tails) in wakes {
            let _going_down = self.setup.readers[reader].send(Message::Wake(tails));
        }
    }

    pub(super) fn heed_readers(&mut self) {
        let mut closed = HashSet::new();
        while let Ok(feedback) = self.setup.feedback.try_recv() {
            match feedback {
                Feedback::Released(token, account) => self.heed_release(token, &account),
                Feedback::Truncated(token, next, former) => {
                    self.heed_truncation(token, next, former);
                }
                Feedback::WrittenOver(token, former) => self.heed_written_over(token, former),
                Feedback::CutOff(account) => self.heed_cut_off(account.id),
                Feedback::Closed(tail) => _ = closed.insert(tail),
            }
        }
        self.close(&closed);
    }

    pub(super) fn mark_gone(&mut self, token: FileToken) {
        let Some(held) = self.held.get_mut(token) else { return };
        if held.dormant {
            // The kernel may have seen how long it was.
            self.together(|this| {
                this.heed_departed();
                this.bury(token, 0);
            });
            return;
        }
        held.gone = true;
        held.live = false;
        let source = Arc::clone(held.source());
        self.send(&source, |tail| Message::Gone(tail, token));
    }
}
