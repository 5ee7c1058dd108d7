//! A set of numbers, kept as the ranges it is made of.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

/// Start to end, both included; neither overlapping nor adjoining.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &end)| number <= end)
    }

    pub(super) fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut start, mut end) = range.into_inner();
        if start > end {
            return;
        }
        // Everything that overlaps or adjoins melts into the new range.
        while let Some((&from, &to)) = self.0.range(..=end.saturating_add(1)).next_back() {
            if to.saturating_add(1) < start {
                break;
            }
            (start, end) = (start.min(from), end.max(to));
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    /// Removes the range that begins at `number`, if one does; returns its end.
    pub(super) fn take_from(&mut self, number: u64) -> Option<u64> {
        self.0.remove(&number)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, &end)| end)
    }

    /// How many numbers below `bound` are in the set.
    pub(super) fn count_below(&self, bound: u64) -> u64 {
        self.0.range(..bound).map(|(&start, &end)| end.min(bound - 1) - start + 1).sum()
    }

    /// The numbers of `within` that are not in the set.
    pub(super) fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut from) = (Vec::new(), within.start);
        for (&start, &end) in self.0.range(..within.end) {
            if end < from {
                continue;
            }
            if start > from {
                gaps.push(from..start);
            }
            from = end + 1;
        }
        if from < within.end {
            gaps.push(from..within.end);
        }
        gaps
    }

    /// How many numbers are in the set.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn behaves_like_a_plain_set() {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(3);
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..rng.random_range(0..30) {
                let start = rng.random_range(0..60);
                let end = start + rng.random_range(0..6);
                ranges.insert(start..=end);
                model.extend(start..=end);
            }
            for number in 0..70 {
                assert_eq!(ranges.contains(number), model.contains(&number));
                let below = model.range(..number).count() as u64;
                assert_eq!(ranges.count_below(number), below);
            }
            let absent: Vec<_> = ranges.gaps(5..60).into_iter().flatten().collect();
            let expected: Vec<_> = (5..60).filter(|number| !model.contains(number)).collect();
            assert_eq!(absent, expected);
            assert_eq!(ranges.count(), model.len() as u64);
            assert_eq!(ranges.last(), model.last().copied());
            let starts: Vec<_> = ranges.0.iter().collect();
            assert!(starts.windows(2).all(|pair| pair[0].1 + 1 < *pair[1].0), "melted");
        }
    }
}
