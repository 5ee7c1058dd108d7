//! Guards of a file at a few offsets before the one up to which it was read: its marks.
//!
//! `copytruncate` may copy less than was read: what is written between the copy and the truncation is
//! read from the original. The copy then ends before every sink's offset, and only what stands before an
//! earlier offset tells whose copy it is. So a file is marked within each piece that is read of it, and at
//! the end of each of its first lines.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    checksum::Checksum,
    first_lines::FirstLines,
    guard::{AtHand, GUARD_BYTES, Guard},
};

/// How many there are at most.
const MARKS: usize = 5;
/// A piece is marked where these parts of eight of it have been read.
const EIGHTHS: [u64; 4] = [4, 6, 7, 8];
/// Of a file that a former run read, the ends of lines are looked for in so many first bytes.
const ANEW: u64 = 8 << 10;
/// Where a state holds guards, a number with this bit is the CRC-32 of all that stands before the offset.
const WHOLE: u64 = 1 << 40;
/// With this bit as well, it is that of a copy. A version that does not know it takes it for a first line.
const COPIED: u64 = 1 << 41;

/// Offsets of one file and what stands before them, ascending: the older, the farther apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefixGuards {
    offsets: [u64; MARKS],
    checksums: [u32; MARKS],
    /// How many bytes the guards cover: all before the offset or [`GUARD_BYTES`], of a former version fewer.
    lengths: [u8; MARKS],
    count: u8,
    lines: FirstLines,
    /// A copy that was seen while the file was whole.
    copied: Option<Checksum>,
}

impl PrefixGuards {
    /// The marks of a plain file of which so many bytes were read, taken of the file itself.
    ///
    /// # Errors
    /// As `pread(2)`; the file is shorter.
    pub fn in_file(file: &File, read: u64) -> io::Result<Self> {
        let mut marks = Self::default();
        let mut beginning = vec![0; read.min(ANEW) as usize];
        file.read_exact_at(&mut beginning, 0)?;
        marks.lines.note(0, &beginning);
        for at in EIGHTHS.map(|eighths| read * eighths / 8) {
            if at > marks.last() {
                marks.push(at, Guard::in_file(file, at)?);
            }
        }
        Ok(marks)
    }

    /// Takes guards within a piece that was read, the file's `from..to`. Those before it stay as they are.
    pub fn note(&mut self, (from, to): (u64, u64), bytes: AtHand<'_>) {
        self.lines.note(from, bytes.range(from, to));
        let from = from.max(self.last());
        for eighths in EIGHTHS {
            let offset = from + to.saturating_sub(from) * eighths / 8;
            let guard = bytes.guard(offset);
            // A shorter guard is that of another piece's beginning, and proves less.
            if offset > from && guard.length() as u64 == offset.min(GUARD_BYTES as u64) {
                self.push(offset, guard);
            }
        }
    }

    /// Takes the guard of an offset up to which the file was read, in its place among the others.
    pub fn note_end(&mut self, at: u64, guard: Guard) {
        let mut marks: Vec<(u64, Guard)> = self.all().filter(|(other, _)| *other != at).collect();
        if guard.is_none() {
            return;
        }
        marks.push((at, guard));
        marks.sort_by_key(|(at, _)| *at);
        self.count = 0;
        marks.into_iter().for_each(|(at, guard)| self.push(at, guard));
    }

    fn push(&mut self, offset: u64, guard: Guard) {
        let mut count = usize::from(self.count);
        if count == MARKS {
            // The one is dropped without which the gap is smallest for its distance from here.
            let gap = |at: usize| {
                let before = if at == 0 { 0 } else { self.offsets[at - 1] };
                let after = self.offsets[at + 1];
                (after - before) as f64 / (offset - before) as f64
            };
            let least = (0..MARKS - 1).min_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap_or(0);
            self.offsets.copy_within(least + 1.., least);
            self.checksums.copy_within(least + 1.., least);
            self.lengths.copy_within(least + 1.., least);
            count -= 1;
        }
        (self.offsets[count], self.checksums[count]) = (offset, guard.to_bits() as u32);
        self.lengths[count] = guard.length() as u8;
        self.count = count as u8 + 1;
    }

    /// All of them.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (u64, Guard)> + '_ {
        let count = usize::from(self.count);
        let guards = self.checksums[..count].iter().zip(&self.lengths[..count]);
        let guards = guards.map(|(&checksum, &length)| {
            Guard::from_bits(u64::from(length) << 32 | u64::from(checksum))
        });
        self.offsets[..count].iter().copied().zip(guards)
    }

    fn last(&self) -> u64 {
        self.all().next_back().map_or(0, |(last, _)| last)
    }

    /// The file begins with a content of this checksum, which a copy of it has. False: that is known.
    pub fn note_copy(&mut self, copied: Checksum) -> bool {
        self.copied.replace(copied) != Some(copied)
    }

    /// Whether a line that was read among the first ends at this offset, or a copy that is known.
    pub fn ends_at(&self, at: u64) -> bool {
        self.lines.all().chain(self.copied).any(|prefix| u64::from(prefix.length) == at)
    }

    /// Whether a content of this checksum is what the file began with, up to the end of one of its first
    /// lines or of a copy that is known.
    pub fn is_beginning(&self, content: Checksum) -> bool {
        self.lines.tell(content) == Some(true) || self.copied == Some(content)
    }

    /// Whether a content of this checksum, which ends with a line, may be what the file began with: false where
    /// the first lines are known as far as it goes, and are others.
    pub fn may_begin_with(&self, content: Checksum) -> bool {
        self.lines.tell(content) != Some(false) || self.copied == Some(content)
    }

    /// Whether a content that is at hand, all of it, is what the file began with. A log's lines may differ in their
    /// first bytes alone, and marks are of the last ones before an offset: they prove nothing where no first line
    /// is there and the same.
    pub fn begins_with(&self, content: &[u8]) -> bool {
        let is_there = |at: u64, guard: Guard| {
            let before = usize::try_from(at).ok().and_then(|at| content.get(..at));
            let before = before.and_then(|it| it.get(it.len().checked_sub(guard.length())?..));
            before.is_some_and(|bytes| guard.matches(bytes))
        };
        let lines_are_there =
            || self.lines.are_in(content) && self.tell(content.len() as u64, is_there);
        let whole = Checksum::of(content);
        match self.lines.tell(whole) {
            _ if self.is_beginning(whole) => true,
            Some(false) if content.ends_with(b"\n") => false,
            _ => lines_are_there(),
        }
    }

    /// Whether a content of `length` bytes, which ends before what was read, is the beginning of it, if it begins
    /// with the same first bytes: every mark within it is `held`, and they reach to its second half.
    pub fn tell(&self, length: u64, mut held: impl FnMut(u64, Guard) -> bool) -> bool {
        let within = || self.all().filter(|(offset, _)| *offset <= length);
        let reaches = within().next_back().is_some_and(|(last, _)| last >= length.div_ceil(2));
        reaches && within().all(|(offset, guard)| held(offset, guard))
    }
}

impl Serialize for PrefixGuards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let marks = self.all().map(|(offset, guard)| (offset, guard.to_bits()));
        let lines = self.lines.all();
        // Behind the marks, where a version that knows of no lines leaves them out.
        let lines = lines.map(|it| (u64::from(it.length), WHOLE | u64::from(it.crc)));
        let copied = self.copied.iter();
        let copied = copied.map(|it| (u64::from(it.length), COPIED | WHOLE | u64::from(it.crc)));
        serializer.collect_seq(marks.chain(lines).chain(copied))
    }
}

impl<'de> Deserialize<'de> for PrefixGuards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut marks = Self::default();
        // What another version has more of, or in another order, is left out.
        for (offset, guard) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            if guard & WHOLE != 0 {
                if let Ok(length) = u32::try_from(offset) {
                    let prefix = Checksum { crc: guard as u32, length };
                    match guard & COPIED != 0 {
                        true => marks.copied = Some(prefix),
                        false => marks.lines.push(prefix),
                    }
                }
            } else if usize::from(marks.count) < MARKS && offset > marks.last() {
                marks.push(offset, Guard::from_bits(guard));
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// Reads `text` in pieces that end at these offsets.
    fn read(text: &[u8], ends: &[usize]) -> PrefixGuards {
        let (mut marks, mut from) = (PrefixGuards::default(), 0);
        for end in ends.iter().copied() {
            let bytes = AtHand::before(&text[from - from.min(GUARD_BYTES)..end], end as u64);
            marks.note((from as u64, end as u64), bytes);
            from = end;
        }
        marks
    }

    /// As a version left them whose guards were of 64 bytes.
    fn as_of_a_former_version(marks: &PrefixGuards, text: &str) -> PrefixGuards {
        let mut former = PrefixGuards { lines: marks.lines, ..PrefixGuards::default() };
        for (at, _) in marks.all() {
            let before = &text.as_bytes()[..at as usize];
            former.push(at, Guard::of(&before[before.len().saturating_sub(64)..]));
        }
        serde_json::from_str(&serde_json::to_string(&former).unwrap()).unwrap()
    }

    fn is_told(marks: &PrefixGuards, copy: &[u8]) -> bool {
        marks.tell(copy.len() as u64, |at, guard| {
            let at = at as usize;
            guard.matches(&copy[at - guard.length()..at])
        })
    }

    #[test]
    fn marks_are_ascending_and_reach_back_farther_and_farther() {
        let text = text(100_000);
        let ends: Vec<usize> = (1..=1_000).map(|piece| piece * 100).collect();
        let marks = read(&text, &ends);
        let offsets: Vec<u64> = marks.all().map(|(offset, _)| offset).collect();
        assert!(offsets.len() == MARKS && offsets.is_sorted(), "{offsets:?}");
        assert!(offsets[0] <= 90_000 && offsets[MARKS - 1] == 100_000, "{offsets:?}");
        for (offset, guard) in marks.all() {
            assert_eq!(guard, Guard::of(&text[..offset as usize]));
        }
    }

    #[test]
    fn ends_that_are_noted_are_among_the_marks() {
        let text = text(900);
        let mut marks = PrefixGuards::default();
        for at in [700, 900, 300, 700] {
            marks.note_end(at, Guard::of(&text[..at as usize]));
        }
        marks.note_end(800, Guard::NONE);
        let offsets: Vec<u64> = marks.all().map(|(at, _)| at).collect();
        assert_eq!(offsets, [300, 700, 900]);
        assert!(is_told(&marks, &text[..700]) && is_told(&marks, &text[..899]));
        assert!(!is_told(&marks, &text[1..700]));
        (0..20).for_each(|n| marks.note_end(n * 40 + 20, Guard::of(&text[..n as usize * 40 + 20])));
        assert!(marks.all().count() == MARKS && marks.all().is_sorted_by_key(|(at, _)| at));
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let text = b"a first line\nand another\nthe beginning of a third".to_vec();
        let mut marks = read(&text, &[text.len()]);
        let copied = Checksum::of(&text[..40]);
        assert!(marks.note_copy(copied) && !marks.note_copy(copied));
        let json = serde_json::to_string(&marks).unwrap();
        let again: PrefixGuards = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
        assert!(again.all().eq(marks.all()) && again.lines.all().eq(marks.lines.all()));
        assert_eq!(marks.lines.all().count(), 2);
        assert!(again.is_beginning(copied) && again.begins_with(&text[..40]) && again.ends_at(40));
        assert!(!again.is_beginning(Checksum::of(&text[..41])));
    }

    #[test]
    fn marks_taken_of_the_file_tell_its_copies() {
        let text: Vec<u8> = (0..2_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&text).unwrap();
        let marks = PrefixGuards::in_file(&file, 5_000).unwrap();
        for length in [2_500, 4_999, 5_000] {
            assert!(is_told(&marks, &text[..length]), "{length}");
        }
        for (length, ends) in [(2, true), (6, true), (16, true), (15, false), (18, false)] {
            let copy = Checksum { crc: crc32fast::hash(&text[..length]), length: length as u32 };
            assert_eq!((marks.ends_at(length as u64), marks.is_beginning(copy)), (ends, ends));
        }
        assert!(!marks.is_beginning(Checksum { crc: 1, length: 2 }));
        assert!(PrefixGuards::in_file(&file, 10_000).is_err(), "it is shorter");
        assert_eq!(PrefixGuards::in_file(&file, 0).unwrap(), PrefixGuards::default());
    }

    #[test]
    fn of_a_content_that_is_at_hand_lines_tell_more_than_marks() {
        let line = |first: char, length: usize| format!("{first} {}\n", "x".repeat(length));
        let life = line('a', 100) + &line('b', 40) + "c xx";
        let marks = as_of_a_former_version(&read(life.as_bytes(), &[life.len()]), &life);
        let first = line('a', 100);
        for there in [first.clone(), line('a', 100) + &line('b', 40), first.clone() + "b xxxxxxxxx"]
        {
            assert!(marks.begins_with(there.as_bytes()), "{there}");
        }
        // All marks within them are held.
        let other = line('d', 90);
        assert!(is_told(&marks, other.as_bytes()) && is_told(&marks, other.trim_end().as_bytes()));
        for other in
            [other.trim_end(), &other, &line('a', 99), &(first + &line('b', 39)), "a x", ""]
        {
            assert!(!marks.begins_with(other.as_bytes()), "{other}");
        }
        // More lines than are known by their checksums.
        let lines: String = (0..20).map(|n| line(char::from(b'a' + n), 8)).collect();
        let marks = read(lines.as_bytes(), &[lines.len()]);
        assert!(marks.begins_with(&lines.as_bytes()[..15 * 11]));
        let other = lines.replacen('b', "z", 1);
        assert!(!marks.begins_with(&other.as_bytes()[..15 * 11]));
    }

    #[test]
    fn a_copy_that_misses_the_end_of_one_piece_is_told() {
        let text = text(3_000);
        let marks = read(&text, &[3_000]);
        for length in [1_500, 2_249, 2_250, 2_999, 3_000] {
            assert!(is_told(&marks, &text[..length]), "{length}");
        }
        assert!(!is_told(&marks, &text[..1_000]), "nothing of it is marked");
        let mut other = text[..2_800].to_vec();
        other[2_620] ^= 1;
        assert!(!is_told(&marks, &other), "another content");
        assert!(!is_told(&PrefixGuards::default(), &text), "nothing is known");
    }

    #[test]
    fn where_marks_are_far_back_the_content_is_not_told() {
        let text = text(100_000);
        let marks = read(&text, &[1_000, 100_000]);
        assert!(is_told(&marks, &text[..60_000]));
        let only_the_beginning = read(&text, &[1_000]);
        assert!(!is_told(&only_the_beginning, &text[..60_000]));
    }
}
