//! The totals against a model, under every order of events: what is read, settled, truncated,
//! forgotten, lost, and where the agent is killed and with which sinks it comes back.
//!
//! The books are the real ones (accounts, settling thread's steps, journal, reports, audit's sums). The
//! model knows files, what each sink was given of them, and what the last commit made durable.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{slots::SinkTable, *};
use crate::{
    batch::Range,
    identity::{Identity, InodeKey, guard::Guard},
    ledger::{
        Accounts,
        report::{Report, Totals, from_checkpoint},
    },
    reason::{ByReason, Kind},
    source::{Format, Source},
    supervisor::report::file_report,
};

const SINKS: [&str; 3] = ["a", "b", "c"];
const FILES: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A file grows, and is seen to.
    Grow(usize, u64),
    /// A sink's reader gets further in it; some of that no record carries.
    Read(usize, usize, u64, u64),
    /// A sink's oldest batch is settled.
    Settle(usize, bool),
    /// A file is truncated under the reader.
    Truncate(usize),
    /// A file's last name is gone.
    Delete(usize),
    /// The registry finds that it is finished with.
    Forget(usize),
    /// A file comes back: the same inode, as far as anybody can tell.
    Return(usize, u64),
    /// A file was born and deleted, and only the kernel saw it.
    Unseen(u64),
    Commit,
    /// Killed; what happens to a file meanwhile, and the sinks of the next agent.
    Kill(usize, Down, u8),
}

#[derive(Debug, Clone, Copy)]
enum Down {
    Nothing,
    Grown(u64),
    Truncated(u64),
    Deleted,
}

/// What became of a file's life for one sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Given {
    settled: u64,
    dropped: u64,
    lost: u64,
}

/// Lives are numbered as they begin. What a sink was given of each, and of what only the kernel saw.
type Truth = BTreeMap<(usize, &'static str), Given>;

struct File {
    inode: u64,
    size: u64,
    exists: bool,
    life: usize,
    account: Option<Arc<FileAccount>>,
}

struct World {
    dir: tempfile::TempDir,
    sinks: Vec<&'static str>,
    files: Vec<File>,
    lives: usize,
    of_id: BTreeMap<FileId, usize>,
    now: Truth,
    durable: Truth,
    /// Per sink: seen and given up, as the last durable state says.
    before: BTreeMap<String, (u64, u64)>,
    agent: Settler,
    unsaved: Unsaved,
    batches: BTreeMap<usize, Vec<(usize, Range)>>,
}

fn agent(dir: &Path, sinks: &[&'static str]) -> (Settler, Vec<FileEntry>) {
    let (store, recovered) = Store::open(dir).unwrap();
    assert!(recovered.damage.is_empty());
    let metrics = Arc::new(Metrics::new());
    let totals = Totals::from_named(&recovered.totals);
    metrics.resume(|reason| totals.of(reason));
    let settler = Settler {
        store,
        books: Books {
            accounts: Arc::new(Accounts::new(totals)),
            metrics,
            sinks: SinkTable::of(sinks),
        },
        receipts: never(),
        readers: Vec::new(),
        registrations: never(),
        commands: never(),
        interval: Duration::from_secs(1),
        last_commit_ms: Arc::default(),
    };
    (settler, recovered.entries)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sinks = SINKS[..2].to_vec();
        let (agent, _) = agent(dir.path(), &sinks);
        let files = (0..FILES)
            .map(|n| File { inode: n as u64, size: 0, exists: false, life: 0, account: None })
            .collect();
        let mut world = Self {
            dir,
            sinks,
            files,
            lives: 0,
            of_id: BTreeMap::new(),
            now: Truth::new(),
            durable: Truth::new(),
            before: BTreeMap::new(),
            agent,
            unsaved: Unsaved::default(),
            batches: BTreeMap::new(),
        };
        (0..FILES).for_each(|n| world.come(n, 0));
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grow(n, bytes) => self.grow(n, bytes),
            Step::Read(n, sink, bytes, cut) => self.read(n, sink, bytes, cut),
            Step::Settle(sink, delivered) => self.settle(sink, delivered),
            Step::Truncate(n) => self.truncate(n),
            Step::Delete(n) => self.files[n].exists = false,
            Step::Forget(n) => self.forget(n),
            Step::Return(n, size) if !self.files[n].exists && self.files[n].account.is_none() => {
                self.come(n, size);
            }
            Step::Return(..) => {}
            Step::Unseen(size) => {
                let (path, reason) = ("/logs/unseen".into(), Reason::DeletedUnseen);
                let went = Went { lost: vec![(path, size, reason)], ..Went::default() };
                self.agent.obey(Command::Went(went), &mut self.unsaved);
                self.lives += 1;
                for sink in &self.sinks {
                    let given = Given { settled: size, lost: size, dropped: 0 };
                    self.now.insert((self.lives, sink), given);
                }
            }
            Step::Commit => self.commit(),
            Step::Kill(n, down, sinks) => self.kill(n, down, sinks),
        }
        self.check();
    }

    fn path(&self, n: usize) -> PathBuf {
        format!("/logs/{n}.log").into()
    }

    fn source(&self, n: usize) -> Arc<Source> {
        Arc::new(Source::anonymous(self.path(n), Format::Plain))
    }

    fn identity(&self, n: usize) -> Identity {
        let inode = self.files[n].inode;
        Identity { key: InodeKey { device: 1, inode, born_ns: 1 }, handle: None }
    }

    /// A file that nobody knows is found, and registered.
    fn come(&mut self, n: usize, size: u64) {
        let (identity, sinks) = (self.identity(n), self.sinks.len());
        let mut epoch = 0;
        let accounts = Arc::clone(&self.agent.books.accounts);
        let stored = |id| self.agent.store.state().entries.contains_key(&id);
        while accounts.get(identity.id(epoch)).is_some()
            || stored(identity.id(epoch)) && !self.unsaved.forgotten.contains(&identity.id(epoch))
        {
            epoch += 1;
        }
        let path = self.path(n);
        self.enter(n, FileAccount::new(identity, epoch, self.source(n), &path, sinks), size);
    }

    fn enter(&mut self, n: usize, account: FileAccount, size: u64) {
        let account = Arc::new(account);
        account.see(size);
        self.lives += 1;
        self.of_id.insert(account.id, self.lives);
        let file = &mut self.files[n];
        (file.size, file.exists, file.life) = (size, true, self.lives);
        file.account = Some(Arc::clone(&account));
        self.agent.books.accounts.insert(Arc::clone(&account));
        let (reply, _nobody) = crossbeam_channel::unbounded();
        let registration = Registration {
            accounts: vec![Arc::clone(&account)],
            cuts: Vec::new(),
            tails: Vec::new(),
            reply,
        };
        self.agent.register(&[registration], &mut self.unsaved);
        self.commit();
        account.registered.store(true, Ordering::Release);
    }

    fn grow(&mut self, n: usize, bytes: u64) {
        let file = &mut self.files[n];
        let Some(account) = file.account.as_ref().filter(|_| file.exists) else { return };
        file.size += bytes;
        account.see(file.size);
        account.ended.store(false, Ordering::Release);
        // As `refresh` does with files that nobody reads.
        self.unsaved.files.insert(account.id, Arc::clone(account));
    }

    fn read(&mut self, n: usize, sink: usize, bytes: u64, cut: u64) {
        let sink = sink % self.sinks.len();
        let Some(account) = self.files[n].account.clone() else { return };
        let place = account.sink(sink as u16);
        let from = place.read.load(Ordering::Acquire);
        if place.is_excluded() {
            return;
        }
        let end = (from + bytes).min(account.seen.load(Ordering::Acquire));
        let mut given_up = ByReason::default();
        given_up.add(Reason::LineTooLong, cut.min(end - from));
        self.hand_on(sink, self.files[n].life, &account, end, given_up);
    }

    fn hand_on(
        &mut self,
        sink: usize,
        life: usize,
        account: &Arc<FileAccount>,
        end: u64,
        given_up: ByReason,
    ) {
        let place = account.sink(sink as u16);
        let bytes = end - place.read.load(Ordering::Acquire);
        place.read_to(end, Guard::NONE);
        let file = Arc::clone(account);
        let range = Range {
            file,
            end,
            resume: end,
            guard: Guard::NONE,
            bytes,
            given_up,
            lines: 1,
            again: false,
        };
        self.batches.entry(sink).or_default().push((life, range));
    }

    fn settle(&mut self, sink: usize, delivered: bool) {
        let sink = sink % self.sinks.len();
        let Some(batches) = self.batches.get_mut(&sink).filter(|batches| !batches.is_empty())
        else {
            return;
        };
        let (life, range) = batches.remove(0);
        let given = self.now.entry((life, self.sinks[sink])).or_default();
        given.settled += range.bytes;
        given.lost += range.given_up.sum_of(Kind::Lost);
        given.dropped += match delivered {
            true => range.given_up.sum_of(Kind::Dropped),
            false => range.bytes - range.given_up.sum_of(Kind::Lost),
        };
        let outcome =
            if delivered { Outcome::Delivered } else { Outcome::Dropped(Reason::Rejected) };
        let receipt =
            Receipt { sink: sink as u16, ranges: vec![range], lines: 1, outcome, position: None };
        self.agent.apply(receipt, &mut self.unsaved);
    }

    fn truncate(&mut self, n: usize) {
        let Some(account) = self.files[n].account.clone().filter(|_| self.files[n].exists) else {
            return;
        };
        account.ended.store(true, Ordering::Release);
        account.stale.store(true, Ordering::Release);
        let seen = account.seen.load(Ordering::Acquire);
        for sink in 0..self.sinks.len() {
            if account.sink(sink as u16).is_excluded() {
                continue;
            }
            let mut given_up = ByReason::default();
            given_up.add(
                Reason::Truncated,
                seen - account.sink(sink as u16).read.load(Ordering::Acquire),
            );
            self.hand_on(sink, self.files[n].life, &account, seen, given_up);
        }
        let (path, epoch) = (self.path(n), account.epoch + 1);
        let next =
            FileAccount::new(self.identity(n), epoch, self.source(n), &path, self.sinks.len());
        self.enter(n, next, 0);
    }

    /// As the registry does: what is done with is forgotten; what is not must not be.
    fn forget(&mut self, n: usize) {
        let count = self.sinks.len() as u16;
        let slots = || 0..count;
        let file = &mut self.files[n];
        if !file.exists && file.account.as_ref().is_some_and(|account| account.is_settled(slots()))
        {
            let account = file.account.take().unwrap();
            account.ended.store(true, Ordering::Release);
            account.stale.store(true, Ordering::Release);
        }
        for account in self.agent.books.accounts.all() {
            let (id, size) = (account.id, account.seen.load(Ordering::Acquire));
            let stored = self.agent.store.state().entries.get(&id);
            let stored = stored.filter(|_| !self.unsaved.forgotten.contains(&id)).cloned();
            self.agent.obey(Command::Forget(vec![id, id]), &mut self.unsaved);
            let forgotten = self.agent.books.accounts.get(id).is_none();
            assert_eq!(forgotten, account.is_done(slots()));
            // What a sink that was removed did not get of it, it will not get any more.
            for (sink, offset) in stored.iter().flat_map(|entry| entry.sinks.iter()) {
                let sink = SINKS.into_iter().find(|name| **name == **sink).unwrap();
                if forgotten && !self.sinks.contains(&sink) {
                    let given = self.now.entry((self.of_id[&id], sink)).or_default();
                    given.settled += size - offset.settled;
                    given.dropped += size - offset.settled;
                }
            }
        }
    }

    fn commit(&mut self) {
        self.agent.commit(&mut self.unsaved);
        self.durable = self.now.clone();
        let stored = self.stored();
        for (sink, sums) in sums_of(&stored) {
            let before = self.before.insert(sink.clone(), sums).unwrap_or_default();
            assert!(
                before.0 <= sums.0 && before.1 <= sums.1,
                "sink {sink}: {before:?} became {sums:?}"
            );
        }
    }

    /// What `status` and `audit` say while no agent runs.
    fn stored(&self) -> Report {
        let recovered = Store::read(self.dir.path()).unwrap();
        from_checkpoint(&recovered.entries, &recovered.totals)
    }

    fn kill(&mut self, n: usize, down: Down, sinks: u8) {
        let file = &mut self.files[n];
        match down {
            Down::Nothing => {}
            Down::Grown(bytes) => file.size += bytes,
            Down::Truncated(size) => file.size = size,
            Down::Deleted => file.exists = false,
        }
        self.now = self.durable.clone();
        self.batches.clear();
        self.unsaved = Unsaved::default();
        self.sinks = (0..3).filter(|n| sinks & (1 << n) != 0).map(|n| SINKS[n]).collect();
        if self.sinks.is_empty() {
            self.sinks.push("a");
        }
        let (next, entries) = agent(self.dir.path(), &self.sinks);
        self.agent = next;
        self.files.iter_mut().for_each(|file| file.account = None);
        self.recover(entries);
        self.agent.obey(Command::Complete, &mut self.unsaved);
    }

    /// The registry's first look.
    fn recover(&mut self, mut entries: Vec<FileEntry>) {
        // Of an inode's lives the last one counts.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.epoch));
        for entry in entries {
            let n = entry.inode as usize;
            let life = self.of_id[&entry.id];
            let names = &self.agent.books.sinks.wanted();
            if self.files[n].account.is_some() {
                self.lose(&entry, life, Reason::Truncated);
            } else if !self.files[n].exists {
                if !(is_settled(&entry, names) && entry.ended) {
                    self.lose(&entry, life, Reason::DeletedWhileDown);
                    continue;
                }
                let path = self.path(n);
                let (identity, source) = (self.identity(n), self.source(n));
                let account = FileAccount::recovered(&entry, identity, source, &path, names);
                account.ended.store(true, Ordering::Release);
                for sink in names {
                    if !entry.sinks.contains_key(&sink.name) {
                        account.sink(sink.number).exclude();
                    }
                }
                self.take(n, account, life);
            } else if entry.sinks.values().any(|offset| offset.settled > self.files[n].size) {
                self.lose(&entry, life, Reason::Truncated);
                let (path, size) = (self.path(n), self.files[n].size);
                let (identity, source) = (self.identity(n), self.source(n));
                let sinks = self.sinks.len();
                let next = FileAccount::new(identity, entry.epoch + 1, source, &path, sinks);
                self.enter(n, next, size);
            } else {
                let path = self.path(n);
                let (identity, source) = (self.identity(n), self.source(n));
                let account = FileAccount::recovered(&entry, identity, source, &path, names);
                account.see(self.files[n].size);
                self.take(n, account, life);
            }
        }
    }

    fn take(&mut self, n: usize, account: FileAccount, life: usize) {
        let account = Arc::new(account);
        self.agent.books.accounts.insert(Arc::clone(&account));
        (self.files[n].account, self.files[n].life) = (Some(account), life);
    }

    fn lose(&mut self, entry: &FileEntry, life: usize, reason: Reason) {
        for (sink, offset) in entry.sinks.iter() {
            let sink = SINKS.into_iter().find(|name| **name == **sink).unwrap();
            let given = self.now.entry((life, sink)).or_default();
            let open = entry.size - offset.settled;
            given.settled += open;
            match self.sinks.contains(&sink) {
                true => given.lost += open,
                false => given.dropped += open,
            }
        }
        self.agent.obey(Command::Lose(Box::new(entry.clone()), reason), &mut self.unsaved);
        // A second word on the same file changes nothing.
        self.agent.obey(Command::Lose(Box::new(entry.clone()), reason), &mut self.unsaved);
    }

    /// What the running agent reports.
    fn report(&self) -> Report {
        let books = &self.agent.books;
        let (accounts, totals) = books.accounts.snapshot();
        let sinks = books.sinks.wanted();
        let files = accounts.iter().map(|account| file_report(account, &sinks)).collect();
        Report { files, totals, looking: !books.accounts.is_complete(), ..Report::default() }
    }

    fn check(&self) {
        let report = self.report();
        let sums = crate::cli::audit_sums(&report);
        assert!(sums.1.is_empty(), "{:?}", sums.1);
        for sink in &self.sinks {
            let of_sink = self.now.iter().filter(|((_, name), _)| name == sink);
            let truth = of_sink.fold(Given::default(), |sum, (_, given)| Given {
                settled: sum.settled + given.settled,
                dropped: sum.dropped + given.dropped,
                lost: sum.lost + given.lost,
            });
            let account = sums.0.get(*sink).copied().unwrap_or_default();
            let told = Given {
                settled: account.acknowledged + account.dropped + account.lost,
                dropped: account.dropped,
                lost: account.lost,
            };
            assert_eq!(told, truth, "sink {sink}");
            let reasons = report.totals.by_sink.get(*sink).cloned().unwrap_or_default();
            let by_reason = (reasons.dropped.values().sum(), reasons.lost.values().sum());
            assert_eq!((account.dropped, account.lost), by_reason, "sink {sink}: {reasons:?}");
        }
        // The metric says what the totals say.
        for reason in Reason::ALL {
            let metric = self.agent.books.metrics.given_up_so_far(reason);
            assert_eq!(metric, report.totals.of(reason), "{reason}");
        }
    }
}

/// Per sink: bytes seen, and those given up.
fn sums_of(report: &Report) -> BTreeMap<String, (u64, u64)> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for file in &report.files {
        for (name, sink) in &file.sinks {
            let (seen, given_up) = sums.entry(name.clone()).or_default();
            *seen += file.seen;
            *given_up += sink.account.dropped + sink.account.lost;
        }
    }
    for (name, finished) in &report.totals.finished {
        let (seen, given_up) = sums.entry(name.clone()).or_default();
        *seen += finished.seen;
        *given_up += finished.dropped + finished.lost;
    }
    sums
}

fn step() -> impl Strategy<Value = Step> {
    let down = prop_oneof![
        Just(Down::Nothing),
        (0..50u64).prop_map(Down::Grown),
        (0..50u64).prop_map(Down::Truncated),
        Just(Down::Deleted),
    ];
    prop_oneof![
        3 => (0..FILES, 0..50u64).prop_map(|(n, bytes)| Step::Grow(n, bytes)),
        4 => (0..FILES, 0..3usize, 0..60u64, prop_oneof![Just(0), 0..20u64])
            .prop_map(|(n, sink, bytes, cut)| Step::Read(n, sink, bytes, cut)),
        5 => (0..3usize, prop::bool::weighted(0.8)).prop_map(|(s, d)| Step::Settle(s, d)),
        1 => (0..FILES).prop_map(Step::Truncate),
        1 => (0..FILES).prop_map(Step::Delete),
        2 => (0..FILES).prop_map(Step::Forget),
        1 => (0..FILES, 0..40u64).prop_map(|(n, size)| Step::Return(n, size)),
        1 => (1..40u64).prop_map(Step::Unseen),
        2 => Just(Step::Commit),
        2 => (0..FILES, down, 1..8u8).prop_map(|(n, down, sinks)| Step::Kill(n, down, sinks)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(96, |cases| cases.parse().unwrap()),
        ..ProptestConfig::default()
    })]

    #[test]
    fn totals_tell_the_truth_under_every_order_of_events(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}
