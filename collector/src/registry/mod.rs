//! The registry: which files there are, who they are, and which reader reads them.
//!
//! Joins what `discover` lists and `watch` notices with file identity, and keeps each source's
//! files in the order they were written. It opens files and looks at names and sizes; it reads no
//! log bytes but the first few, to recognise a file.

mod away;
mod changed;
mod close;
mod copies;
mod cut_off;
mod departed;
mod directories;
mod dormant;
mod events;
mod evidence;
mod first_look;
mod forget;
mod held;
mod last_line;
mod list;
mod missing;
mod names;
mod orders;
mod originals;
mod parked;
mod paths;
mod pause;
mod place;
mod recognise;
mod recognised;
pub mod recovery;
mod rest;
mod sequence;
mod shortage;
mod since;
mod source_state;
mod sources;
mod still;
mod strangers;
mod surveys;
mod told;
mod turns;
mod twins;
mod unasked;
mod uncounted;
mod unfinished;
mod waiting;
mod ways;
mod who;
mod written_over;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::BuildHasher,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    checkpoint::FileEntry,
    config::Start,
    descriptors,
    discover::{Discovery, Found},
    identity::{FileId, InodeKey, KernelInode},
    ledger::{Accounts, SinkSlot},
    messages::{self, Kind},
    metrics::Metrics,
    read::{
        checksum::Finished,
        reader::{Feedback, Message},
        tail::TailId,
    },
    registry::recovery::Unclaimed,
    settle::Command,
    watch::{Event, Watcher},
};
use directories::Directories;
use held::HeldFiles;
pub use orders::{Begin, Order, Orders};
use source_state::{Kept, SourceState};
use still::{Inode, Still};

/// How often finished files whose names vanished are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Longer than a first look takes.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// What changed during the first look is looked at within this.
const CAUGHT_UP: Duration = Duration::from_secs(4);
/// Room kept for events.
const KEPT: usize = 1_024;
/// A directory whose files could not be opened is listed again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Problems that are remembered as said.
const PROBLEMS: usize = 10_000;
/// Files that the checkpoint knows and nobody finds are given up for lost this long after the first
/// look: one that is being compressed meanwhile is found under its new name first.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// What the registry is made of.
pub struct Setup {
    /// Finds files.
    pub discovery: Discovery,
    /// Notices changes.
    pub watcher: Box<dyn Watcher>,
    /// The reader threads.
    pub readers: Vec<Sender<Message>>,
    /// What they say.
    pub feedback: Receiver<Feedback>,
    /// For the checksums of finished files.
    pub checksums: Sender<Finished>,
    /// To the settling thread.
    pub settler: Sender<Command>,
    /// Set once the agent is going down.
    pub stopping: Arc<std::sync::atomic::AtomicBool>,
    /// All accounts.
    pub accounts: Arc<Accounts>,
    /// Where losses and events are counted.
    pub metrics: Arc<Metrics>,
    /// The sinks.
    pub sinks: Vec<SinkSlot>,
    /// What it is told while it runs.
    pub orders: Receiver<Order>,
    /// Where compressed files are unpacked.
    pub state_dir: Arc<Path>,
    /// Bound on unpacking one file, bytes.
    pub max_unpacked: u64,
    /// Where to start in files that were there before the agent ever ran.
    pub start: Start,
    /// Whether the agent never ran before.
    pub fresh: bool,
    /// When the agent before this one wrote the checkpoint last.
    pub written: Option<SystemTime>,
    /// What the checkpoint knows.
    pub entries: Vec<FileEntry>,
    /// Files that are gone and that the agent before this one had counted.
    pub counted: Box<[KernelInode]>,
    /// Set once the first scan is done.
    pub ready: Box<dyn Fn() + Send>,
}

/// The registry.
pub struct Registry {
    setup: Setup,
    unclaimed: Unclaimed,
    directories: Directories,
    sources: Map<Arc<Path>, Box<SourceState>>,
    held: HeldFiles,
    /// Those that nobody holds.
    inodes: Map<InodeKey, Inode>,
    problems: HashSet<u64, foldhash::fast::RandomState>,
    /// Sources that were collected before a reload, and are no more.
    excluded: HashSet<Arc<Path>>,
    /// How logs were looked for before a reload, if what that excludes could not be told yet.
    former: Option<Box<Discovery>>,
    retries: BTreeMap<PathBuf, Instant>,
    turns: turns::Turns,
    /// By source.
    parked: HashMap<Arc<Path>, parked::Parked>,
    unfinished: HashMap<InodeKey, unfinished::Unfinished>,
    next_tail: u64,
    scanning: bool,
    /// When the registry's thread looked at anything last.
    awake: pause::Awake,
    give_up_at: Option<Instant>,
    /// Whatever the checkpoint knew has been found or given up.
    complete: bool,
    while_down: departed::WhileDown,
    uncounted: uncounted::Uncounted,
    cut_off: cut_off::CutOff,
    rests: rest::Rests,
    shortage: shortage::Shortage,
    surveys: surveys::Surveys,
    ways: ways::Ways,
    names: names::Names,
    waiting: waiting::Waiting,
    away: away::Away,
    /// What is told to the settling thread in one piece, while that is put together.
    together: Option<Vec<Command>>,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

impl Registry {
    /// A registry that has not looked yet.
    pub fn new(mut setup: Setup) -> Self {
        let entries = std::mem::take(&mut setup.entries);
        let while_down = departed::WhileDown::since(setup.written, &entries, &setup.counted);
        setup.accounts.reserve(entries.iter().map(|entry| entry.id));
        let unclaimed = Unclaimed::new(entries);
        Self {
            setup,
            unclaimed,
            directories: Directories::default(),
            sources: Map::default(),
            held: HeldFiles::default(),
            inodes: Map::default(),
            problems: HashSet::default(),
            excluded: HashSet::new(),
            former: None,
            retries: BTreeMap::new(),
            turns: turns::Turns::default(),
            parked: HashMap::new(),
            unfinished: HashMap::new(),
            next_tail: 0,
            scanning: true,
            awake: pause::Awake::now(),
            give_up_at: None,
            complete: false,
            while_down,
            uncounted: uncounted::Uncounted::default(),
            cut_off: cut_off::CutOff::default(),
            rests: rest::Rests::default(),
            shortage: shortage::Shortage::default(),
            surveys: surveys::Surveys::default(),
            ways: ways::Ways::default(),
            names: names::Names::default(),
            waiting: waiting::Waiting::default(),
            away: away::Away::default(),
            together: None,
        }
    }

    /// Runs until the agent goes down.
    pub fn run(mut self) {
        self.scan();
        (self.setup.ready)();
        let mut events = Vec::new();
        let mut housekeeping = Instant::now() + HOUSEKEEPING;
        while !self.setup.stopping.load(Ordering::Acquire) {
            let planned = self.give_up_at.into_iter().chain(self.ways.due());
            let planned = planned.chain(self.cut_off.next()).chain(self.strangers_due());
            let next = self.retries.values().copied().chain(planned).min();
            let next = next.unwrap_or(housekeeping);
            let next = if self.parked.is_empty() { next } else { next.min(Instant::now() + RETRY) };
            let next = if self.turns.is_empty() { next } else { Instant::now() };
            let timeout = next.min(housekeeping).saturating_duration_since(Instant::now());
            events.clear();
            events.shrink_to(KEPT);
            if let Err(error) = self.setup.watcher.wait(timeout, &mut events) {
                tracing::error!(%error, "Waiting for file changes failed; everything is looked at again.");
                events.push(Event::Overflow);
                std::thread::sleep(Duration::from_millis(200));
            }
            self.heed_pause(timeout);
            self.heed_orders();
            self.heed_readers();
            self.setup.discovery.list_many(true);
            self.heed_watcher(&events);
            self.retry();
            self.take_turns();
            self.look_along_ways();
            self.setup.discovery.list_many(false);
            self.heed_names();
            self.hand_over_parked();
            self.give_up();
            self.count_waiting_strangers(false);
            self.let_waiting_in();
            self.decide_cut_off();
            if Instant::now() >= housekeeping {
                housekeeping = Instant::now() + HOUSEKEEPING;
                self.forget_vanished();
                self.count_names(Instant::now());
                self.exclude_later();
                messages::tell_unsaid(false);
            }
            self.share_descriptors();
            self.publish();
        }
        self.heed_readers();
        self.count_waiting_strangers(true);
        self.cut_off_all();
        messages::tell_unsaid(true);
    }

    /// The first look at everything.
    fn scan(&mut self) {
        self.tell_looking(Instant::now() + FIRST_LOOK);
        self.share_descriptors();
        if self.setup.fresh {
            // What is there was counted for an agent whose state is gone.
            self.setup.watcher.count_truncations_anew();
        }
        self.learn_departed();
        let found = self.list_roots();
        self.keep_places(&found);
        let mut sources: BTreeMap<Arc<Path>, Vec<(Arc<Path>, Found)>> = BTreeMap::new();
        for (directory, found) in found {
            sources.entry(Arc::clone(&found.source.path)).or_default().push((directory, found));
        }
        // Everything is recognised before anything is read: what is left over then was moved out
        // of sight or is gone, and what was moved comes first in its source.
        let mut recognised = Vec::new();
        for (path, found) in sources {
            let directory = Arc::clone(&found[0].0);
            let files = found.into_iter().map(|(_, found)| found).collect();
            let files = self.recognise(files, &directory);
            recognised.push((path, directory, files));
        }
        let taken: HashSet<InodeKey> = recognised
            .iter()
            .flat_map(|(_, _, files)| files.iter().map(|file| file.look.key))
            .chain(self.parked.values().flat_map(parked::Parked::keys))
            .collect();
        for (path, directory, files) in recognised {
            let Some(source) = files.first().map(|file| Arc::clone(&file.found.source)) else {
                continue;
            };
            self.open_source(&source, &directory);
            for entry in self.unclaimed.take_source(&path) {
                self.find_moved(entry, &source, &directory, &taken);
            }
            for file in files {
                self.settle_in(file);
            }
        }
        self.keep_no_places();
        self.note_unseen_changes();
        // What was rotated meanwhile is looked at now.
        self.tell_looking(Instant::now() + CAUGHT_UP);
        self.scanning = false;
        let nothing_missing = self.unclaimed.is_empty() && self.while_down.is_empty();
        let wait = if nothing_missing { Duration::ZERO } else { GIVE_UP_AFTER };
        self.give_up_at = Some(Instant::now() + wait);
        self.tell_first_look();
        self.publish();
    }

    /// Says a problem with a file or directory, once; after very many it may be said again.
    fn complain(&mut self, path: &Path, problem: String) {
        if self.problems.len() >= PROBLEMS {
            self.problems.clear();
        }
        // Of its text only the hash: whoever makes up names would fill memory with it.
        if self.problems.insert(self.problems.hasher().hash_one(&problem))
            && let Some(unsaid) = messages::admit(Kind::Problem, path)
        {
            tracing::warn!("{problem}{unsaid}");
        }
    }

    /// Tails are dealt to the readers in turn, so they are counted by themselves.
    fn tail_id(&mut self) -> TailId {
        self.next_tail += 1;
        TailId(self.next_tail)
    }

    fn present(&mut self, source: &Path, id: FileId) {
        let Some(state) = self.sources.get_mut(source) else { return };
        if !state.note_known(id, None)
            && let Some(account) = self.setup.accounts.get(id)
        {
            state.note(&account, None);
        }
    }

    fn send(&self, source: &Path, message: impl FnOnce(TailId) -> Message) {
        let Some(state) = self.sources.get(source) else { return };
        let readers = &self.setup.readers;
        let reader = &readers[state.tail.0 as usize % readers.len()];
        // A reader is gone only when the agent is going down.
        let _going_down = reader.send(message(state.tail));
    }

    /// The slots of the sinks that there are.
    fn slots(&self) -> impl Iterator<Item = u16> {
        self.setup.sinks.iter().map(|sink| sink.number)
    }

    fn publish(&mut self) {
        self.tell_waiting();
        let metrics = &self.setup.metrics;
        let closed = descriptors::shares().map_or(0, |shares| shares.waiting as i64);
        metrics.open_files.set(self.held.awake() as i64 - closed);
        metrics.sources.set(self.sources.len() as i64);
        if let Some(own) = self.setup.discovery.left_out_anew() {
            metrics.own_logs.set(own.len() as i64);
            if let Some(unsaid) = messages::admit(Kind::LeftOut, &self.setup.state_dir) {
                let logs = own.join(", ");
                tracing::info!(
                    count = own.len(),
                    logs,
                    "The agent's own logs are not collected.{unsaid}"
                );
            }
        }
    }
}
