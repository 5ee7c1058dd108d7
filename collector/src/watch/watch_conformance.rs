//! What every watcher must do, whatever its mechanism: each case runs against the kernel's tally
//! (where this kernel and this build have it), against inotify, against polling, and against
//! inotify whose watch limit is spent.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use slotmap::Key;

use super::*;
use crate::{
    config::Span,
    metrics::{ModeLabel, ReasonLabel},
};

static DIRECTORY: LazyLock<DirToken> = LazyLock::new(|| DirToken::numbered(7));
static FILE: LazyLock<FileToken> = LazyLock::new(|| FileToken::numbered(40));
static OTHER: LazyLock<FileToken> = LazyLock::new(|| FileToken::numbered(41));

/// Long enough for a busy machine, short enough to notice a hint that never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than it takes any watcher here to notice something.
const QUIET: Duration = Duration::from_millis(100);

/// Under what circumstances the suite runs.
#[derive(Debug, Clone, Copy)]
enum Under {
    Kernel,
    Inotify,
    Poll,
    SpentLimit,
}

macro_rules! watch_conformance {
    ($($case:ident),+ $(,)?) => {
        mod kernel {
            $(#[test] fn $case() {
                if crate::watch::kernel::is_available() {
                    super::$case(super::Under::Kernel);
                }
            })+
        }
        mod inotify {
            $(#[test] fn $case() { super::$case(super::Under::Inotify); })+
        }
        mod poll {
            $(#[test] fn $case() { super::$case(super::Under::Poll); })+
        }
        mod inotify_with_spent_limit {
            $(#[test] fn $case() { super::$case(super::Under::SpentLimit); })+
        }
    };
}

watch_conformance! {
    a_write_is_noticed,
    a_truncation_is_noticed,
    a_created_entry_is_noticed,
    a_renamed_entry_is_noticed,
    a_removed_entry_is_noticed,
    a_renamed_file_is_noticed_under_its_new_name_after_registering_again,
    a_renamed_file_is_noticed_before_it_is_registered_again,
    a_replaced_file_and_its_successor_are_told_apart,
    a_removed_file_that_is_held_open_is_noticed,
    a_file_that_nobody_holds_open_is_noticed,
    a_file_that_nobody_holds_open_is_noticed_under_its_new_name,
    a_closed_file_is_not_taken_for_the_one_that_has_its_name_now,
    a_file_written_before_its_registration_is_reported_once,
    registering_again_unchanged_reports_nothing,
    many_writes_are_one_event,
    an_unwatched_file_is_silent,
    an_unwatched_directory_is_silent,
    a_removed_directory_is_noticed,
    a_directory_that_comes_back_is_noticed_and_watched,
    a_directory_that_is_replaced_by_another_is_noticed,
    a_missing_directory_is_an_error,
    a_file_is_no_directory,
    the_waker_ends_a_wait,
    a_wake_before_the_wait_is_not_forgotten,
    a_wait_without_events_ends_at_its_timeout,
    the_gauges_count_files_by_mode,
    two_tokens_of_one_directory_are_both_told,
    names_that_are_no_text_are_watched,
}

fn a_write_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.append("0.log", "line\n");
    bench.expect(Event::Written(*FILE));
    bench.append("0.log", "another\n");
    bench.expect(Event::Written(*FILE));
    bench.expect_nothing_but(&[]);
}

fn a_truncation_is_noticed(under: Under) {
    let mut bench = Bench::new(under);
    bench.append("0.log", "line\n");
    let file = bench.watch(*FILE, "0.log");
    bench.settle();
    file.set_len(0).unwrap();
    bench.expect(Event::Written(*FILE));
}

fn a_created_entry_is_noticed(under: Under) {
    let mut bench = Bench::new(under);
    bench.append("1.log", "");
    bench.expect(Event::Directory(*DIRECTORY));
    fs::create_dir(bench.path("sub")).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
    std::os::unix::fs::symlink("1.log", bench.path("link")).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
}

fn a_renamed_entry_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.rename("0.log", "0.log.20260131-101112");
    bench.expect(Event::Directory(*DIRECTORY));
}

fn a_removed_entry_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    fs::remove_file(bench.path("0.log")).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
}

fn a_renamed_file_is_noticed_under_its_new_name_after_registering_again(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.rename("0.log", "0.log.1");
    bench.watch(*FILE, "0.log.1");
    bench.settle();
    bench.append("0.log.1", "late\n");
    bench.expect(Event::Written(*FILE));
}

fn a_renamed_file_is_noticed_before_it_is_registered_again(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.rename("0.log", "0.log.1");
    bench.settle();
    bench.append("0.log.1", "late\n");
    bench.expect(Event::Written(*FILE));
}

fn a_replaced_file_and_its_successor_are_told_apart(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    let mut former = bench.open("0.log");
    bench.rename("0.log", "0.log.1");
    bench.append("0.log", "");
    // Newest first: the name is taken over before its former bearer is told.
    bench.watch(*OTHER, "0.log");
    bench.watch(*FILE, "0.log.1");
    bench.settle();
    bench.append("0.log", "new\n");
    assert_eq!(bench.expect(Event::Written(*OTHER)), [Event::Written(*OTHER)]);
    former.write_all(b"old\n").unwrap();
    assert_eq!(bench.expect(Event::Written(*FILE)), [Event::Written(*FILE)]);
}

fn a_removed_file_that_is_held_open_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    let mut held = bench.open("0.log");
    fs::remove_file(bench.path("0.log")).unwrap();
    bench.append("0.log", "");
    bench.watch(*OTHER, "0.log");
    bench.settle();
    held.write_all(b"last words\n").unwrap();
    bench.expect(Event::Written(*FILE));
}

fn a_file_that_nobody_holds_open_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.close_all();
    bench.append("0.log", "late\n");
    bench.expect(Event::Written(*FILE));
    bench.append("0.log", "later\n");
    bench.expect(Event::Written(*FILE));
    bench.expect_nothing_but(&[]);
}

fn a_file_that_nobody_holds_open_is_noticed_under_its_new_name(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    let mut writer = bench.open("0.log");
    bench.close_all();
    bench.rename("0.log", "0.log.1");
    let name = OsStr::new("0.log.1");
    let bell = bench.watcher.watch_file(*FILE, *DIRECTORY, name, None, FileId(1).into());
    assert_eq!(bell.is_some(), matches!(under, Under::Kernel), "it keeps the bell it has");
    bench.settle();
    writer.write_all(b"late\n").unwrap();
    bench.expect(Event::Written(*FILE));
    bench.expect_nothing_but(&[Event::Directory(*DIRECTORY)]);
}

fn a_closed_file_is_not_taken_for_the_one_that_has_its_name_now(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.append("0.log", "line\n");
    bench.expect(Event::Written(*FILE));
    bench.close_all();
    fs::write(bench.path("other"), "much more than that\n").unwrap();
    bench.rename("other", "0.log");
    std::thread::sleep(QUIET * 3);
    bench.wait(QUIET, &mut Vec::new());
    assert_ne!(bench.watcher.last_size(*FILE), Some(20));
}

fn a_file_written_before_its_registration_is_reported_once(under: Under) {
    let mut bench = Bench::new(under);
    bench.append("0.log", "early\n");
    bench.watch(*FILE, "0.log");
    bench.expect(Event::Written(*FILE));
    bench.expect_nothing_but(&[Event::Directory(*DIRECTORY)]);
}

fn registering_again_unchanged_reports_nothing(under: Under) {
    let mut bench = Bench::new(under);
    bench.append("0.log", "");
    let file = bench.watch(*FILE, "0.log");
    bench.settle();
    let _the_same = bench.watcher.watch_file(
        *FILE,
        *DIRECTORY,
        OsStr::new("0.log"),
        Some(&file),
        FileId(1).into(),
    );
    bench.expect_nothing_but(&[]);
}

fn many_writes_are_one_event(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.append("1.log", "");
    bench.watch(*OTHER, "1.log");
    bench.settle();
    for n in 0..500 {
        bench.append(if n % 2 == 0 { "0.log" } else { "1.log" }, "line\n");
    }
    let mut events = Vec::new();
    bench.wait(PATIENCE, &mut events);
    let distinct: HashSet<_> = events.iter().collect();
    assert_eq!(distinct.len(), events.len(), "{events:?}");
}

fn an_unwatched_file_is_silent(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.append("0.log", "line\n");
    bench.watcher.unwatch_file(*FILE);
    bench.append("0.log", "line\n");
    bench.expect_nothing_but(&[]);
}

fn an_unwatched_directory_is_silent(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.watcher.unwatch_directory(*DIRECTORY);
    bench.append("1.log", "");
    bench.expect_nothing_but(&[]);
    bench.append("0.log", "its file is watched on\n");
    bench.expect(Event::Written(*FILE));
}

fn a_removed_directory_is_noticed(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    fs::remove_dir_all(bench.dir()).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
    bench.settle();
    bench.expect_nothing_but(&[]);
}

fn a_directory_that_comes_back_is_noticed_and_watched(under: Under) {
    let mut bench = Bench::new(under);
    fs::remove_dir(bench.dir()).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
    bench.settle();
    fs::create_dir(bench.dir()).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
    bench.settle();
    bench.append("0.log", "");
    bench.expect(Event::Directory(*DIRECTORY));
    bench.watch(*FILE, "0.log");
    bench.settle();
    bench.append("0.log", "line\n");
    bench.expect(Event::Written(*FILE));
}

fn a_directory_that_is_replaced_by_another_is_noticed(under: Under) {
    let mut bench = Bench::new(under);
    fs::rename(bench.dir(), bench.root.path().join("former")).unwrap();
    fs::create_dir(bench.dir()).unwrap();
    bench.expect(Event::Directory(*DIRECTORY));
    bench.settle();
    // The former one is no longer meant.
    fs::write(bench.root.path().join("former/x"), "").unwrap();
    bench.expect_nothing_but(&[]);
    bench.append("0.log", "");
    bench.expect(Event::Directory(*DIRECTORY));
}

fn a_missing_directory_is_an_error(under: Under) {
    let mut bench = Bench::new(under);
    let missing = bench.path("missing");
    let error =
        bench.watcher.watch_directory(DirToken::numbered(8), &missing.clone().into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn a_file_is_no_directory(under: Under) {
    let mut bench = Bench::new(under);
    bench.append("0.log", "");
    let path = bench.path("0.log");
    let error =
        bench.watcher.watch_directory(DirToken::numbered(8), &path.clone().into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

fn the_waker_ends_a_wait(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    let waker = bench.watcher.waker();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            waker.wake();
        });
        let mut events = Vec::new();
        bench.wait(PATIENCE, &mut events);
        assert!(events.is_empty());
    });
    assert!(begun.elapsed() < PATIENCE / 2);
}

fn a_wake_before_the_wait_is_not_forgotten(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    let begun = Instant::now();
    bench.watcher.waker().wake();
    bench.wait(PATIENCE, &mut Vec::new());
    assert!(begun.elapsed() < PATIENCE / 2);
    // … and counts once.
    let begun = Instant::now();
    bench.wait(QUIET, &mut Vec::new());
    assert!(begun.elapsed() >= QUIET);
}

fn a_wait_without_events_ends_at_its_timeout(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    for timeout in [Duration::ZERO, Duration::from_millis(30)] {
        let begun = Instant::now();
        let mut events = Vec::new();
        bench.wait(timeout, &mut events);
        assert!(begun.elapsed() >= timeout && begun.elapsed() < PATIENCE / 2);
        assert!(events.is_empty());
    }
}

fn the_gauges_count_files_by_mode(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    bench.append("1.log", "");
    bench.watch(*OTHER, "1.log");
    let (covered, adrift) = match under {
        // Files are known by their inode: they need no directory.
        Under::Kernel => ((2, 0, 0), (2, 0, 0)),
        Under::Inotify => ((0, 2, 0), (0, 0, 2)),
        Under::Poll | Under::SpentLimit => ((0, 0, 2), (0, 0, 2)),
    };
    assert_eq!(bench.gauges(), covered);
    bench.watch(*OTHER, "1.log");
    assert_eq!(bench.gauges(), covered);
    bench.watcher.unwatch_directory(*DIRECTORY);
    assert_eq!(bench.gauges(), adrift, "adrift");
    bench.watcher.unwatch_file(*FILE);
    bench.watcher.unwatch_file(*FILE);
    bench.watcher.unwatch_file(*OTHER);
    assert_eq!(bench.gauges(), (0, 0, 0));
}

fn two_tokens_of_one_directory_are_both_told(under: Under) {
    let mut bench = Bench::with_file(under, "0.log");
    // Mounted in two places, it is one to the kernel.
    let twin = DirToken::numbered(8);
    let path = bench.dir().to_owned();
    bench.watcher.watch_directory(twin, &path.into()).unwrap();
    bench.settle();
    bench.append("0.log", "its writes are still asked for\n");
    bench.expect(Event::Written(*FILE));
    bench.append("1.log", "");
    bench.expect_all(&[Event::Directory(*DIRECTORY), Event::Directory(twin)]);
    bench.watcher.unwatch_directory(twin);
    bench.append("2.log", "");
    bench.expect(Event::Directory(*DIRECTORY));
}

fn names_that_are_no_text_are_watched(under: Under) {
    use std::os::unix::ffi::OsStrExt;
    let mut bench = Bench::new(under);
    let name = OsStr::from_bytes(b"\xff\n\x1b[31m.log");
    fs::write(bench.dir().join(name), "").unwrap();
    let file = Arc::new(File::open(bench.dir().join(name)).unwrap());
    let bell = bench.watcher.watch_file(*FILE, *DIRECTORY, name, Some(&file), FileId(1).into());
    bench.bells.extend(bell.map(|bell| (*FILE, bell)));
    bench.settle();
    fs::write(bench.dir().join(name), "line\n").unwrap();
    bench.expect(Event::Written(*FILE));
}

/// A watched directory `logs` in a directory of its own.
struct Bench {
    root: tempfile::TempDir,
    watcher: Box<dyn Watcher>,
    metrics: Arc<Metrics>,
    /// What the files' reader would hold.
    bells: std::collections::HashMap<FileToken, Bell>,
    /// As long as the readers would hold them.
    held: Vec<Arc<File>>,
}

impl Bench {
    fn new(under: Under) -> Self {
        // The sweep is out of the way: what is noticed is noticed by the mechanism.
        Self::sweeping(under, Duration::from_secs(3_600))
    }

    fn sweeping(under: Under, sweep: Duration) -> Self {
        let inotify = match under {
            Under::Inotify => Some(Inotify::new().unwrap()),
            Under::Poll => None,
            // No inotify to fall back to: what the kernel does not tell is missed.
            Under::Kernel => None,
            Under::SpentLimit => Some(Inotify::with_limit(0).unwrap()),
        };
        let kernel = matches!(under, Under::Kernel).then(|| Kernel::alone().unwrap());
        Self::with_mechanisms(kernel, inotify, sweep)
    }

    fn with_inotify(inotify: Option<Inotify>, sweep: Duration) -> Self {
        Self::with_mechanisms(None, inotify, sweep)
    }

    fn with_mechanisms(kernel: Option<Kernel>, inotify: Option<Inotify>, sweep: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("logs")).unwrap();
        let mut config = Config::default();
        config.watch.poll_interval = Span(Duration::from_millis(10));
        config.watch.sweep_interval = Span(sweep);
        config.batch.max_age = Span(Duration::ZERO);
        let metrics = Arc::new(Metrics::new());
        let waker = Waker::new().unwrap();
        // Other tests mount file systems meanwhile; after a mount every directory is looked at.
        let combined = Combined::new(&config, kernel, inotify, None, waker, Arc::clone(&metrics));
        let (bells, held) = (std::collections::HashMap::new(), Vec::new());
        let mut bench = Self { root, watcher: Box::new(combined), metrics, bells, held };
        let dir = bench.dir();
        bench.watcher.watch_directory(*DIRECTORY, &dir.clone().into()).unwrap();
        bench
    }

    fn with_file(under: Under, name: &str) -> Self {
        let mut bench = Self::new(under);
        bench.append(name, "");
        bench.watch(*FILE, name);
        bench.settle();
        bench
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn open(&self, name: &str) -> File {
        File::options().append(true).create(true).open(self.path(name)).unwrap()
    }

    fn append(&self, name: &str, text: &str) {
        self.open(name).write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn watch(&mut self, token: FileToken, name: &str) -> Arc<File> {
        let file = Arc::new(self.open(name));
        let name = OsStr::new(name);
        let bell = self.watcher.watch_file(
            token,
            *DIRECTORY,
            name,
            Some(&file),
            FileId(token.data().as_ffi()).into(),
        );
        self.bells.extend(bell.map(|bell| (token, bell)));
        self.held.push(Arc::clone(&file));
        file
    }

    /// Nobody holds any file open from now on.
    fn close_all(&mut self) {
        self.settle();
        self.held.clear();
    }

    /// Waits as the registry does; what was written is read by nobody, and its bell set again as
    /// the reader would.
    fn wait(&mut self, timeout: Duration, events: &mut Vec<Event>) {
        let before = events.len();
        self.watcher.wait(timeout, events).unwrap();
        for event in &events[before..] {
            if let Event::Written(token) = event
                && let Some(bell) = self.bells.get(token)
            {
                bell.set(u64::MAX);
            }
        }
    }

    /// Waits until the event comes; answers what came in the same wait.
    fn expect(&mut self, event: Event) -> Vec<Event> {
        self.expect_all(&[event])
    }

    fn expect_all(&mut self, wanted: &[Event]) -> Vec<Event> {
        let (end, mut all) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let mut events = Vec::new();
            self.wait(Duration::from_millis(100), &mut events);
            all.extend(&events);
            if wanted.iter().all(|event| all.contains(event)) {
                return events;
            }
            assert!(Instant::now() < end, "of {wanted:?} only {all:?} came");
        }
    }

    /// Lets everything that is on its way arrive: until looks bring nothing. Time alone tells nothing on a
    /// busy machine.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..400 {
            let mut events = Vec::new();
            self.wait(QUIET / 4, &mut events);
            quiet = if events.is_empty() { quiet + 1 } else { 0 };
            if quiet == 5 {
                return;
            }
        }
    }

    fn expect_nothing_but(&mut self, allowed: &[Event]) {
        let (end, mut events) = (Instant::now() + QUIET, Vec::new());
        while Instant::now() < end {
            self.wait(QUIET / 4, &mut events);
        }
        events.retain(|event| !allowed.contains(event));
        assert_eq!(events, []);
    }

    /// Files watched by the kernel, by inotify, and polled.
    fn gauges(&self) -> (i64, i64, i64) {
        let gauge = |mode| self.metrics.watch_mode.get_or_create(&ModeLabel { mode }).get();
        (gauge("kernel"), gauge("inotify"), gauge("poll"))
    }

    fn fallbacks(&self, reason: &'static str) -> u64 {
        self.metrics.watch_fallbacks.get_or_create(&ReasonLabel { reason }).get()
    }
}

#[test]
fn what_the_mechanism_misses_the_sweep_finds() {
    let mut bench = Bench::sweeping(Under::Inotify, Duration::from_millis(50));
    bench.append("0.log", "");
    bench.watch(*FILE, "0.log");
    // Written through a name in a directory that nobody watches: inotify is blind to it.
    let elsewhere = bench.root.path().join("hard-link");
    fs::hard_link(bench.path("0.log"), &elsewhere).unwrap();
    bench.settle();
    File::options().append(true).open(&elsewhere).unwrap().write_all(b"line\n").unwrap();
    bench.expect(Event::Written(*FILE));
    assert_eq!(bench.gauges(), (0, 1, 0));
}

#[test]
fn the_last_watch_is_used_and_the_next_directory_is_polled_and_counted() {
    let inotify = Inotify::with_limit(1).unwrap();
    let mut bench = Bench::with_inotify(Some(inotify), Duration::from_secs(3_600));
    let (second, token) = (bench.path("second"), DirToken::numbered(8));
    fs::create_dir(&second).unwrap();
    assert_eq!(bench.watcher.watch_directory(token, &second.clone().into()).unwrap(), Mode::Poll);
    assert_eq!(bench.fallbacks("watch_limit"), 1);
    bench.append("0.log", "");
    bench.watch(*FILE, "0.log");
    let file = Arc::new(File::create(second.join("1.log")).unwrap());
    let bell =
        bench.watcher.watch_file(*OTHER, token, OsStr::new("1.log"), Some(&file), FileId(2).into());
    assert!(bell.is_none());
    assert_eq!(bench.gauges(), (0, 1, 1));
    bench.settle();
    (&*file).write_all(b"line\n").unwrap();
    bench.expect(Event::Written(*OTHER));
    bench.append("0.log", "line\n");
    bench.expect(Event::Written(*FILE));
}

#[test]
fn a_directory_is_taken_back_by_inotify_once_the_limit_allows() {
    let inotify = Inotify::with_limit(1).unwrap();
    let mut bench = Bench::with_inotify(Some(inotify), Duration::from_millis(50));
    let second = bench.root.path().join("second");
    fs::create_dir(&second).unwrap();
    bench.watcher.watch_directory(DirToken::numbered(8), &second.clone().into()).unwrap();
    let file = Arc::new(File::create(second.join("1.log")).unwrap());
    let name = OsStr::new("1.log");
    assert!(
        bench
            .watcher
            .watch_file(*OTHER, DirToken::numbered(8), name, Some(&file), FileId(2).into())
            .is_none()
    );
    assert_eq!(bench.gauges(), (0, 0, 1));
    bench.watcher.unwatch_directory(*DIRECTORY);
    let end = Instant::now() + PATIENCE;
    while bench.gauges() != (0, 1, 0) {
        assert!(Instant::now() < end, "still polled");
        bench.wait(QUIET, &mut Vec::new());
    }
}

#[test]
fn the_kernels_own_limit_is_understood() {
    // In a user namespace of its own the limit can be lowered without disturbing anybody; where
    // none may be made, the kernel's answer (ENOSPC, see inotify_add_watch(2)) is taken as read.
    const INSIDE: &str = "EVERYLINE_TEST_INSIDE_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        let mut inotify = Inotify::new().unwrap();
        assert_eq!(inotify.add(Path::new("/"), false), Err(super::inotify::Refusal::WatchLimit));
        return;
    }
    assert_eq!(
        super::inotify::Refusal::of(&io::Error::from_raw_os_error(libc::ENOSPC)),
        super::inotify::Refusal::WatchLimit
    );
    let lower = "echo 0 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact \
                 watch::conformance::the_kernels_own_limit_is_understood";
    let run = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", lower])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output();
    let Ok(run) = run else { return };
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() || !said.contains("running"), "{said}");
}

#[test]
fn an_overflow_is_reported_and_counted_and_the_watcher_goes_on() {
    let mut bench = Bench::with_file(Under::Inotify, "0.log");
    let length: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // Distinct events, for the kernel merges like neighbours.
    let (one, two) = (bench.path("a"), bench.path("b"));
    fs::write(&one, "").unwrap();
    for n in 0..=length {
        if n % 2 == 0 { fs::rename(&one, &two) } else { fs::rename(&two, &one) }.unwrap();
    }
    bench.expect(Event::Overflow);
    assert_eq!(bench.fallbacks("overflow"), 1);
    bench.settle();
    bench.append("0.log", "line\n");
    bench.expect(Event::Written(*FILE));
}

#[test]
fn a_directory_without_files_wakes_nobody_when_something_in_it_is_written() {
    let mut bench = Bench::new(Under::Inotify);
    bench.append("syslog", "");
    bench.settle();
    bench.append("syslog", "line\n");
    bench.expect_nothing_but(&[]);
}

#[test]
fn start_honours_the_configured_mode() {
    for (mode, expected) in [(WatchMode::Inotify, Mode::Inotify), (WatchMode::Poll, Mode::Poll)] {
        let mut config = Config::default();
        config.watch.mode = mode;
        let mut watcher = start(&config, Arc::new(Metrics::new())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(watcher.watch_directory(*DIRECTORY, &dir.path().into()).unwrap(), expected);
    }
}
