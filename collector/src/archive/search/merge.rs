//! Merge: what extents hold, in the order of their lines' times, within bounded memory.
//!
//! Extents are scanned in the archive's order, ahead of what is needed. A line may be given out when
//! nothing that is not scanned yet can come before it, which the extents' bounds tell. Meanwhile it
//! waits. If more waits than there is room for, what is needed last is thrown away, and its extent is
//! scanned again when the merge comes there. So an archive whose order is nearly that of time is read
//! once, and one that holds many logs' past one after the other costs more time, not more memory.
//!
//! From the newest line backwards it is the same with the order of keys turned round, but that a key
//! is known only when everything before it was scanned: nothing is given out before that.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
};

use super::{
    Error,
    extents::Extents,
    pool::Pool,
    scan::{Floors, Found, Source, Unit},
    summary::Summary,
};

/// Keeps a source's place in the table of those seen; a search does not remember more.
const MAX_SOURCES: usize = 1 << 20;

/// Keys that are wanted, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The least.
    pub low: i64,
    /// The greatest.
    pub high: i64,
}

impl Window {
    /// All keys.
    pub(super) const ALL: Self = Self { low: i64::MIN, high: i64::MAX };
}

/// Where a unit comes in the order: key, extent, place in the extent.
type Rank = (i64, u32, u32);

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// More is wanted.
    On,
    /// Nothing more.
    End,
}

/// A unit in its turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Which extent it is from.
    pub extent: u32,
    /// What it is.
    pub unit: &'a Unit,
    /// Whose it is.
    pub source: u64,
    /// How it is shown.
    pub text: &'a [u8],
}

/// Puts units in order.
#[derive(Debug)]
pub(super) struct Merge {
    reverse: bool,
    /// Bytes that may wait.
    room: usize,
    used: usize,
    loaded: HashMap<u32, Loaded>,
    heads: BinaryHeap<Reverse<Rank>>,
    /// The first unit of each extent that was thrown away; all behind it were, too.
    evicted: BTreeSet<Rank>,
    /// The same by extent.
    evicted_of: HashMap<u32, Rank>,
    /// What lifted each extent's keys, to scan it again: in this run, or in a later one that does not
    /// have all the extents before it.
    floors: HashMap<u32, Floors>,
    early: BTreeMap<u32, Found>,
    /// What was scanned, each extent once.
    pub counts: Summary,
}

#[derive(Debug)]
struct Loaded {
    found: Found,
    /// The unit that is next.
    next: usize,
    /// How many were before the first of `found`.
    before: u32,
    size: usize,
}

impl Merge {
    /// Oldest first, or with `reverse` newest first; `room` is for what waits.
    pub(super) fn new(reverse: bool, room: usize) -> Self {
        Self {
            reverse,
            room,
            used: 0,
            loaded: HashMap::new(),
            heads: BinaryHeap::new(),
            evicted: BTreeSet::new(),
            evicted_of: HashMap::new(),
            floors: HashMap::new(),
            early: BTreeMap::new(),
            counts: Summary::default(),
        }
    }

    /// Gives out all units of the extents in `list` (ascending) whose key is in `window`.
    pub(super) fn run(
        &mut self,
        pool: &mut Pool,
        extents: &mut Extents,
        list: &[u32],
        window: Window,
        give: &mut dyn FnMut(&mut Extents, Turn<'_>) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        let mut bounds: Vec<i64> = list
            .iter()
            .rev()
            .scan(i64::MAX, |least, number| {
                *least = (*least).min(extents.get(*number).map_or(i64::MAX, |extent| extent.low));
                Some(*least)
            })
            .collect();
        bounds.reverse();
        let mut last_keys = HashMap::new();
        let (mut asked, mut taken) = (0, 0);
        loop {
            // What is not scanned yet comes not before this.
            let bound = match bounds.get(taken) {
                Some(_) if self.reverse => i64::MIN,
                Some(&bound) => bound,
                None => i64::MAX,
            };
            // The greatest key of all comes first from the newest on, and is not sure yet either.
            let sure = !self.reverse || taken == list.len();
            if sure && self.give_out(extents, bound, give)? == Flow::End {
                pool.drain()?;
                return Ok(Flow::End);
            }
            let evicted = self.evicted.first().map(|(key, ..)| *key);
            if evicted.is_some_and(|key| key <= bound && (taken == list.len() || key < bound)) {
                self.reload(pool, extents, window)?;
            } else if taken < list.len() {
                while asked < list.len() && pool.has_room() {
                    if let Some(nothing) = pool.request(list[asked], extents)? {
                        self.early.insert(list[asked], nothing);
                    }
                    asked += 1;
                }
                let number = list[taken];
                let found = self.wait_for(pool, number)?;
                taken += 1;
                self.take(extents, number, found, window, &mut last_keys);
            } else {
                self.floors.retain(|number, _| extents.get(*number).is_some_and(|it| it.left));
                return Ok(Flow::On);
            }
        }
    }

    /// Gives out what comes before anything else: up to `bound` and what was thrown away.
    fn give_out(
        &mut self,
        extents: &mut Extents,
        bound: i64,
        give: &mut dyn FnMut(&mut Extents, Turn<'_>) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        while let Some(&Reverse(rank)) = self.heads.peek() {
            // Of one key those of earlier extents come first, and all that is not scanned is later.
            if rank.0 > bound || self.evicted.first().is_some_and(|first| *first < rank) {
                break;
            }
            self.heads.pop();
            let extent = self.extent_of(rank);
            let Some(loaded) = self.loaded.get_mut(&extent) else { continue };
            let unit = &loaded.found.units[loaded.next];
            let source = loaded.found.sources[unit.source as usize].hash;
            let text = loaded.found.text(unit);
            let flow = give(extents, Turn { extent, unit, source, text })?;
            loaded.next += 1;
            match loaded.head(rank.1, self.reverse) {
                Some(next) => self.heads.push(Reverse(next)),
                None => self.used -= self.loaded.remove(&extent).map_or(0, |loaded| loaded.size),
            }
            if flow == Flow::End {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::On)
    }

    fn extent_of(&self, rank: Rank) -> u32 {
        if self.reverse { !rank.1 } else { rank.1 }
    }

    /// Waits for one extent; others that arrive meanwhile are kept.
    fn wait_for(&mut self, pool: &mut Pool, number: u32) -> Result<Found, Error> {
        loop {
            if let Some(found) = self.early.remove(&number) {
                return Ok(found);
            }
            let (number, found) = pool.receive()?;
            self.early.insert(number, found);
        }
    }

    /// Takes in an extent that was scanned in its turn.
    fn take(
        &mut self,
        extents: &mut Extents,
        number: u32,
        mut found: Found,
        window: Window,
        last_keys: &mut HashMap<u64, i64>,
    ) {
        // A run for older lines scans again only what has some. What it leaves out was lifted, or
        // lifted others, in an earlier run: those lines must not become older, or they come twice.
        let known = self.floors.remove(&number).unwrap_or_default();
        let floor = |source: &Source| {
            let last = last_keys.get(&source.hash).copied().max(known.of(source.hash));
            last.filter(|last| *last > source.first).map(|last| (source.hash, last))
        };
        let floors = Floors::new(found.sources.iter().filter_map(floor).collect());
        found.raise(&floors);
        for source in &found.sources {
            if last_keys.len() < MAX_SOURCES || last_keys.contains_key(&source.hash) {
                last_keys.insert(source.hash, source.last);
            }
        }
        if !floors.are_none() {
            self.floors.insert(number, floors);
        }
        if let Some(extent) = extents.get_mut(number) {
            if !extent.counted {
                extent.counted = true;
                self.counts.frames += found.frames;
                self.counts.damaged += found.damaged;
            }
            extent.sources = found.mask;
            extent.left = found.units.first().is_some_and(|unit| unit.key < window.low);
        }
        self.load(number, found, window, 0);
    }

    /// Scans extents again of which something was thrown away, those that are needed first.
    fn reload(&mut self, pool: &mut Pool, extents: &Extents, window: Window) -> Result<(), Error> {
        let extent_of = |rank: &Rank| if self.reverse { !rank.1 } else { rank.1 };
        // Of those that are still there in part, the rest is not needed yet.
        let free = self.evicted.iter().filter(|rank| !self.loaded.contains_key(&extent_of(rank)));
        let wanted: Vec<Rank> = free.take(pool.workers()).copied().collect();
        for rank in &wanted {
            let number = self.extent_of(*rank);
            self.evicted.remove(rank);
            self.evicted_of.remove(&number);
            if let Some(nothing) = pool.request(number, extents)? {
                self.early.insert(number, nothing);
            }
        }
        for rank in wanted {
            let (number, from) = (self.extent_of(rank), rank.2);
            let mut found = self.wait_for(pool, number)?;
            if let Some(floors) = self.floors.get(&number) {
                found.raise(floors);
            }
            self.load(number, found, window, from);
        }
        Ok(())
    }

    /// Takes in an extent's units from `from` on.
    fn load(&mut self, number: u32, mut found: Found, window: Window, from: u32) {
        let start = found.units.partition_point(|unit| unit.key < window.low);
        let end = found.units.partition_point(|unit| unit.key <= window.high);
        if self.reverse {
            found.units.truncate(end);
            found.units.drain(..start);
            found.units.reverse();
            let from = (from as usize).min(found.units.len());
            found.trim(from, found.units.len());
        } else if start > 0 || from > 0 || end < found.units.len() {
            found.trim((start + from as usize).min(end), end);
        }
        let size = found.size();
        let loaded = Loaded { found, next: 0, before: from, size };
        let number_rank = if self.reverse { !number } else { number };
        let Some(head) = loaded.head(number_rank, self.reverse) else { return };
        self.heads.push(Reverse(head));
        self.used += size;
        self.loaded.insert(number, loaded);
        if self.used > self.room {
            self.evict();
        }
    }

    /// Throws away what is needed last, so that half of the room is free.
    fn evict(&mut self) {
        let mut waiting: Vec<(Rank, usize)> = Vec::new();
        for (&number, loaded) in &self.loaded {
            let number = if self.reverse { !number } else { number };
            let units = loaded.found.units.iter().enumerate().skip(loaded.next);
            waiting.extend(units.map(|(index, unit)| {
                (loaded.rank(number, index, self.reverse), Found::weight(unit))
            }));
        }
        waiting.sort_unstable();
        let mut kept = 0;
        let first = waiting.iter().position(|(_, weight)| {
            kept += weight;
            kept > self.room / 2
        });
        // The very first stays, or nothing would ever be given out.
        let cut = first.and_then(|index| waiting.get(index.max(1))).map(|(rank, _)| *rank);
        drop(waiting);
        self.heads.clear();
        self.used = 0;
        let reverse = self.reverse;
        self.loaded.retain(|&extent, loaded| {
            let number = if reverse { !extent } else { extent };
            let (next, len) = (loaded.next, loaded.found.units.len());
            let stays =
                |index: &usize| cut.is_none_or(|cut| loaded.rank(number, *index, reverse) < cut);
            let end = (next..len).find(|index| !stays(index)).unwrap_or(len);
            if end < len {
                let rank = loaded.rank(number, end, reverse);
                self.evicted.insert(rank);
                if let Some(later) = self.evicted_of.insert(extent, rank) {
                    self.evicted.remove(&later);
                }
            }
            loaded.found.trim(next, end);
            loaded.before += u32::try_from(next).unwrap_or(u32::MAX);
            loaded.next = 0;
            loaded.size = loaded.found.size();
            let Some(head) = loaded.head(number, reverse) else { return false };
            self.heads.push(Reverse(head));
            self.used += loaded.size;
            true
        });
    }
}

impl Loaded {
    fn head(&self, number: u32, reverse: bool) -> Option<Rank> {
        (self.next < self.found.units.len()).then(|| self.rank(number, self.next, reverse))
    }

    fn rank(&self, number: u32, index: usize, reverse: bool) -> Rank {
        let key = self.found.units[index].key;
        let place = self.before + u32::try_from(index).unwrap_or(u32::MAX);
        (if reverse { !key } else { key }, number, place)
    }
}
