//! What is told of a source after it was found: a container's id, by a link that kubelet makes when the
//! container runs already.
//!
//! The first lines of a new container wait for it, a bounded time; so the same record has the same
//! attributes whenever it is made. What is told later holds for later records.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::Registry;
use crate::{
    identity,
    read::reader::Message,
    source::{Known, Source},
};

/// Where so many containers in a row got no link in time, none is waited for until one gets one: this node
/// makes none.
const IN_VAIN: u32 = 3;
/// A link that did not come in this time is not looked for any more.
const LOOKED_FOR: Duration = Duration::from_secs(600);

/// The sources of which more may be told.
#[derive(Default)]
pub(super) struct Names {
    missing: BTreeMap<Arc<Path>, Missing>,
    in_vain: u32,
    /// A directory changed that tells some.
    told: bool,
}

struct Missing {
    since: Instant,
    /// Its first lines wait until then; None: not, or not any more.
    until: Option<Instant>,
}

impl Names {
    /// Counts those that were waited for to no purpose; answers how many.
    fn count(&mut self, now: Instant) -> u64 {
        let mut over = 0;
        for missing in self.missing.values_mut() {
            over += u32::from(missing.until.take_if(|until| *until <= now).is_some());
        }
        self.in_vain = self.in_vain.saturating_add(over);
        self.missing.retain(|_, missing| now.duration_since(missing.since) < LOOKED_FOR);
        over.into()
    }
}

impl Registry {
    /// A source is new, and its reader knows it: its lines wait if more is told of it within moments.
    pub(super) fn await_names(&mut self, source: &Arc<Source>) {
        if source.known == Known::All {
            return;
        }
        let Some(age) = age(source, self.scanning).filter(|age| *age < LOOKED_FOR) else { return };
        let now = Instant::now();
        self.count_names(now);
        let soon = source.known == Known::Soon && self.names.in_vain < IN_VAIN;
        let left = self.setup.discovery.wait_for_id().checked_sub(age);
        let until = left.filter(|left| soon && !left.is_zero());
        let until = until.map(|left| now + left);
        if let Some(until) = until {
            self.send(&source.path, |tail| Message::Await(tail, until));
        }
        self.names.missing.insert(Arc::clone(&source.path), Missing { since: now, until });
    }

    /// A known source was found anew. If all is known of it, and that is something else than before, its
    /// reader is told.
    pub(super) fn tell_names(&mut self, source: &Arc<Source>) {
        let Some(state) = self.sources.get_mut(&source.path) else { return };
        let described = source.fingerprint();
        if source.known != Known::All || state.described == described {
            return;
        }
        state.described = described;
        self.send(&source.path, |tail| Message::Describe(tail, Arc::clone(source)));
        if self.names.missing.remove(&source.path).is_some() {
            self.names.in_vain = 0;
        }
    }

    /// A directory was listed. If it tells names, those that are missing are asked for at the end of the turn.
    pub(super) fn note_names(&mut self, directory: &Path) {
        let names = &mut self.names;
        if !names.told && !names.missing.is_empty() {
            names.told = self.setup.discovery.tells_names(directory);
        }
    }

    /// Asks for missing names, if links changed that tell them.
    pub(super) fn heed_names(&mut self) {
        if !std::mem::take(&mut self.names.told) {
            return;
        }
        self.count_names(Instant::now());
        let missing: Vec<Arc<Path>> = self.names.missing.keys().cloned().collect();
        for path in missing {
            if !self.sources.contains_key(&path) {
                self.names.missing.remove(&path);
            } else if let Some(source) = self.setup.discovery.describe(&path) {
                self.tell_names(&source);
            }
        }
    }

    /// Counts the sources whose lines went without what was waited for.
    pub(super) fn count_names(&mut self, now: Instant) {
        let over = self.names.count(now);
        self.setup.metrics.unnamed_sources.inc_by(over);
    }
}

/// How long a source's live file has been there; None where that is not known, or it is not there. One that
/// comes up while the agent runs is taken for new where the filesystem does not say.
fn age(source: &Source, scanning: bool) -> Option<Duration> {
    let born_ns = identity::look_at(&source.path).ok()?.key.born_ns;
    match u64::try_from(born_ns) {
        Ok(born_ns) if born_ns > 0 => {
            let born = SystemTime::UNIX_EPOCH + Duration::from_nanos(born_ns);
            // A time in the future: the clock was set back. Just born, perhaps.
            Some(SystemTime::now().duration_since(born).unwrap_or_default())
        }
        _ => (!scanning).then_some(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_for_in_vain_is_counted_once() {
        let (mut names, now) = (Names::default(), Instant::now());
        let path = |number: u32| Arc::<Path>::from(Path::new(&format!("/{number}")));
        for number in 0..5 {
            let until = (number < 3).then(|| now + Duration::from_secs(number.into()));
            names.missing.insert(path(number), Missing { since: now, until });
        }
        assert_eq!(names.count(now), 1);
        assert_eq!(names.count(now + Duration::from_secs(5)), 2);
        assert_eq!((names.count(now + Duration::from_secs(9)), names.in_vain), (0, 3));
        assert_eq!(names.missing.len(), 5, "their links may come");
        names.count(now + LOOKED_FOR);
        assert!(names.missing.is_empty());
    }
}
