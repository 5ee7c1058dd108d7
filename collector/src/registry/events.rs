//! What the watcher and the readers say.
//!
//! Turns events into wakes, listings and changes of the registry; looks into no file.

use std::{collections::HashMap, sync::Arc, time::Instant};

use slotmap::Key;

use super::{Inode, Registry};
use crate::{
    identity::{FileId, beneath},
    read::{
        reader::{Feedback, Message},
        tail::TailId,
    },
    watch::{Event, FileToken},
};

impl Registry {
    pub(super) fn heed_watcher(&mut self, events: &[Event]) {
        let mut wakes: HashMap<usize, Vec<(TailId, FileToken)>> = HashMap::new();
        for event in events {
            match *event {
                Event::Written(token) => {
                    let Some(held) = self.held.get(token) else { continue };
                    if held.dormant {
                        self.look_closer(token);
                        continue;
                    }
                    let reader = held.tail.0 as usize % self.setup.readers.len();
                    wakes.entry(reader).or_default().push((held.tail, token));
                }
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
        for (reader, tails) in wakes {
            let _going_down = self.setup.readers[reader].send(Message::Wake(tails));
        }
    }

    pub(super) fn heed_readers(&mut self) {
        while let Ok(feedback) = self.setup.feedback.try_recv() {
            match feedback {
                Feedback::Released(token, account) => self.heed_release(token, &account),
                Feedback::Truncated(token, next, former) => {
                    self.heed_truncation(token, next, former);
                }
                Feedback::CutOff(account) => self.heed_cut_off(account.id),
                Feedback::Closed(tail) => self.close(tail),
            }
        }
    }

    /// A source is gone and settled to the last byte.
    fn close(&mut self, tail: TailId) {
        let Some(path) =
            self.sources.iter().find(|(_, state)| state.tail == tail).map(|(path, _)| path.clone())
        else {
            return;
        };
        // Whether its files grew before they went, the kernel tells, and only of files that are known.
        self.heed_departed();
        self.excluded.remove(&path);
        let Some(state) = self.sources.remove(&path) else { return };
        let ids: Vec<FileId> = state.accounts.iter().map(|(id, _)| *id).collect();
        self.inodes.retain(|_, inode| !matches!(inode, Inode::Done(id, _) if ids.contains(id)));
        // A file that was handed over while the reader was closing is placed anew below.
        for token in state.held {
            if self.held.remove(token).is_none() {
                continue;
            }
            self.setup.watcher.unwatch_file(token);
        }
        let (done, open): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| {
            self.setup.accounts.get(*id).is_none_or(|account| {
                let device = account.identity.key.device;
                account.is_done(self.slots()) && !self.is_away(*id, device, &account.path())
            })
        });
        self.tell_forgotten(done);
        // Handed over while the reader was closing, or never taken: looked for again, else lost. Or away
        // with its filesystem.
        for id in open {
            if let Some(account) = self.setup.accounts.remove(id) {
                self.look_for(account.entry(&self.setup.sinks));
            }
        }
        // The same name may have come back meanwhile (a directory that was replaced).
        if beneath::is_directory(&state.directory) {
            self.retries.insert(state.directory.to_path_buf(), Instant::now());
        }
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
