//! Guards of a file at a few offsets before the one up to which it was read: its marks.
//!
//! `copytruncate` may copy less than was read: what is written between the copy and the truncation is
//! read from the original. The copy then ends before every sink's offset, and only what stands before an
//! earlier offset tells whose copy it is. So a file is marked within each piece that is read of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::guard::{AtHand, GUARD_BYTES, Guard};

/// How many there are at most.
const MARKS: usize = 5;
/// A piece is marked where these parts of eight of it have been read.
const EIGHTHS: [u64; 4] = [4, 6, 7, 8];

/// Offsets of one file and what stands before them, ascending: the older, the farther apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefixGuards {
    offsets: [u64; MARKS],
    /// Guards of so many bytes as there are, [`GUARD_BYTES`] at most.
    checksums: [u32; MARKS],
    count: u8,
}

impl PrefixGuards {
    /// Takes guards within a piece that was read, the file's `from..to`. Those before it stay as they are.
    pub fn note(&mut self, (from, to): (u64, u64), bytes: AtHand<'_>) {
        let from = from.max(self.all().last().map_or(0, |(last, _)| last));
        for eighths in EIGHTHS {
            let offset = from + to.saturating_sub(from) * eighths / 8;
            let guard = bytes.guard(offset);
            // A shorter guard is that of another piece's beginning, and proves less.
            if offset > from && guard.length() as u64 == offset.min(GUARD_BYTES as u64) {
                self.push(offset, guard);
            }
        }
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
            count -= 1;
        }
        (self.offsets[count], self.checksums[count]) = (offset, guard.to_bits() as u32);
        self.count = count as u8 + 1;
    }

    /// All of them.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (u64, Guard)> + '_ {
        let count = usize::from(self.count);
        let marks = self.offsets[..count].iter().zip(&self.checksums[..count]);
        marks.map(|(offset, checksum)| {
            let length = (*offset).min(GUARD_BYTES as u64);
            (*offset, Guard::from_bits(length << 32 | u64::from(*checksum)))
        })
    }

    /// Whether a content of `length` bytes, which ends before what was read, is the beginning of it:
    /// every mark within it is `held`, and they reach to its second half.
    pub fn tell(&self, length: u64, mut held: impl FnMut(u64, Guard) -> bool) -> bool {
        let within = || self.all().filter(|(offset, _)| *offset <= length);
        let reaches = within().next_back().is_some_and(|(last, _)| last >= length.div_ceil(2));
        reaches && within().all(|(offset, guard)| held(offset, guard))
    }
}

impl Serialize for PrefixGuards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.all().map(|(offset, guard)| (offset, guard.to_bits())))
    }
}

impl<'de> Deserialize<'de> for PrefixGuards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut marks = Self::default();
        // What another version has more of, or in another order, is left out.
        for (offset, guard) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            let last = marks.all().last().map_or(0, |(last, _)| last);
            if usize::from(marks.count) < MARKS && offset > last {
                marks.push(offset, Guard::from_bits(guard));
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
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
        let json = serde_json::to_string(&marks).unwrap();
        assert_eq!(serde_json::from_str::<PrefixGuards>(&json).unwrap(), marks);
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
