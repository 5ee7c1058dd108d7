//! The order of a source's files over several looks at its directory, which is rotated meanwhile.
//!
//! A name tells a file's place among those that are listed with it, and not among those that a later look
//! shows: by then others are called so.

use std::collections::HashSet;

use crate::identity::InodeKey;

/// Files, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sequence(Vec<InodeKey>);

impl Sequence {
    /// Takes in the files that a look shows, oldest first. One that was there before and is not shown now
    /// keeps its place before the one that followed it then; the newest of a former look, which has no
    /// follower, comes before what `follows` it.
    pub(super) fn look(
        &mut self,
        shown: Vec<InodeKey>,
        follows: impl Fn(&InodeKey, &InodeKey) -> bool,
    ) {
        let before = std::mem::replace(&mut self.0, shown);
        if before.is_empty() {
            return;
        }
        let known: HashSet<InodeKey> = before.iter().copied().collect();
        let shown: HashSet<InodeKey> = self.0.iter().copied().collect();
        let mut next = None;
        for key in before.into_iter().rev() {
            if !shown.contains(&key) {
                let at = match next {
                    Some(next) => self.0.iter().position(|other| *other == next),
                    None => {
                        let is_new = |other: &InodeKey| !known.contains(other);
                        self.0.iter().position(|other| is_new(other) && follows(other, &key))
                    }
                };
                self.0.insert(at.unwrap_or(self.0.len()), key);
            }
            next = Some(key);
        }
    }

    /// Their places.
    pub(super) fn places(&self) -> impl Iterator<Item = (InodeKey, usize)> + '_ {
        self.0.iter().copied().zip(0..)
    }

    /// Leaves out those that are not waited for any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&InodeKey) -> bool) {
        self.0.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> InodeKey {
        InodeKey { device: 1, inode, born_ns: inode as i64 }
    }

    /// Files that were born in the order of their numbers, in the order of some looks.
    fn order(looks: &[&[u64]]) -> Vec<u64> {
        let mut sequence = Sequence::default();
        for look in looks {
            let shown = look.iter().copied().map(key).collect();
            sequence.look(shown, |other, key| other.born_ns > key.born_ns);
        }
        sequence.places().map(|(key, _)| key.inode).collect()
    }

    #[test]
    fn one_that_is_gone_stays_before_its_follower() {
        assert_eq!(order(&[&[1, 2, 3], &[2, 3, 4]]), [1, 2, 3, 4]);
        assert_eq!(order(&[&[1, 2, 3], &[1, 3]]), [1, 2, 3]);
        assert_eq!(order(&[&[1, 2, 3], &[]]), [1, 2, 3]);
        assert_eq!(
            order(&[&[7, 1, 2], &[7, 3]]),
            [7, 1, 2, 3],
            "7 is compressed: it was made later"
        );
    }

    #[test]
    fn the_former_live_file_comes_before_those_that_followed_it() {
        assert_eq!(order(&[&[1, 2], &[1, 3]]), [1, 2, 3]);
        assert_eq!(order(&[&[1, 2], &[3, 4], &[5, 6]]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(order(&[&[1, 5], &[1, 3, 6]]), [1, 3, 5, 6], "3 was made before 5");
    }
}
