//! What a commit holds, and what follows from its end.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{Settler, Unsaved};
use crate::{checkpoint::Change, identity::KernelInode, ledger, watch::Counted};

impl Settler {
    /// True: everything is durable.
    pub(super) fn commit(&mut self, unsaved: &mut Unsaved) -> bool {
        unsaved.totals.extend(self.books.accounts.take_unsaved());
        let changes = self.changes(unsaved);
        let began = Instant::now();
        let committed = match changes.is_empty() {
            true => self.store.keep_place(),
            false => self.store.commit(changes),
        };
        match committed {
            Ok(()) => {
                self.metrics().checkpoint_fsync_seconds.observe(began.elapsed().as_secs_f64());
                self.last_commit_ms.store(ledger::now_ms(), Ordering::Release);
                if unsaved.failing {
                    tracing::info!("The checkpoint is durable again.");
                }
                for counted in std::mem::take(unsaved).counted {
                    fail::fail_point!("settle.counted");
                    counted.forget();
                }
                true
            }
            Err(error) => {
                if !unsaved.failing {
                    tracing::error!(%error, "The checkpoint could not be made durable; it is tried again every {:?}. After a crash, lines acknowledged since would be sent again.", self.interval);
                }
                unsaved.failing = true;
                for account in unsaved.files.values() {
                    account.stale.store(true, Ordering::Release);
                }
                false
            }
        }
    }

    fn changes(&self, unsaved: &Unsaved) -> Vec<Change> {
        let sinks = self.books.sinks.kept();
        // Forgotten first: a file that came back meanwhile is known again by what follows.
        let mut changes: Vec<Change> =
            unsaved.forgotten.iter().copied().map(Change::Forget).collect();
        for account in unsaved.files.values() {
            if account.stale.swap(false, Ordering::AcqRel) {
                changes.push(Change::File(Box::new(account.entry(&sinks))));
                let guards = self.books.accounts.prefixes.of_ended(account.id);
                let file = account.id;
                changes.extend(guards.map(|guards| Change::Prefixes { file, guards }));
                // In one step with its entry: its records are sent under its original's name from then on, and end
                // where that one's do.
                if let Some(of) = self.books.accounts.copies.of(file) {
                    let at = self.books.accounts.cuts.of(file);
                    changes.push(Change::Copy { file, of });
                    changes.extend((!at.is_empty()).then_some(Change::Cuts { file, at }));
                }
                continue;
            }
            let size = account.seen.load(Ordering::Acquire);
            for slot in &sinks {
                let place = account.sink(slot.number);
                if place.is_excluded() {
                    continue;
                }
                let (file, sink, offset) = (account.id, Arc::clone(&slot.name), place.offset());
                changes.push(Change::Offset { file, sink, offset, size });
            }
        }
        changes.extend(unsaved.cuts.iter().map(|file| {
            let at = self.books.accounts.cuts.of(*file);
            Change::Cuts { file: *file, at }
        }));
        changes.extend(unsaved.positions.iter().map(|(sink, position)| Change::Position {
            sink: Arc::clone(sink),
            position: position.clone(),
        }));
        changes.extend(
            unsaved
                .totals
                .iter()
                .map(|(name, value)| Change::Total { name: name.clone(), value: *value }),
        );
        let mut counted: BTreeSet<KernelInode> =
            unsaved.counted.iter().flat_map(Counted::inodes).collect();
        if !counted.is_empty() {
            if !unsaved.counted.iter().any(Counted::is_all) {
                counted.extend(&self.store.state().counted);
            }
            changes.push(Change::Counted(counted.into_iter().collect()));
        }
        changes
    }
}
