//! The sinks of the process's life, by slot: who has which number, and who is there now.
//!
//! A name keeps its slot: a sink that is removed and comes back goes on where it was. Read by whoever
//! settles and reports; changed by the sinks' keepers only.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    batch::{age::Ages, budget::Budget, troubles::Troubles},
    ledger::SinkSlot,
};

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SinkTable(Arc<RwLock<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    slot: SinkSlot,
    stage: Stage,
    running: Option<RunningSink>,
}

/// Where a sink is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Configured.
    Wanted,
    /// No longer configured; what it was sent is still settled.
    Leaving,
    /// Not there.
    Absent,
}

/// What reports say of a sink.
#[derive(Debug, Clone)]
pub struct RunningSink {
    /// Its slot and name.
    pub slot: SinkSlot,
    /// `http`, `archive`, …
    pub kind: &'static str,
    /// Its memory.
    pub budget: Budget,
    /// The ages of its batches.
    pub ages: Ages,
    /// What is wrong with it.
    pub troubles: Troubles,
}

impl SinkTable {
    /// The slot of a name: the one that it has, or the next.
    pub fn slot(&self, name: &str) -> SinkSlot {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|entry| &*entry.slot.name == name) {
            return entry.slot.clone();
        }
        let slot = SinkSlot { number: entries.len() as u16, name: name.into() };
        entries.push(Entry { slot: slot.clone(), stage: Stage::Absent, running: None });
        slot
    }

    /// The sink is in another stage of its life now.
    pub fn enter(&self, slot: u16, stage: Stage) {
        self.change(slot, |entry| {
            entry.stage = stage;
            if stage == Stage::Absent {
                entry.running = None;
            }
        });
    }

    /// The sink runs so.
    pub fn run(&self, running: RunningSink) {
        let slot = running.slot.number;
        self.change(slot, |entry| entry.running = Some(running));
    }

    /// The name of a sink that there is or was.
    pub fn name(&self, slot: u16) -> Option<Arc<str>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(usize::from(slot)).map(|entry| Arc::clone(&entry.slot.name))
    }

    /// The sinks whose offsets are kept: those that are configured, and those that are leaving.
    pub fn kept(&self) -> Vec<SinkSlot> {
        self.list(|entry| (entry.stage != Stage::Absent).then(|| entry.slot.clone()))
    }

    /// The sinks that are configured.
    pub fn wanted(&self) -> Vec<SinkSlot> {
        self.list(|entry| (entry.stage == Stage::Wanted).then(|| entry.slot.clone()))
    }

    /// Whether the sink of this name is configured.
    pub fn wants(&self, name: &str) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().any(|entry| entry.stage == Stage::Wanted && &*entry.slot.name == name)
    }

    /// What there is to report of the sinks that are configured.
    pub fn running(&self) -> Vec<RunningSink> {
        self.list(|entry| {
            let wanted = entry.stage == Stage::Wanted;
            entry.running.as_ref().filter(|_| wanted).cloned()
        })
    }

    /// A table of sinks that are configured, in slots from 0 on.
    #[cfg(test)]
    pub fn of(names: &[&str]) -> Self {
        let table = Self::default();
        for name in names {
            let slot = table.slot(name);
            table.enter(slot.number, Stage::Wanted);
        }
        table
    }

    /// The memory of every sink that has any: of those that are configured, and of those that leave.
    pub fn budgets(&self) -> (Vec<Budget>, Vec<Budget>) {
        let of = |stage| {
            self.list(|entry| {
                let running = entry.running.as_ref().filter(|_| entry.stage == stage);
                running.map(|running| running.budget.clone())
            })
        };
        (of(Stage::Wanted), of(Stage::Leaving))
    }

    fn list<T>(&self, of: impl Fn(&Entry) -> Option<T>) -> Vec<T> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter_map(of).collect()
    }

    fn change(&self, slot: u16, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(usize::from(slot)) {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_while_sinks_come_and_go() {
        let table = SinkTable::default();
        let names = |slots: Vec<SinkSlot>| -> Vec<String> {
            slots.iter().map(|slot| slot.name.to_string()).collect()
        };
        let (a, b) = (table.slot("a"), table.slot("b"));
        table.enter(a.number, Stage::Wanted);
        table.enter(b.number, Stage::Wanted);
        table.enter(a.number, Stage::Leaving);
        assert_eq!(
            (names(table.wanted()), names(table.kept())),
            (vec!["b".into()], vec!["a".into(), "b".into()])
        );
        table.enter(a.number, Stage::Absent);
        assert_eq!(names(table.kept()), ["b"]);
        assert_eq!(table.name(a.number).as_deref(), Some("a"), "a late receipt is its own");
        assert_eq!((table.slot("c").number, table.slot("a")), (2, a));
    }
}
