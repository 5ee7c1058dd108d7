//! What a running pipeline says of itself: `/status`, `/metrics` and `/healthz`.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::pipeline::Pipeline;
use crate::{
    admin::{Health, Hosts, State},
    config::Config,
    descriptors, held_back,
    identity::FileId,
    known_files,
    ledger::{
        self, Accounts, FileAccount, SinkSlot,
        report::{
            AgentIdentity, Descriptors, FileReport, HeldBack, KnownFiles, Report, SinkFileReport,
            SinkReport, Waiting,
        },
    },
    metrics::{Metrics, SinkLabel},
    settle::slots::{RunningSink, SinkTable},
};

/// Tenants whose files wait that are told apart.
const TENANTS: usize = 100;

/// What the admin port serves for this pipeline.
pub fn admin_state(
    config: &Config,
    metrics: &Arc<Metrics>,
    running: &Pipeline,
    health: &Arc<Health>,
) -> State {
    let reporter = Arc::new(Reporter {
        state_dir: config.state_dir.clone(),
        node: config.resolved_node_name(),
        started: jiff::Timestamp::now().to_string(),
        accounts: Arc::clone(&running.accounts),
        sinks: running.table.clone(),
        metrics: Arc::clone(metrics),
        last_commit_ms: Arc::clone(&running.last_commit_ms),
        rates: Mutex::default(),
    });
    let refresher = Arc::clone(&reporter);
    State {
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        report: Box::new(move || reporter.report()),
        refresh: Box::new(move || refresher.refresh()),
        hosts: Hosts::new(config),
    }
}

/// The file's report as the ledger keeps it.
pub fn file_report(account: &FileAccount, sinks: &[SinkSlot]) -> FileReport {
    // Settled before read before seen: each only grows, so the sums cannot look wrong.
    let offsets: Vec<_> = sinks
        .iter()
        .map(|slot| {
            let sink = account.sink(slot.number);
            let offset = sink.offset();
            (offset, sink.read.load(Ordering::Acquire).max(offset.settled))
        })
        .collect();
    let seen = account.seen.load(Ordering::Acquire);
    let mut report = FileReport::new(&account.path(), &account.source);
    report.device = account.identity.key.device;
    report.inode = account.identity.key.inode;
    report.ended = account.ended.load(Ordering::Acquire);
    report.seen = seen;
    report.sinks = sinks
        .iter()
        .zip(offsets)
        .filter(|(_, (offset, _))| offset.settled < u64::MAX)
        .map(|(slot, (offset, read))| {
            (slot.name.to_string(), SinkFileReport::new(seen, read, offset))
        })
        .collect();
    report
}

/// Makes reports of one pipeline.
struct Reporter {
    state_dir: PathBuf,
    node: String,
    started: String,
    accounts: Arc<Accounts>,
    sinks: SinkTable,
    metrics: Arc<Metrics>,
    last_commit_ms: Arc<AtomicU64>,
    /// Sizes at the last report, for rates.
    rates: Mutex<HashMap<FileId, (Instant, u64, f64)>>,
}

impl Reporter {
    fn report(&self) -> Report {
        let slots = self.sinks.wanted();
        let (accounts, totals) = self.accounts.snapshot();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let known: HashSet<FileId> = accounts.iter().map(|account| account.id).collect();
        rates.retain(|id, _| known.contains(id));
        let mut files: Vec<FileReport> = accounts
            .iter()
            .map(|account| {
                account.refresh();
                let mut report = file_report(account, &slots);
                report.rate_bytes_per_second = rate(&mut rates, account.id, report.seen);
                report
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.clone(),
            // Looked up each time: it may have been removed and made again.
            agent: AgentIdentity::of(&self.state_dir).ok(),
            started: self.started.clone(),
            descriptors: descriptors::shares().map(|shares| Descriptors {
                limit: shares.limit,
                for_files: shares.files,
                waiting_files: shares.waiting,
            }),
            watched: self.metrics.watched().map(|(mode, files)| (mode.to_owned(), files)).into(),
            own_logs: self.metrics.own_logs.get(),
            sinks: self.sinks.running().iter().map(sink_report).collect(),
            files,
            totals,
            lost_files: self.accounts.lost_files(),
            looking: !self.accounts.is_complete(),
            known_files: Some(known_files()),
            held_back: held_back(),
        }
    }

    /// Brings the gauges up to date.
    fn refresh(&self) {
        let accounts = self.accounts.all();
        let running = self.sinks.running();
        let mut backlog = 0;
        for account in &accounts {
            account.refresh();
            let seen = account.seen.load(Ordering::Acquire);
            let sinks = running.iter().map(|sink| account.sink(sink.slot.number));
            let least = sinks.map(|sink| sink.read.load(Ordering::Acquire)).min();
            backlog += seen.saturating_sub(least.unwrap_or(seen));
        }
        self.metrics.backlog_bytes.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        for sink in &running {
            let label = SinkLabel { sink: sink.slot.name.to_string() };
            let used = i64::try_from(sink.budget.used()).unwrap_or(i64::MAX);
            self.metrics.in_flight_bytes.get_or_create(&label).set(used);
            let oldest = sink.ages.oldest().unwrap_or_default().as_secs_f64();
            self.metrics.oldest_unacked_seconds.get_or_create(&label).set(oldest);
            let failing =
                sink.troubles.failure().map_or(0.0, |it| it.began.elapsed().as_secs_f64());
            self.metrics.failing_seconds.get_or_create(&label).set(failing);
            let parked = i64::try_from(sink.troubles.parked()).unwrap_or(i64::MAX);
            self.metrics.parked_sources.get_or_create(&label).set(parked);
        }
        let age = ledger::now_ms().saturating_sub(self.last_commit_ms.load(Ordering::Acquire));
        self.metrics.count_held_back();
        self.metrics.checkpoint_age_seconds.set(age as f64 / 1000.0);
    }
}

/// How many files are known, and who waits.
fn known_files() -> KnownFiles {
    let waiting = known_files::waiting();
    let waiting_files = waiting.iter().map(|it| it.files).sum();
    let waiting_directories = waiting.iter().map(|it| it.directories).sum();
    let told = |it: known_files::Waits| Waiting {
        tenant: it.tenant.to_string(),
        files: it.files,
        bytes: it.bytes,
        directories: it.directories,
    };
    KnownFiles {
        most: known_files::most(),
        share: known_files::share(),
        known: known_files::taken(),
        waiting_files,
        waiting_directories,
        waiting: waiting.into_iter().take(TENANTS).map(told).collect(),
    }
}

/// Who reached a bound lately.
fn held_back() -> Vec<HeldBack> {
    let told = |it: held_back::HeldBack| HeldBack {
        resource: it.resource.name().to_owned(),
        who: it.who,
        times: it.times,
        since: it.since.strftime("%FT%TZ").to_string(),
    };
    held_back::lately().into_iter().map(told).collect()
}

fn sink_report(sink: &RunningSink) -> SinkReport {
    let failure = sink.troubles.failure();
    SinkReport {
        name: sink.slot.name.to_string(),
        kind: sink.kind.to_owned(),
        in_flight_bytes: sink.budget.used() as u64,
        oldest_unacked_seconds: sink.ages.oldest().map(|age| age.as_secs_f64()),
        error: failure.as_ref().map(|failure| failure.text.clone()),
        error_since: failure.as_ref().map(|failure| failure.since.strftime("%FT%TZ").to_string()),
        error_count: failure.map_or(0, |failure| failure.times),
        parked_sources: sink.troubles.parked() as u64,
    }
}

/// Bytes per second since the last report that lies a second or more back.
fn rate(rates: &mut HashMap<FileId, (Instant, u64, f64)>, id: FileId, seen: u64) -> f64 {
    let now = Instant::now();
    let entry = rates.entry(id).or_insert((now, seen, 0.0));
    let elapsed = now.saturating_duration_since(entry.0).as_secs_f64();
    if elapsed >= 1.0 {
        let rate = seen.saturating_sub(entry.1) as f64 / elapsed;
        *entry = (now, seen, rate);
    }
    entry.2
}
