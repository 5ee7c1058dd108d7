//! Run: one search, from the archive's directory to what is written.

use std::{io::Write, path::Path, thread, time::Duration};

use super::{
    context::{Context, Hit},
    extents::Extents,
    merge::{Flow, Merge, Turn, Window},
    pool::Pool,
    query::Query,
    scan::Scan,
    show::Show,
    summary::{Error, Summary},
};

/// Bytes of found lines that wait for their turn.
const ROOM: usize = 24 << 20;
/// Shown text that is written at once.
const WRITE_BYTES: usize = 64 << 10;
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Extents that whoever follows remembers, for the lines around found ones.
const REMEMBERED: u32 = 8_192;

/// A search to be made.
#[derive(Debug, Clone)]
pub struct Search {
    /// What is wanted.
    pub query: Query,
    /// How it is shown.
    pub show: Show,
    /// In which order.
    pub order: Order,
    /// Of what is there, only the newest so many lines.
    pub tail: Option<u64>,
    /// End after so many found lines.
    pub limit: Option<u64>,
    /// Lines of the same log before a found one.
    pub before: usize,
    /// Lines after it.
    pub after: usize,
    /// Go on with what is added, until nobody reads any more.
    pub follow: bool,
    /// Leave out what is there already.
    pub from_now: bool,
    /// Worker threads; 0: one a core.
    pub threads: usize,
    /// Bytes that may wait for their turn; 0: what is usual.
    pub room: usize,
}

/// In which order lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By time, oldest first.
    #[default]
    Oldest,
    /// The same from the end.
    Newest,
}

/// Where a found line stands in the order: key, extent, place in the extent.
type Place = (i64, u32, u32);

impl Default for Search {
    fn default() -> Self {
        Self {
            query: Query::default(),
            show: Show::Nothing,
            order: Order::default(),
            tail: None,
            limit: None,
            before: 0,
            after: 0,
            follow: false,
            from_now: false,
            threads: 0,
            room: 0,
        }
    }
}

impl Search {
    /// Searches the archive in `dir` and writes what it finds to `out`.
    pub fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<Summary, Error> {
        let mut extents = Extents::default();
        extents.extend(dir, &self.query, self.follow)?;
        let context = self.has_context();
        let scan = Scan {
            query: &self.query,
            show: &self.show,
            count: self.show == Show::Nothing,
            mask: context,
        };
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.threads == 0 { cores() } else { self.threads };
        thread::scope(|scope| {
            let mut pool = Pool::start(scope, workers, scan);
            let mut counts = Summary::default();
            let written = match self.show {
                Show::Nothing => self.count(&mut pool, &mut extents, &mut counts),
                _ => self.write(dir, &mut pool, &mut extents, &mut counts, out),
            };
            let found = written?;
            Ok(Summary {
                found,
                segments: extents.counts.segments,
                frames: counts.frames,
                skipped: extents.counts.skipped,
                damaged: extents.counts.damaged + counts.damaged,
            })
        })
    }

    fn has_context(&self) -> bool {
        (self.before > 0 || self.after > 0) && self.query.pattern.is_some()
    }

    fn merge(&self, reverse: bool) -> Merge {
        Merge::new(reverse, if self.room == 0 { ROOM } else { self.room })
    }

    /// Only counts; in no order.
    fn count(
        &self,
        pool: &mut Pool,
        extents: &mut Extents,
        counts: &mut Summary,
    ) -> Result<u64, Error> {
        let enough = self.limit.into_iter().chain(self.tail).min().unwrap_or(u64::MAX);
        let (mut found, mut next, mut done) = (0_u64, 0, 0);
        while done < extents.len() && found < enough {
            while next < extents.len() && pool.has_room() {
                done += u32::from(pool.request(next, extents)?.is_some());
                next += 1;
            }
            if done < next {
                let (_, scanned) = pool.receive()?;
                done += 1;
                found += scanned.count;
                counts.frames += scanned.frames;
                counts.damaged += scanned.damaged;
            }
        }
        pool.drain()?;
        Ok(found.min(enough))
    }

    fn write(
        &self,
        dir: &Path,
        pool: &mut Pool,
        extents: &mut Extents,
        counts: &mut Summary,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let reverse = self.order == Order::Newest;
        let context = match self.has_context() {
            true => {
                let (query, show) = (&self.query, &self.show);
                let context = Context::new(query, show, reverse, self.before, self.after);
                Some(context.ok_or(Error::Memory)?)
            }
            false => None,
        };
        let mut printer = Printer { out, text: Vec::new(), context, found: 0, limit: self.limit };
        if self.limit == Some(0) {
            return Ok(0);
        }
        let mut flow = Flow::On;
        let mut from = 0;
        if !self.from_now {
            flow = match (self.tail, reverse) {
                (Some(0), _) => Flow::On,
                (tail, true) => {
                    printer.limit = printer.limit.into_iter().chain(tail).min();
                    self.newest_first(pool, extents, counts, &mut |extents, turn| {
                        printer.turn(extents, turn)
                    })?
                }
                (None, false) => {
                    let first = (i64::MIN, 0, 0);
                    self.oldest_first(pool, extents, counts, first, &mut printer)?
                }
                (Some(tail), false) => {
                    let first = self.start_of_tail(pool, extents, counts, tail)?;
                    self.oldest_first(pool, extents, counts, first, &mut printer)?
                }
            };
        }
        printer.flush()?;
        from = from.max(extents.len());
        while self.follow && flow == Flow::On {
            thread::sleep(POLL_INTERVAL);
            extents.extend(dir, &self.query, true)?;
            if extents.len() == from {
                continue;
            }
            printer.owed(extents)?;
            let list: Vec<u32> = (from..extents.len()).collect();
            let mut merge = self.merge(false);
            flow = merge.run(pool, extents, &list, Window::ALL, &mut |extents, turn| {
                printer.turn(extents, turn)
            })?;
            counts.frames += merge.counts.frames;
            counts.damaged += merge.counts.damaged;
            if extents.len() > 2 * REMEMBERED {
                let old = extents.len() - REMEMBERED;
                extents.forget(old);
                printer.forget(old);
            }
            from = extents.len();
            printer.flush()?;
        }
        printer.flush()?;
        Ok(printer.found)
    }

    /// Everything from `first` on.
    fn oldest_first(
        &self,
        pool: &mut Pool,
        extents: &mut Extents,
        counts: &mut Summary,
        first: Place,
        printer: &mut Printer<'_, '_>,
    ) -> Result<Flow, Error> {
        // What is before the first extent that reaches so far has no part in what is wanted.
        let start = extents.reach().partition_point(|reach| *reach < first.0);
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let list: Vec<u32> = (start..extents.len()).collect();
        let window = Window { low: first.0, ..Window::ALL };
        let mut merge = self.merge(false);
        let flow = merge.run(pool, extents, &list, window, &mut |extents, turn| match (
            turn.unit.key,
            turn.extent,
            turn.unit.at,
        ) < first
        {
            true => Ok(Flow::On),
            false => printer.turn(extents, turn),
        })?;
        counts.frames += merge.counts.frames;
        counts.damaged += merge.counts.damaged;
        Ok(flow)
    }

    /// Everything, from the archive's end on, as far as it is wanted.
    ///
    /// Only the last extents are scanned at first: what reaches beyond all before them cannot be
    /// changed by these. Then more of them, and of the later ones those that hold older lines, too.
    fn newest_first(
        &self,
        pool: &mut Pool,
        extents: &mut Extents,
        counts: &mut Summary,
        give: &mut dyn FnMut(&mut Extents, Turn<'_>) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        let reach = extents.reach();
        let mut merge = self.merge(true);
        let (mut first, mut high) = (extents.len(), i64::MAX);
        let mut step = u32::try_from(2 * pool.workers()).unwrap_or(1);
        let mut flow = Flow::On;
        while first > 0 && flow == Flow::On {
            let start = extents.len().saturating_sub(step);
            step = step.saturating_mul(4);
            let before = start.checked_sub(1).and_then(|last| reach.get(last as usize));
            // Where those before reach to the end of time, they have to be scanned too.
            let low = before.map_or(Some(i64::MIN), |reach| reach.checked_add(1));
            let Some(low) = low.filter(|low| *low <= high) else { continue };
            let left = |number: &u32| {
                *number < first || extents.get(*number).is_some_and(|extent| extent.left)
            };
            let list: Vec<u32> = (start..extents.len()).filter(left).collect();
            flow = merge.run(pool, extents, &list, Window { low, high }, give)?;
            first = start;
            high = low.saturating_sub(1);
        }
        counts.frames += merge.counts.frames;
        counts.damaged += merge.counts.damaged;
        Ok(flow)
    }

    /// Where the newest `count` lines begin.
    fn start_of_tail(
        &self,
        pool: &mut Pool,
        extents: &mut Extents,
        counts: &mut Summary,
        count: u64,
    ) -> Result<Place, Error> {
        let mut left = count;
        let mut first = (i64::MIN, 0, 0);
        self.newest_first(pool, extents, counts, &mut |_, turn| {
            left -= 1;
            if left > 0 {
                return Ok(Flow::On);
            }
            first = (turn.unit.key, turn.extent, turn.unit.at);
            Ok(Flow::End)
        })?;
        Ok(first)
    }
}

/// Writes what is found.
struct Printer<'a, 'o> {
    out: &'o mut dyn Write,
    text: Vec<u8>,
    context: Option<Context<'a>>,
    found: u64,
    limit: Option<u64>,
}

impl Printer<'_, '_> {
    fn turn(&mut self, extents: &mut Extents, turn: Turn<'_>) -> Result<Flow, Error> {
        match &mut self.context {
            None => self.text.extend_from_slice(turn.text),
            Some(context) => {
                let place = (turn.extent, turn.unit.at);
                let hit = Hit { source: turn.source, place, text: turn.text };
                context.append(extents, hit, &mut self.text)?;
            }
        }
        if self.text.len() >= WRITE_BYTES {
            self.write()?;
        }
        self.found += 1;
        let over = self.limit.is_some_and(|limit| self.found >= limit);
        Ok(if over { Flow::End } else { Flow::On })
    }

    fn owed(&mut self, extents: &mut Extents) -> Result<(), Error> {
        self.context.as_mut().map_or(Ok(()), |it| it.append_owed(extents, &mut self.text))
    }

    fn forget(&mut self, count: u32) {
        if let Some(context) = &mut self.context {
            context.forget(count);
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        let written = self.out.write_all(&self.text).map_err(Error::Write);
        self.text.clear();
        written
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.write()?;
        self.out.flush().map_err(Error::Write)
    }
}
