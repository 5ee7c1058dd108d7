//! What an append of 256 bytes costs its writer, watched, unwatched, and with nothing loaded.
//!
//! The writer's own CPU time (CLOCK_THREAD_CPUTIME_ID), pinned to one CPU; the watcher's thread,
//! which hears and arms as a reader would, on another. Rounds take turns and the least of each
//! counts; the file is emptied before each. 10,000 other files are watched meanwhile.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use benches::{
    loadgen::raise_descriptor_limit,
    measure::{Agent, pin_process, pin_thread, thread_cpu},
};
use collector::{
    config::{Config, WatchMode},
    identity::FileId,
    metrics::{Metrics, ModeLabel},
    watch::{self, Bell, DirToken, Event, FileToken, Waker, Watcher},
};
use slotmap::{Key, SlotMap};

use super::{MODES, Mode, figure, named};
use crate::{Bench, Figure, PATIENCE};

const ROUNDS: usize = 7;
const APPENDS: u32 = 200_000;
const BYTES: usize = 256;
/// Directories, and files in each, that are watched besides.
const OTHERS: (u64, u64) = (100, 100);
/// The writer's CPU and everybody else's, from the last.
const WRITER: usize = 0;
const REST: usize = 1;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    raise_descriptor_limit();
    let world = World::new(bench)?;
    // Pinned for good: threads of other measurements are not started by this one.
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pin_thread(WRITER)?;
            rounds(bench, &world)
        });
        writer.join().expect("the writer panicked")
    })
}

fn rounds(bench: &Bench, world: &World) -> Result<Vec<Figure>> {
    let mut bare = Least::default();
    let mut times: [[Least; 2]; 3] = Default::default();
    let mut read = Least::default();
    world.append(&world.watched)?;
    for _ in 0..ROUNDS {
        bare.add(world.append(&world.watched)?);
        bare.add(world.append(&world.unwatched)?);
        for (mode, [unwatched, watched]) in MODES.into_iter().zip(&mut times) {
            let _watching = Watching::start(mode, world)?;
            unwatched.add(world.append(&world.unwatched)?);
            watched.add(world.append(&world.watched)?);
        }
        let _agent = world.agent(bench)?;
        read.add(world.append(&world.watched)?);
    }
    let bare = bare.0;
    let added = |name: String, time: Least, note: &str| {
        let note = format!("{:.0} ns an append; thread CPU time; {note}", time.0);
        figure(name, time.0 - bare, "ns", bare, note)
    };
    let mut figures = Vec::new();
    for (mode, [unwatched, watched]) in MODES.into_iter().zip(times) {
        let reach = |text| if mode == Mode::Kernel { text } else { "beside" };
        figures.push(added(named(mode, "watched_write"), watched, reach("at most 0.15")));
        figures.push(added(named(mode, "unwatched_write"), unwatched, reach("at most 0.10")));
    }
    figures.push(added("watched_write_read".to_owned(), read, "beside: an agent reads meanwhile"));
    Ok(figures)
}

/// The least of several rounds, ns an append.
#[derive(Debug, Clone, Copy)]
struct Least(f64);

impl Default for Least {
    fn default() -> Self {
        Self(f64::INFINITY)
    }
}

impl Least {
    fn add(&mut self, time: f64) {
        self.0 = self.0.min(time);
    }
}

/// Open files and what they are called.
type Named = Vec<(OsString, Arc<File>)>;

/// The files.
struct World {
    dir: tempfile::TempDir,
    watched: File,
    unwatched: File,
    /// By directory.
    others: Vec<(PathBuf, Named)>,
}

impl World {
    fn new(bench: &Bench) -> Result<Self> {
        let dir = bench.fresh_dir()?;
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let folder = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).map(|()| path)
        };
        let mut others = Vec::new();
        for number in 0..OTHERS.0 {
            let path = folder(&format!("other{number}"))?;
            let files = (0..OTHERS.1).map(|number| {
                let name = OsString::from(format!("{number}.log"));
                open(&path.join(&name)).map(|file| (name, Arc::new(file)))
            });
            let files = files.collect::<Result<_, _>>()?;
            others.push((path, files));
        }
        let watched = open(&folder("watched")?.join("0.log"))?;
        let unwatched = open(&folder("unwatched")?.join("0.log"))?;
        Ok(Self { dir, watched, unwatched, others })
    }

    /// A round: ns an append.
    fn append(&self, mut file: &File) -> Result<f64> {
        file.set_len(0)?;
        let mut line = [b'x'; BYTES];
        line[BYTES - 1] = b'\n';
        let begun = thread_cpu();
        for _ in 0..APPENDS {
            ensure!(file.write(&line)? == BYTES, "a short write");
        }
        Ok((thread_cpu() - begun).as_nanos() as f64 / f64::from(APPENDS))
    }

    /// A real agent that reads all that is watched.
    fn agent(&self, bench: &Bench) -> Result<Agent> {
        let (state, root) = (self.dir.path().join("agent"), self.dir.path().display());
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        fs::create_dir(&state)?;
        let yaml = format!(
            "sources:\n  kubernetes: {{enabled: false}}\n  docker: {{enabled: false}}\n  \
             files: [{{paths: [\"{root}/other*/*.log\", \"{root}/watched/*.log\"]}}]\n\
             watch: {{mode: kernel, kernel: {{pin_dir: /nonexistent}}}}\n\
             sinks: {{out: {{type: \"null\"}}}}\n"
        );
        self.watched.set_len(0)?;
        let mut agent = Agent::start(&bench.everyline, &state, &yaml)?;
        pin_process(agent.pid(), REST)?;
        let files = OTHERS.0 * OTHERS.1 + 1;
        agent.wait_until(PATIENCE, |agent| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(agent.sum("everyline_watch_mode{mode=\"kernel\"}")? == files)
        })?;
        Ok(agent)
    }
}

/// A watcher at work in this process.
struct Watching {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    fn start(mode: Mode, world: &World) -> Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let mut config = Config::default();
        config.watch.mode = match mode {
            Mode::Kernel => WatchMode::Kernel,
            Mode::Inotify => WatchMode::Inotify,
            Mode::Poll => WatchMode::Poll,
        };
        world.dir.path().clone_into(&mut config.state_dir);
        config.watch.kernel.pin_dir = "/nonexistent".into();
        let mut watcher = watch::start(&config, Arc::clone(&metrics))?;
        let mut directories = SlotMap::<DirToken, ()>::with_key();
        let mut tokens = SlotMap::<FileToken, ()>::with_key();
        let mut watch = |path: &Path, files: &[(OsString, Arc<File>)]| {
            let (directory, mut last) = (directories.insert(()), None);
            watcher.watch_directory(directory, &path.into())?;
            for (name, file) in files {
                let token = tokens.insert(());
                let id = FileId(token.data().as_ffi());
                last = Some((
                    token,
                    watcher.watch_file(token, directory, name, Some(file), id.into()),
                ));
            }
            std::io::Result::Ok(last)
        };
        let file = Arc::new(world.watched.try_clone()?);
        let one = [("0.log".into(), Arc::clone(&file))];
        let watched = watch(&world.dir.path().join("watched"), &one)?;
        for (path, files) in &world.others {
            watch(path, files)?;
        }
        let settled = Instant::now() + Duration::from_millis(300);
        while Instant::now() < settled {
            watcher.wait(Duration::from_millis(100), &mut Vec::new())?;
        }
        let label = ModeLabel { mode: mode.name() };
        let covered = metrics.watch_mode.get_or_create(&label).get();
        let files = OTHERS.0 * OTHERS.1 + 1;
        ensure!(covered == files as i64, "{mode:?} watches {covered} of {files} files here");
        let (token, bell) = watched.context("no file is watched")?;
        Ok(Self::spawn(watcher, file, token, bell))
    }

    /// Hears, looks, and arms again, as the registry and a reader would.
    fn spawn(
        mut watcher: Box<dyn Watcher>,
        file: Arc<File>,
        token: FileToken,
        bell: Option<Bell>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (waker, stopped) = (watcher.waker(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            pin_thread(REST).ok();
            let set = || {
                if let Some(bell) = &bell {
                    bell.set(file.metadata().map_or(0, |about| about.len()));
                }
            };
            set();
            let mut events = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                events.clear();
                watcher.wait(Duration::from_secs(1), &mut events).ok();
                if events.contains(&Event::Written(token)) {
                    set();
                }
            }
        });
        Self { stop, waker, thread: Some(thread) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watcher's thread panicked");
        }
        // What the kernel does with the programs afterwards is nobody's round.
        std::thread::sleep(Duration::from_millis(100));
    }
}
