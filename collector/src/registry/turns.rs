//! Directories are looked at in turns: one tenant's for a short time, then another's.
//!
//! Thousands may change at once, and whoever may make directories decides how many. What is more than a tenant's
//! slice waits in its queue, and whatever comes once a pass of the registry's loop has taken long: files that were
//! written, the readers and others' directories have their turn in between. Processor time counts, as for rests.
//! A configured directory that is no tenant's has a queue of its own, so that new pods are seen whatever happens below
//! a pattern.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{Map, Registry, rest};
use crate::known_files::{self, Wanted};

/// A tenant's directories are looked at for so long at a time.
const SLICE: Duration = Duration::from_millis(20);
/// All directories together, between two waits for events.
const PASS: Duration = Duration::from_millis(100);

/// Whose directories are that are nobody's: only links lead there.
const LINKED: &str = "what links lead to";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Those that something waits of, or that had time in this pass.
    tenants: Map<Arc<str>, Turn>,
    /// Those that something waits of; whose turn it is first.
    order: VecDeque<Arc<str>>,
    /// What waits, and whether it is not watched yet.
    waits: HashMap<Arc<Path>, bool>,
    /// When the pass began.
    began: Duration,
}

#[derive(Debug, Default)]
struct Turn {
    queue: VecDeque<Arc<Path>>,
    /// How many in the queue are not watched yet.
    new: u64,
    used: Duration,
}

impl Turns {
    /// A pass begins.
    pub(super) fn begin(&mut self) {
        self.begin_at(rest::used());
    }

    fn begin_at(&mut self, now: Duration) {
        self.began = now;
        self.tenants.retain(|_, turn| !turn.queue.is_empty());
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Whose directories wait, and how many.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let waiting = self.tenants.iter().filter(|(_, turn)| !turn.queue.is_empty());
        waiting.map(|(whose, turn)| (whose, turn.queue.len() as u64))
    }

    /// Whether a tenant's directory may be looked at at once.
    fn has_turn(&self, tenant: &str, now: Duration) -> bool {
        now.saturating_sub(self.began) < PASS
            && self.tenants.get(tenant).is_none_or(|it| it.queue.is_empty() && it.used < SLICE)
    }

    /// How many directories of a tenant wait that are not watched yet.
    fn new_of(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |turn| turn.new)
    }

    /// A directory waits for its tenant's turn.
    fn push(&mut self, tenant: &Arc<str>, path: &Arc<Path>, new: bool) {
        if self.waits.contains_key(path) {
            return;
        }
        self.waits.insert(Arc::clone(path), new);
        let turn = self.tenants.entry(Arc::clone(tenant)).or_default();
        if turn.queue.is_empty() {
            self.order.push_back(Arc::clone(tenant));
        }
        turn.queue.push_back(Arc::clone(path));
        turn.new += u64::from(new);
    }

    /// Whose turn it is, and for what; None: the pass is over, or nothing waits.
    fn next(&mut self, now: Duration) -> Option<(Arc<str>, Arc<Path>)> {
        if now.saturating_sub(self.began) >= PASS {
            return None;
        }
        self.next_of_all()
    }

    fn next_of_all(&mut self) -> Option<(Arc<str>, Arc<Path>)> {
        loop {
            let tenant = self.order.front()?;
            let turn = self.tenants.get_mut(tenant)?;
            if turn.used >= SLICE && self.order.len() > 1 {
                turn.used = Duration::ZERO;
                self.order.rotate_left(1);
                continue;
            }
            let tenant = Arc::clone(tenant);
            let path = turn.queue.pop_front();
            let new = path.as_ref().and_then(|path| self.waits.remove(path));
            turn.new -= u64::from(new == Some(true));
            if turn.queue.is_empty() {
                self.order.pop_front();
            }
            if let Some(path) = path {
                return Some((tenant, path));
            }
        }
    }

    /// A look at a tenant's directory took so long.
    fn spend(&mut self, tenant: &Arc<str>, took: Duration) {
        self.tenants.entry(Arc::clone(tenant)).or_default().used += took;
    }
}

impl Registry {
    /// Looks at a directory, or has it wait for its tenant's turn.
    pub(super) fn look_in_turn(&mut self, path: &Arc<Path>) {
        let (tenant, new) = self.whose(path);
        if self.turns.has_turn(&tenant, rest::used()) {
            self.look_now(&tenant, path);
        } else {
            self.turns.push(&tenant, path, new);
            self.tell_queued();
        }
    }

    /// Looks at what waits, as long as a pass may take.
    pub(super) fn take_turns(&mut self) {
        // There is an end of it, however long the events took.
        let mut next = self.turns.next_of_all();
        while let Some((whose, path)) = next {
            let late = self.directories.find(&path).is_none() && !self.may_look_on(&path);
            if !late {
                self.look_now(&whose, &path);
            }
            next = self.turns.next(rest::used());
        }
        if self.turns.is_empty() {
            self.setup.discovery.forget_linked();
        }
    }

    fn look_now(&mut self, tenant: &Arc<str>, path: &Arc<Path>) {
        let began = rest::used();
        let known = self.directories.find(path);
        let listed = |token| self.directories.get(token).is_some_and(|it| it.listed);
        if let Some(token) = known.filter(|token| listed(*token)) {
            self.relist_in_turn(tenant, token, path);
            self.note_names(path);
        } else {
            let found = self.list_from(vec![Arc::clone(path)]);
            self.place(found);
        }
        self.turns.spend(tenant, rest::used().saturating_sub(began));
    }

    /// In whose queue a directory waits, and whether it is not watched yet.
    pub(super) fn whose(&self, path: &Path) -> (Arc<str>, bool) {
        let known = self.directories.find(path).and_then(|token| self.directories.get(token));
        let tenant = match known.filter(|known| known.listed) {
            Some(known) => known.place.as_ref().map(|place| Arc::clone(place.tenant())),
            None => self.setup.discovery.tenant_of(path),
        };
        (tenant.unwrap_or_else(|| self.queue_of_none(path)), known.is_none())
    }

    /// Of a directory that is no tenant's: a configured one has a queue of its own, as what lies in it has together.
    /// What links lead to elsewhere has one.
    fn queue_of_none(&self, path: &Path) -> Arc<str> {
        let above = path.parent().filter(|parent| self.ways.is_root(parent));
        let root = Some(path).filter(|path| self.ways.is_root(path)).or(above);
        root.map_or_else(|| Arc::from(LINKED), |root| Arc::from(&*root.to_string_lossy()))
    }

    /// Whether a directory that was just listed may be watched and looked through.
    pub(super) fn may_look_through(&mut self, path: &Path) -> bool {
        let Some(tenant) = self.setup.discovery.tenant_of(path) else { return true };
        let more = self.turns.new_of(&tenant);
        if known_files::has_room(&tenant, Wanted::New, 1 + more) {
            return true;
        }
        let Some(parent) = path.parent().map(Arc::from) else { return true };
        self.waiting.note_directories(&parent, &tenant, 1, false);
        self.say_that_it_waits(path, &tenant);
        false
    }

    /// The same of one that was listed a while ago.
    fn may_look_on(&mut self, path: &Path) -> bool {
        let Some(tenant) = self.setup.discovery.tenant_of(path) else { return true };
        if known_files::has_room(&tenant, Wanted::New, 1) {
            return true;
        }
        let Some(parent) = path.parent().map(Arc::from) else { return true };
        self.waiting.note_directories(&parent, &tenant, 1, true);
        self.say_that_it_waits(path, &tenant);
        false
    }

    /// Directories that were just listed wait for their tenants' turns; those that find no place are counted, which
    /// costs little.
    pub(super) fn look_through_later(&mut self, listed: VecDeque<Arc<Path>>) {
        // Of the parent of the last one: whose what lies in it is, unless each is another's.
        let mut of: Option<(Arc<Path>, Option<Arc<str>>, bool)> = None;
        let mut refused: HashMap<Arc<Path>, (Arc<str>, u64)> = HashMap::new();
        for path in listed {
            let known = self.directories.find(&path).and_then(|token| self.directories.get(token));
            if known.is_some_and(|known| known.listed) {
                continue;
            }
            let Some(parent) = path.parent() else { continue };
            let tenant = match &of {
                Some((last, tenant, false)) if **last == *parent => tenant.clone(),
                _ => {
                    let tenant = self.setup.discovery.tenant_of(&path);
                    let apart = self.setup.discovery.sets_apart(parent);
                    of = Some((parent.into(), tenant.clone(), apart));
                    tenant
                }
            };
            let Some(tenant) = tenant else {
                let whose = self.queue_of_none(&path);
                self.turns.push(&whose, &path, known.is_none());
                continue;
            };
            let more = self.turns.new_of(&tenant);
            let admitted = known.is_some() || self.turns.waits.contains_key(&path);
            if admitted || known_files::has_room(&tenant, Wanted::New, 1 + more) {
                self.turns.push(&tenant, &path, known.is_none());
                continue;
            }
            match refused.get_mut(parent) {
                Some((_, count)) => *count += 1,
                None => {
                    self.say_that_it_waits(&path, &tenant);
                    refused.insert(parent.into(), (tenant, 1));
                }
            }
        }
        for (parent, (tenant, count)) in refused {
            self.waiting.note_directories(&parent, &tenant, count, false);
        }
        self.tell_queued();
    }
}

/// Whether looking through new directories, since then (see [`rest::used`]), has gone on for long enough.
pub(super) fn is_over(began: Duration) -> bool {
    rest::used().saturating_sub(began) >= SLICE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_tenant_of_many_directories_has_its_turn_and_others_have_theirs() {
        let [loud, quiet]: [Arc<str>; 2] = ["loud", "quiet"].map(Arc::from);
        let path = |name: &str, n: u32| -> Arc<Path> { Path::new(&format!("/{name}/{n}")).into() };
        let mut turns = Turns::default();
        turns.begin_at(ms(1_000));
        assert!(turns.has_turn("loud", ms(1_000)), "nothing waits, so nobody is held up");
        turns.spend(&loud, SLICE);
        assert!(!turns.has_turn("loud", ms(1_020)) && turns.has_turn("quiet", ms(1_020)));
        for n in 0..1_000 {
            turns.push(&loud, &path("loud", n), true);
            turns.push(&loud, &path("loud", n), true);
        }
        assert_eq!((turns.new_of("loud"), turns.waits.len()), (1_000, 1_000), "each once");
        turns.push(&quiet, &path("quiet", 0), false);
        turns.push(&quiet, &path("quiet", 1), false);
        assert!(!turns.has_turn("quiet", ms(1_020)), "what waits of it comes first");
        // It had its slice: the other's turn comes first, however much of it waits.
        let mut order = Vec::new();
        let mut now = ms(1_020);
        while let Some((tenant, _)) = turns.next(now) {
            now += ms(4);
            turns.spend(&tenant, ms(4));
            order.push(tenant);
        }
        assert_eq!(order[..2], [Arc::clone(&quiet), quiet]);
        assert_eq!(order.len(), 20, "a pass has an end");
        assert!(!turns.is_empty() && turns.next_of_all().is_some());
        turns.begin_at(now);
        assert_eq!(turns.new_of("loud"), 1_000 - 19);
        while turns.next_of_all().is_some() {}
        turns.begin_at(now);
        assert!(turns.is_empty() && turns.tenants.is_empty(), "nothing is kept of it");
    }
}
