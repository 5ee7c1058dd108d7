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
    num::NonZeroU64,
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use slotmap::SecondaryMap;

mod directories;
mod kernel;
mod names;
mod tables;

use super::{
    Bell, Counted, Departed, DirToken, Event, FileToken, Life, Mode, Waker, Watcher,
    inotify::{Change, Inotify, Refusal},
    kernel::{self as programs, Kernel},
    mounts::Mounts,
    poll::{DirectoryState, FileState, Schedule},
};
use crate::{
    config::Config,
    identity::FileId,
    metrics::{Metrics, ReasonLabel},
};
use names::Names;

/// Two turns are at least so far apart while inotify's events pour in, so that a busy writer's many
/// events become one.
const TURN: Duration = Duration::from_millis(2);

/// The same for the kernel's wake-ups, of which a busy writer makes one a look: half of the time that
/// a batch is given to fill anyway, at most this.
const KERNEL_TURN: Duration = Duration::from_millis(500);

/// Within that time it is heard so often what else was told: a log that is new may be gone before the
/// turn is over, so directories wait no longer.
const HEAR: Duration = Duration::from_millis(20);

/// What the kernel watches is swept this many times more seldom than what inotify does: files for
/// the sake of writers that pass by its hooks (mmap), directories, which nothing passes by, only in
/// case. Where mounts are not told, directories are swept as those that inotify covers.
const KERNEL_SWEEPS: u32 = 6;
const KERNEL_DIRECTORY_SWEEPS: u32 = 24;

/// Room kept for events: a first look at everything makes tens of thousands.
const KEPT: usize = 1_024;

/// An overflow is said at most so often.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Filesystems on which another machine (or process) may write unseen by this kernel's inotify:
/// NFS, SMB, SMB2, CIFS, FUSE, 9p, Ceph, AFS, Coda (linux/magic.h).
const UNSEEN_WRITERS: [u32; 9] = [
    0x6969,
    0x517B,
    0xFE53_4D42,
    0xFF53_4D42,
    0x6573_5546,
    0x0102_1997,
    0x00C3_6400,
    0x5346_414F,
    0x7375_7245,
];

/// See the module.
pub(super) struct Combined {
    kernel: Option<Kernel>,
    kernel_turn: Duration,
    inotify: Option<Inotify>,
    mounts: Option<Mounts>,
    waker: Waker,
    metrics: Arc<Metrics>,
    poll_interval: Duration,
    sweep_interval: Duration,
    directories: SecondaryMap<DirToken, Directory>,
    /// Usually one token each; more where two paths lead to one directory.
    watches: HashMap<i32, Vec<DirToken>, foldhash::fast::RandomState>,
    files: SecondaryMap<FileToken, Watched>,
    schedule: Schedule<Look>,
    looks: u32,
    queued: Vec<Event>,
    /// Watches to be given back once the events at hand are taken.
    given_back: Vec<i32>,
    begun: Instant,
    turned: Instant,
    /// When files that nobody claimed were looked for the last time.
    tidied: Instant,
    said: HashSet<Refusal>,
    kernel_said: HashSet<programs::Refusal>,
    overflow_said: Option<Instant>,
}

struct Directory {
    path: Arc<Path>,
    /// Device and inode, if the kernel watches it.
    kernel: Option<(u32, NonZeroU64)>,
    /// inotify's watch: where the kernel does not watch the directory, or not its files' writes.
    watch: Option<i32>,
    /// Whether writes to entries are asked for.
    writes: bool,
    /// Only its entries' names count: see [`Watcher::watch_way`].
    way: bool,
    /// On a filesystem whose writers inotify does not see.
    unseen_writers: bool,
    names: Names,
    state: DirectoryState,
    pace: Pace,
}

struct Watched {
    /// Where it is called what; `None`: adrift (moved away, removed, or its directory is no longer
    /// watched), and therefore polled until it is registered again. The kernel needs no name.
    place: Option<(DirToken, Box<OsStr>)>,
    /// Where nobody holds it open any more, it is looked at under its name.
    file: Weak<File>,
    mode: Mode,
    bell: Option<Bell>,
    state: Option<FileState>,
    pace: Pace,
}

/// When something is looked at.
struct Pace {
    /// Which of the schedule's looks counts; earlier ones lapsed.
    look: u32,
    /// When it last changed, as of [`Combined::millis`].
    changed: u32,
}

impl Pace {
    /// How long it has not changed.
    fn quiet(&self, now: u32) -> Duration {
        Duration::from_millis(now.wrapping_sub(self.changed).into())
    }
}

#[derive(Clone, Copy)]
enum Look {
    Directory(DirToken, u32),
    File(FileToken, u32),
}

/// Counts one fall from a better mode.
pub(super) fn count_fallback(metrics: &Metrics, reason: &'static str) {
    metrics.watch_fallbacks.get_or_create(&ReasonLabel { reason }).inc();
}

impl Combined {
    pub(super) fn new(
        config: &Config,
        kernel: Option<Kernel>,
        inotify: Option<Inotify>,
        waker: Waker,
        metrics: Arc<Metrics>,
    ) -> Self {
        let poll_interval = config.watch.poll_interval.0.max(Duration::from_millis(1));
        let sweep_interval = config.watch.sweep_interval.0.max(poll_interval);
        Self {
            kernel,
            kernel_turn: KERNEL_TURN.min(config.batch.max_age.0 / 2),
            inotify,
            mounts: Mounts::new(),
            waker,
            metrics,
            poll_interval,
            sweep_interval,
            directories: SecondaryMap::new(),
            watches: HashMap::default(),
            files: SecondaryMap::new(),
            schedule: Schedule::new(poll_interval / 5),
            looks: 0,
            queued: Vec::new(),
            given_back: Vec::new(),
            begun: Instant::now(),
            turned: Instant::now(),
            tidied: Instant::now(),
            said: HashSet::new(),
            kernel_said: HashSet::new(),
            overflow_said: None,
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
        let pace = self.pace();
        let look = Look::File(token, pace.look);
        let file = held.unwrap_or_default();
        let watched = Watched { place, file, mode, bell: bell.clone(), state, pace };
        self.files.insert(token, watched);
        self.count(mode, 1);
        self.schedule.admit(look, Instant::now(), self.interval(mode));
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

    fn counted(&self) -> Option<Counted> {
        self.kernel.as_ref().map(Kernel::counted)
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

/// Waiting.
impl Combined {
    /// Until an event, a due look, `end` or a wake; true if woken.
    fn sleep(&mut self, end: Option<Instant>) -> io::Result<bool> {
        let mounts = self.mounts.as_ref().and_then(Mounts::due);
        let until = [self.schedule.next(), mounts, end].into_iter().flatten().min();
        let [woken, inotify, kernel, mounts] = self.listen(until, true)?;
        if let Some(table) = self.mounts.as_mut().filter(|_| mounts) {
            table.note();
        }
        if woken {
            return Ok(self.waker.drain());
        }
        // Whoever told something is heard at the end of its turn, the shortest of them.
        if inotify {
            let woken = self.listen_to_waker(self.turned + TURN)?;
            return Ok(woken && self.waker.drain());
        }
        let rest = self.turned + self.kernel_turn;
        while kernel && Instant::now() < rest {
            self.take_told();
            if !self.queued.iter().all(|event| matches!(event, Event::Written(_))) {
                break;
            }
            // inotify tells of directories that the kernel does not watch.
            let until = Some(rest.min(Instant::now() + HEAR));
            let [woken, inotify, ..] = self.listen(until, false)?;
            if woken {
                return Ok(self.waker.drain());
            }
            if inotify {
                break;
            }
        }
        Ok(self.waker.drain())
    }

    /// Waits until then for the waker, inotify, and if asked the kernel's programs and mounts; which
    /// of them it was.
    fn listen(&self, until: Option<Instant>, all: bool) -> io::Result<[bool; 4]> {
        let inotify = self.inotify.as_ref().map(|inotify| inotify.fd().as_fd());
        let kernel = self.kernel.as_ref().filter(|_| all).map(Kernel::fd);
        let mounts = self.mounts.as_ref().filter(|_| all).map(Mounts::fd);
        let asked = [
            Some((self.waker.0.as_fd(), PollFlags::IN)),
            inotify.map(|fd| (fd, PollFlags::IN)),
            kernel.map(|fd| (fd, PollFlags::IN)),
            mounts.map(|fd| (fd, PollFlags::PRI)),
        ];
        let of = |(fd, flags)| PollFd::from_borrowed_fd(fd, flags);
        let mut fds: Vec<_> = asked.into_iter().flatten().map(of).collect();
        poll(&mut fds, until)?;
        let mut told = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(asked.map(|asked| asked.is_some() && told.next().unwrap_or(false)))
    }

    fn listen_to_waker(&self, until: Instant) -> io::Result<bool> {
        if Instant::now() >= until {
            return Ok(false);
        }
        let mut fds = [PollFd::new(&self.waker.0, PollFlags::IN)];
        poll(&mut fds, Some(until))?;
        Ok(!fds[0].revents().is_empty())
    }

    fn take_events(&mut self) -> io::Result<()> {
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
            Change::Overflow => return self.say_overflow(),
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

    fn look_at_due(&mut self) {
        let now = Instant::now();
        let before = self.queued.len();
        self.look_at_all_due(now);
        let written = |event: &&Event| matches!(event, Event::Written(_));
        let seen = self.queued[before..].iter().filter(written).count();
        self.count_wakeups(Mode::Poll, seen as u64);
    }

    fn look_at_all_due(&mut self, now: Instant) {
        while let Some(due) = self.schedule.due(now) {
            for look in due {
                match look {
                    Look::Directory(token, look) => self.look_at_directory(token, look, now),
                    Look::File(token, look) => self.look_at_file(token, look, now),
                }
            }
        }
    }

    fn look_at_file(&mut self, token: FileToken, look: u32, now: Instant) {
        let at = self.millis(now);
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
        self.schedule.again(Look::File(token, look), now, self.interval_after(mode, quiet));
    }

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

impl Directory {
    fn mode(&self) -> Mode {
        if self.kernel.is_some() { Mode::Kernel } else { self.lesser_mode() }
    }

    /// How it is watched without the kernel's help, as is everything in it that the kernel does not
    /// watch itself.
    fn lesser_mode(&self) -> Mode {
        if self.watch.is_some() { Mode::Inotify } else { Mode::Poll }
    }
}

impl Mode {
    /// The metric's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// Spares the queue what it just heard.
fn push(queued: &mut Vec<Event>, event: Event) {
    if queued.last() != Some(&event) {
        queued.push(event);
    }
}

fn has_unseen_writers(path: &Path) -> bool {
    // Only the low 32 bits are the magic number, whatever width the field has.
    rustix::fs::statfs(path).is_ok_and(|about| UNSEEN_WRITERS.contains(&(about.f_type as u32)))
}

/// Waits for any of the descriptors until a moment; a signal ends the wait early.
fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let timeout = until.map(|until| {
        let rest = until.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        }
    });
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `deploy/METRICS.md` has a table of them.
    #[test]
    fn every_reason_of_a_fall_is_documented() {
        use crate::watch::{LoadError, inotify::Refusal as Inotify, kernel::Refusal as Kernel};
        let inotify = [
            Inotify::Missing,
            Inotify::WatchLimit,
            Inotify::Resources,
            Inotify::Permission,
            Inotify::Unsupported,
        ];
        let kernel = [Kernel::Filesystem, Kernel::Full, Kernel::Unknown];
        let load = [
            LoadError::NoObject,
            LoadError::NoBtf(io::ErrorKind::NotFound.into()),
            LoadError::Refused(String::new()),
            LoadError::NoHook(Vec::new()),
        ];
        let mut ours: Vec<&str> = vec!["overflow", "network_filesystem"];
        ours.extend(inotify.map(Inotify::reason));
        ours.extend(kernel.map(Kernel::reason));
        ours.extend(load.iter().map(LoadError::reason));
        ours.sort_unstable();
        let text = include_str!("../../../deploy/METRICS.md");
        let (_, table) = text.split_once("## Falls to a lesser watch mode").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut rows: Vec<&str> = rows.map(|row| row.split('`').next().unwrap()).collect();
        rows.sort_unstable();
        assert_eq!(rows, ours);
    }

    /// There are tens of thousands of each.
    #[test]
    fn what_is_kept_of_a_directory_and_a_file_is_small() {
        assert!(size_of::<Directory>() <= 112, "{}", size_of::<Directory>());
        assert!(size_of::<Watched>() <= 88, "{}", size_of::<Watched>());
        assert!(size_of::<Look>() <= 16, "{}", size_of::<Look>());
    }
}
