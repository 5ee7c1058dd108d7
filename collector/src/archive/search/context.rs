//! Context: the lines around a found one, of the same log, read again where they stand.
//!
//! Nothing is kept of lines that did not match: when a found line is given out, its extent is
//! decompressed once more and its neighbours are looked for there and in the extents beside it. So
//! memory is a few extents, however many logs there are and however long a context is.
//!
//! A found line ends its neighbour's context, for it is given out itself, in its own turn. So every
//! line is shown once, and what is shown of one log stays in its order.

use std::collections::{HashMap, VecDeque};

use super::{
    Error,
    extents::Extents,
    query::Query,
    scan::{self, Lines, Unpack},
    show::Show,
};

/// Decompressed extents that are kept for the next found line.
const CACHED: usize = 6;

/// Looks for the lines around found ones.
pub(super) struct Context<'a> {
    query: &'a Query,
    show: &'a Show,
    /// Newest first: what comes before a line in the output comes after it in its log.
    reverse: bool,
    /// Lines that come before a found one in the output.
    ahead: usize,
    /// Lines that come after it.
    behind: usize,
    /// The last line shown of each log.
    shown: HashMap<u64, Place>,
    /// Whose lines were shown last.
    last: Option<u64>,
    /// Logs whose last found line has less behind it than asked for: how many lines are owed.
    owed: HashMap<u64, usize>,
    cache: VecDeque<(u32, Text)>,
    unpack: Unpack,
}

/// Where a line stands: its extent, and the bytes before it there.
pub(super) type Place = (u32, u32);

/// A found line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'a> {
    /// Whose it is.
    pub source: u64,
    /// Where it stands.
    pub place: Place,
    /// How it is shown.
    pub text: &'a [u8],
}

#[derive(Debug)]
struct Text {
    raw: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    source: u64,
    start: u32,
    end: u32,
    found: bool,
}

/// A side of a found line, in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ahead,
    Behind,
}

/// Why a walk through a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There were enough lines.
    Enough,
    /// The next line was shown, or will be.
    Met,
    /// The archive has no more.
    End,
}

impl<'a> Context<'a> {
    /// `before` and `after` are counted in the log's order. `None`: there is no memory.
    pub(super) fn new(
        query: &'a Query,
        show: &'a Show,
        reverse: bool,
        before: usize,
        after: usize,
    ) -> Option<Self> {
        let (ahead, behind) = if reverse { (after, before) } else { (before, after) };
        Some(Self {
            query,
            show,
            reverse,
            ahead,
            behind,
            shown: HashMap::new(),
            last: None,
            owed: HashMap::new(),
            cache: VecDeque::new(),
            unpack: Unpack::new()?,
        })
    }

    /// Appends a found line with what is around it.
    pub(super) fn append(
        &mut self,
        extents: &mut Extents,
        hit: Hit<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut lines = Vec::new();
        let from = (hit.source, hit.place);
        let stop = self.walk(extents, from, Side::Ahead, self.ahead, &mut lines)?;
        let follows = self.last == Some(hit.source) && stop == Stop::Met;
        if self.last.is_some() && !follows {
            self.show.gap(out);
        }
        for (_, line) in lines.iter().rev() {
            out.extend_from_slice(line);
        }
        out.extend_from_slice(hit.text);
        self.shown.insert(hit.source, hit.place);
        self.last = Some(hit.source);
        self.behind(extents, from, self.behind, out)
    }

    /// Appends what has come since behind lines that were found before.
    pub(super) fn append_owed(
        &mut self,
        extents: &mut Extents,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        for (source, count) in std::mem::take(&mut self.owed) {
            let Some(&place) = self.shown.get(&source) else { continue };
            let before = out.len();
            let last = self.last.replace(source);
            let mut lines = Vec::new();
            self.behind(extents, (source, place), count, &mut lines)?;
            if lines.is_empty() {
                self.last = last;
                continue;
            }
            if last != Some(source) {
                self.show.gap(out);
            }
            out.extend_from_slice(&lines);
            debug_assert!(out.len() > before, "there are lines");
        }
        Ok(())
    }

    /// The oldest extents are forgotten; the others' numbers become smaller by as much.
    pub(super) fn forget(&mut self, count: u32) {
        self.cache.clear();
        self.shown.retain(|_, place| match place.0.checked_sub(count) {
            Some(left) => {
                place.0 = left;
                true
            }
            None => false,
        });
        self.owed.retain(|source, _| self.shown.contains_key(source));
    }

    fn behind(
        &mut self,
        extents: &mut Extents,
        from: (u64, Place),
        count: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut lines = Vec::new();
        let stop = self.walk(extents, from, Side::Behind, count, &mut lines)?;
        for (place, line) in &lines {
            out.extend_from_slice(line);
            self.shown.insert(from.0, *place);
        }
        if stop == Stop::End && count > lines.len() {
            self.owed.insert(from.0, count - lines.len());
        }
        Ok(())
    }

    /// The lines of a log beside one of its lines, nearest first.
    fn walk(
        &mut self,
        extents: &mut Extents,
        (source, place): (u64, Place),
        side: Side,
        count: usize,
        lines: &mut Vec<(Place, Vec<u8>)>,
    ) -> Result<Stop, Error> {
        let back = (side == Side::Ahead) != self.reverse;
        let shown = self.shown.get(&source).copied();
        let met = |at: Place| {
            shown.is_some_and(|shown| if self.reverse { at >= shown } else { at <= shown })
        };
        let met: &dyn Fn(Place) -> bool = &met;
        let mut met_lines = Vec::new();
        let mut number = place.0;
        let mut stop = Stop::End;
        'extents: loop {
            let may_be = extents.get(number).is_some_and(|it| it.sources & scan::bit(source) != 0);
            if may_be {
                let text = cached(&mut self.cache, &mut self.unpack, self.query, extents, number)?;
                let beside = |line: &&Line| {
                    line.source == source
                        && (number != place.0
                            || if back { line.start < place.1 } else { line.start > place.1 })
                };
                let mut forward = text.lines.iter();
                let mut backward = text.lines.iter().rev();
                let in_order: &mut dyn Iterator<Item = &Line> =
                    if back { &mut backward } else { &mut forward };
                for line in in_order.filter(beside) {
                    let at = (number, line.start);
                    // What was found ahead was shown, unless it was left out.
                    if line.found && side == Side::Behind || met(at) {
                        stop = Stop::Met;
                        break 'extents;
                    }
                    if met_lines.len() == count {
                        stop = Stop::Enough;
                        break 'extents;
                    }
                    let mut shown = Vec::new();
                    self.show.stored(text.line(line), self.query, &mut shown);
                    met_lines.push((at, shown));
                }
            }
            let next = if back { number.checked_sub(1) } else { number.checked_add(1) };
            match next.filter(|next| *next < extents.len()) {
                Some(next) => number = next,
                None => break,
            }
        }
        lines.append(&mut met_lines);
        Ok(stop)
    }
}

impl Text {
    fn line(&self, line: &Line) -> &[u8] {
        self.raw.get(line.start as usize..line.end as usize).unwrap_or_default()
    }
}

fn cached<'c>(
    cache: &'c mut VecDeque<(u32, Text)>,
    unpack: &mut Unpack,
    query: &Query,
    extents: &mut Extents,
    number: u32,
) -> Result<&'c Text, Error> {
    if let Some(index) = cache.iter().position(|(cached, _)| *cached == number) {
        let entry = cache.remove(index);
        cache.extend(entry);
    } else {
        let text = read(unpack, query, extents, number)?;
        if let Some(extent) = extents.get_mut(number) {
            let bits = text.lines.iter().map(|line| scan::bit(line.source));
            extent.sources = bits.fold(0, |all, bit| all | bit);
        }
        if cache.len() >= CACHED {
            cache.pop_front();
        }
        cache.push_back((number, text));
    }
    Ok(&cache[cache.len() - 1].1)
}

/// Decompresses an extent, and notes which of its lines may be shown.
fn read(unpack: &mut Unpack, query: &Query, extents: &Extents, number: u32) -> Result<Text, Error> {
    let mut text = Text { raw: Vec::new(), lines: Vec::new() };
    let Some(&extent) = extents.get(number) else { return Ok(text) };
    let Some(file) = extents.file(&extent)? else { return Ok(text) };
    let mut raw = Vec::new();
    unpack.frames(file, &extent, query, &mut raw, |checks, block| {
        let base = text.raw.len();
        let mut at = 0;
        while at < block.len() {
            let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |len| at + len);
            let line = &block[at..end];
            if let Some((record, body)) = scan::wanted(query, checks, line, Lines::All) {
                text.lines.push(Line {
                    source: scan::hash(record.source(line)),
                    start: u32::try_from(base + at).unwrap_or(u32::MAX),
                    end: u32::try_from(base + end).unwrap_or(u32::MAX),
                    found: query.matches(&body.value()),
                });
            }
            at = end + 1;
        }
        text.raw.append(block);
    });
    Ok(text)
}
