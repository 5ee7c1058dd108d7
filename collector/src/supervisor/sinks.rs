//! The agent's sinks: which there are, and what a reload changes about them.
//!
//! Only compares and tells the keepers; nothing here waits for a sink.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    RunError,
    keeper::{self, Keeper, Want, Wiring, Wish},
};
use crate::{
    batch::{budget::Budget, encoding::Grouping, lane::Outlet},
    checkpoint::{Change, Store},
    config::{self, Config},
    deliver,
    registry::Order,
    settle::slots::Stage,
};

/// All sinks' keepers.
pub(super) struct Sinks {
    wiring: Arc<Wiring>,
    keepers: BTreeMap<String, Keeper>,
    grouping: Grouping,
    memory: usize,
}

impl Sinks {
    /// Starts every sink. Needs the runtime's context.
    ///
    /// # Errors
    /// A sink's configuration can never work.
    pub(super) fn start(
        config: &Config,
        wiring: &Arc<Wiring>,
        positions: &BTreeMap<Arc<str>, String>,
    ) -> Result<(Self, Vec<Outlet>), RunError> {
        let (mut outlets, mut keepers) = (Vec::new(), BTreeMap::new());
        for (name, wish) in wishes(config) {
            let slot = wiring.table.slot(&name);
            let position = positions.get(name.as_str()).cloned();
            let (running, outlet) = keeper::start(wiring, &slot, &wish, position)?;
            outlets.push(outlet);
            let keeper = Keeper::begin(wiring, slot, Want::Run(wish), Some(running));
            keepers.insert(name, keeper);
        }
        wiring.metrics.memory_budget_bytes.set(config.memory_budget.0 as i64);
        let grouping = Grouping::new(&config.batch);
        let memory = config.memory_budget.0 as usize;
        Ok((Self { wiring: Arc::clone(wiring), keepers, grouping, memory }, outlets))
    }

    /// Has the sinks be as configured.
    pub(super) fn reload(&mut self, config: &Config) {
        let wishes = wishes(config);
        for (name, keeper) in &self.keepers {
            if !wishes.contains_key(name) {
                keeper.want(Want::Nothing(config.drain_timeout.0));
            }
        }
        self.memory = config.memory_budget.0 as usize;
        self.wiring.metrics.memory_budget_bytes.set(config.memory_budget.0 as i64);
        let grouping = Grouping::new(&config.batch);
        let regrouped = std::mem::replace(&mut self.grouping, grouping) != grouping;
        for (name, wish) in wishes {
            let slot = self.wiring.table.slot(&name);
            if regrouped {
                self.wiring.orders.send(Order::Regroup(slot.number, grouping));
            }
            // It may be on its way out, or never have been there.
            self.wiring.table.enter(slot.number, Stage::Wanted);
            match self.keepers.get(&name) {
                Some(keeper) => keeper.want(Want::Run(wish)),
                None => {
                    let keeper = Keeper::begin(&self.wiring, slot, Want::Run(wish), None);
                    self.keepers.insert(name, keeper);
                }
            }
        }
    }

    /// Divides the memory among the sinks that there are. One that holds more than its share (it had
    /// more when there were fewer sinks) gets no more, and the others get the less until it has given it back.
    pub(super) fn balance(&self) {
        let (wanted, leaving) = self.wiring.table.budgets();
        let used = |budgets: &[Budget]| budgets.iter().map(Budget::used).collect::<Vec<_>>();
        let limits = limits(self.memory, &used(&wanted), &used(&leaving), self.grouping.max_bytes);
        for (budget, limit) in wanted.iter().zip(limits) {
            budget.resize(limit);
        }
    }

    /// Slots of the sinks that have something on its way.
    pub(super) fn busy(&self) -> Vec<u16> {
        let running = self.wiring.table.running();
        running.iter().filter(|sink| sink.budget.used() > 0).map(|sink| sink.slot.number).collect()
    }

    /// Ends every sink, at the latest then; true: everything that they were sent is settled.
    pub(super) async fn end(self, deadline: Instant) -> bool {
        for keeper in self.keepers.values() {
            keeper.want(Want::End(deadline));
        }
        let mut clean = true;
        for keeper in self.keepers.into_values() {
            clean &= keeper.ended().await;
        }
        clean
    }
}

/// What each sink may hold, of `memory` bytes: an equal share, less what others hold beyond theirs, but
/// room for two batches.
fn limits(memory: usize, used: &[usize], leaving: &[usize], batch: usize) -> Vec<usize> {
    let share = memory / used.len().max(1);
    let beyond = used.iter().map(|used| used.saturating_sub(share));
    let taken = beyond.chain(leaving.iter().copied()).sum::<usize>();
    let within = used.iter().filter(|used| **used <= share).count();
    let rest = share.saturating_sub(taken / within.max(1)).max((2 * batch).min(share));
    used.iter().map(|used| if *used <= share { rest } else { share }).collect()
}

/// How every sink is to run.
fn wishes(config: &Config) -> BTreeMap<String, Arc<Wish>> {
    let sinks = effective_sinks(config);
    let share = config.memory_budget.0 as usize / sinks.len().max(1);
    let wish = |sink: config::Sink| Wish {
        files: deliver::stamps(&sink),
        sink,
        batch: config.batch.clone(),
        share,
        start: config.read.start,
        drain: config.drain_timeout.0,
    };
    sinks.into_iter().map(|(name, sink)| (name, Arc::new(wish(sink)))).collect()
}

/// Commits where archives stand that the checkpoint knows no position of.
///
/// # Errors
/// The checkpoint cannot be written.
pub(super) fn commit_first_positions(
    config: &Config,
    store: &mut Store,
    positions: &mut BTreeMap<Arc<str>, String>,
) -> Result<(), RunError> {
    for (name, sink) in effective_sinks(config) {
        let name: Arc<str> = name.into();
        if positions.contains_key(&name) {
            continue;
        }
        if let Some(position) = keeper::first_position(&sink, &config.state_dir) {
            let (sink, at) = (Arc::clone(&name), position.clone());
            store.commit(vec![Change::Position { sink, position: at }])?;
            positions.insert(name, position);
        }
    }
    Ok(())
}

/// The configured sinks, or the embedded archive.
pub(super) fn effective_sinks(config: &Config) -> BTreeMap<String, config::Sink> {
    if config.sinks.is_empty() {
        let archive = config::Sink::Archive(config::Archive::default());
        return BTreeMap::from([("archive".to_owned(), archive)]);
    }
    config.sinks.clone()
}

/// Where records go, for people: each sink's name, type and place. Secrets that an address holds are not in it.
pub(super) fn described(config: &Config) -> String {
    let place = |sink: &config::Sink| match sink {
        config::Sink::Archive(it) => it.directory(&config.state_dir).display().to_string(),
        config::Sink::File(it) => it.path.display().to_string(),
        config::Sink::Http(it) => deliver::http::shown(&it.url),
        config::Sink::Console(_) | config::Sink::Null(_) => String::new(),
    };
    let told = |(name, sink): (&String, &config::Sink)| {
        format!("{name} ({})", format!("{} {}", sink.kind(), place(sink)).trim_end())
    };
    effective_sinks(config).iter().map(told).collect::<Vec<_>>().join(", ")
}

/// How long the last batches may take after the readers have stopped.
pub(super) fn reserve(grace: Duration) -> Duration {
    (grace / 5).min(Duration::from_secs(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_share_the_memory_and_none_goes_without() {
        assert_eq!(limits(16, &[0, 3], &[], 1), [8, 8]);
        assert_eq!(limits(16, &[16, 0], &[], 1), [8, 2], "a dead sink holds all of it");
        assert_eq!(limits(16, &[10, 0], &[], 1), [8, 6]);
        assert_eq!(limits(16, &[0], &[4], 1), [12], "one that leaves holds some");
        assert_eq!(limits(16, &[0, 0, 0, 0], &[], 4), [4; 4]);
    }
}
