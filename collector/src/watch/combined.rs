//! The watcher: the kernel's tally where it reaches, inotify where that does, looking at intervals
//! for the rest and, slowly, for all.
//!
//! Every directory and file has a place in one schedule: what is polled comes up every
//! `poll_interval` (less often when quiet, see [`super::poll::pause`]), what inotify covers every
//! `sweep_interval`, what the kernel covers more seldom. Between these nothing runs.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use slotmap::SecondaryMap;

mod directories;
mod entries;
mod falls;
mod inotify;
mod kernel;
mod looks;
mod names;
mod tables;
mod timetable;
mod waiting;

use super::{
    Bell, Counted, Departed, DirToken, Event, FileToken, Life, Mode, Waker, Watcher,
    inotify::Inotify, kernel::Kernel, mounts::Mounts, poll::FileState,
};
use crate::{
    config::Config,
    identity::{FileId, KernelInode},
    metrics::Metrics,
};
use entries::{Directory, Look, Watched};
use falls::Falls;
pub(super) use falls::count_fallback;
use timetable::Timetable;
use waiting::KERNEL_TURN;

/// Room kept for events: a first look at everything makes tens of thousands.
const KEPT: usize = 1_024;

/// See the module.
pub(super) struct Combined {
    kernel: Option<Kernel>,
    kernel_turn: Duration,
    inotify: Option<Inotify>,
    mounts: Option<Mounts>,
    waker: Waker,
    metrics: Arc<Metrics>,
    directories: SecondaryMap<DirToken, Directory>,
    /// Usually one token each; more where two paths lead to one directory.
    watches: HashMap<i32, Vec<DirToken>, foldhash::fast::RandomState>,
    files: SecondaryMap<FileToken, Watched>,
    times: Timetable,
    queued: Vec<Event>,
    /// Watches to be given back once the events at hand are taken.
    given_back: Vec<i32>,
    turned: Instant,
    /// When files that nobody claimed were looked for the last time.
    tidied: Instant,
    falls: Falls,
}

impl Combined {
    pub(super) fn new(
        config: &Config,
        kernel: Option<Kernel>,
        inotify: Option<Inotify>,
        mounts: Option<Mounts>,
        waker: Waker,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            kernel,
            kernel_turn: KERNEL_TURN.min(config.batch.max_age.0 / 2),
            inotify,
            times: Timetable::new(&config.watch, mounts.is_some()),
            mounts,
            waker,
            falls: Falls::new(Arc::clone(&metrics)),
            metrics,
            directories: SecondaryMap::new(),
            watches: HashMap::default(),
            files: SecondaryMap::new(),
            queued: Vec::new(),
            given_back: Vec::new(),
            turned: Instant::now(),
            tidied: Instant::now(),
        }
    }

    /// How a file is watched at the moment; one that is not watched might as well be polled.
    pub(super) fn mode_of(&self, file: FileToken) -> Mode {
        self.files.get(file).map_or(Mode::Poll, |file| file.mode)
    }
}

impl Watcher for Combined {
    fn watch_directory(&mut self, token: DirToken, path: &Arc<Path>) -> io::Result<Mode> {
        self.enter_directory(token, path, false)
    }

    fn watch_way(&mut self, token: DirToken, path: &Arc<Path>) -> io::Result<()> {
        self.enter_directory(token, path, true).map(drop)
    }

    fn unwatch_directory(&mut self, token: DirToken) {
        self.leave_directory(token);
    }

    fn watch_file(
        &mut self,
        token: FileToken,
        directory: DirToken,
        name: &OsStr,
        file: Option<&Arc<File>>,
        life: Life,
    ) -> Option<Bell> {
        let held = file.map(Arc::downgrade);
        let mut state = file.and_then(|file| FileState::of(file));
        let bell = if let Some(known) = self.files.get_mut(token) {
            if let Some(held) = &held {
                known.file = held.clone();
            }
            state = state.or(known.state);
            let bell = known.bell.clone();
            if let Some(kernel) = &mut self.kernel {
                kernel.name_file(token, life.id);
            }
            if known.place.as_ref().is_some_and(|(d, n)| *d == directory && **n == *name) {
                return bell;
            }
            // What it has it keeps, under its new name. One that has no bell gets none: its reader
            // would not know of it, and nobody would set it.
            self.forget_file(token, bell.is_none());
            bell
        } else {
            self.forget_file(token, true);
            let covered = |kernel: &&mut Kernel| file.is_some_and(|file| kernel.covers(file));
            let kernel = self.kernel.as_mut().filter(covered);
            kernel.zip(file).map(|(kernel, file)| kernel.add_file(token, life, file))
        };
        let mut place = None;
        if let Some(into) = self.directories.get_mut(directory) {
            let former = into.names.insert(name, token);
            place = Some((directory, name.into()));
            if let Some(former) = former {
                self.set_adrift(former);
            }
            if bell.is_none() {
                self.ask_for_writes(directory);
            }
        }
        let mode = match (&bell, &place) {
            (Some(_), _) => Mode::Kernel,
            (None, Some(_)) => self.lesser_mode(directory),
            (None, None) => Mode::Poll,
        };
        let pace = self.times.pace();
        let look = Look::File(token, pace.look);
        let file = held.unwrap_or_default();
        let watched = Watched { place, file, mode, bell: bell.clone(), state, pace };
        self.files.insert(token, watched);
        self.count(mode, 1);
        self.times.admit(look, Instant::now(), mode);
        self.queued.push(Event::Written(token));
        if let Some(kernel) = &self.kernel
            && kernel.waits_for_many()
        {
            self.enter_pending();
        }
        bell
    }

    fn last_size(&self, token: FileToken) -> Option<u64> {
        self.files.get(token)?.state.map(|state| state.size())
    }

    fn unwatch_file(&mut self, token: FileToken) {
        self.remove_file(token);
    }

    fn wait(&mut self, timeout: Duration, events: &mut Vec<Event>) -> io::Result<()> {
        let end = Instant::now().checked_add(timeout);
        loop {
            let mut woken = false;
            self.enter_pending();
            if self.queued.is_empty() {
                woken = self.sleep(end)?;
            }
            self.take_told();
            self.take_events()?;
            self.look_behind_mounts();
            self.look_at_due();
            self.hand_out(events);
            if woken || !events.is_empty() || end.is_some_and(|end| end <= Instant::now()) {
                self.turned = Instant::now();
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn departed(&mut self) -> Vec<Departed> {
        self.kernel.as_mut().map(Kernel::departed).unwrap_or_default()
    }

    fn counted(&self, but: &HashSet<KernelInode>) -> Option<Counted> {
        self.kernel.as_ref().map(|kernel| kernel.counted(but))
    }

    fn counted_of(&self, ids: &[FileId]) -> Option<Counted> {
        self.kernel.as_ref().map(|kernel| kernel.counted_of(ids))
    }

    fn disown(&mut self, id: FileId) {
        if let Some(kernel) = &mut self.kernel {
            kernel.disown(id);
        }
    }

    fn is_tallied(&self, token: FileToken) -> bool {
        let bell = self.files.get(token).and_then(|file| file.bell.as_ref());
        bell.is_some_and(|bell| bell.truncated().is_some())
    }

    fn truncated(&self, id: FileId, inode: (u64, Option<u32>)) -> Option<u32> {
        self.kernel.as_ref()?.truncated(id, inode)
    }

    fn count_truncations_anew(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.count_truncations_anew();
        }
    }

    fn tallied_while_down(&self, token: DirToken) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.tallied_while_down(token))
    }

    fn forget_strangers(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.forget_strangers();
        }
    }
}

impl Combined {
    /// At most one event a token, and none of what was forgotten meanwhile.
    fn hand_out(&mut self, events: &mut Vec<Event>) {
        if self.queued.is_empty() {
            return;
        }
        let mut seen = HashSet::with_capacity_and_hasher(
            self.queued.len(),
            foldhash::fast::RandomState::default(),
        );
        for event in self.queued.drain(..) {
            let known = match event {
                Event::Written(token) => self.files.contains_key(token),
                Event::Directory(token) => self.directories.contains_key(token),
                Event::Overflow | Event::Departed => true,
            };
            if known && seen.insert(event) {
                events.push(event);
            }
        }
        self.queued.shrink_to(KEPT);
    }
}

/// Spares the queue what it just heard.
fn push(queued: &mut Vec<Event>, event: Event) {
    if queued.last() != Some(&event) {
        queued.push(event);
    }
}
