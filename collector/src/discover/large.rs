//! Directories with more entries than are looked at at once: a part at a time, in turn.
//!
//! Whoever makes a million names is not to have them all in memory at once. What is known is seen at every look; of what is
//! not, a part told by the names' hashes, and the next part at the next look.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    Discovery, Part,
    entries::{self, Entry, MOST},
};
use crate::identity;

/// A change this lately may have been after the last look.
const LATELY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Large {
    rounds: RefCell<HashMap<PathBuf, Round>>,
    /// Inodes of files that are known.
    known: RefCell<HashSet<u64>>,
}

/// Looks that show all of a directory.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// The part that is shown now, of so many.
    at: u32,
    of: u32,
    /// Looks to come before every part was shown since the directory changed.
    left: u32,
    /// When it was changed last, as the round's looks know.
    modified: Option<i64>,
}

impl Large {
    /// A directory's entries, and which part of them.
    pub(super) fn read(&self, directory: &Path) -> io::Result<(Vec<Entry>, Part)> {
        let known_as = self.rounds.borrow().get(directory).copied();
        let mut round = match known_as {
            Some(round) => round,
            None => {
                let modified = settled(directory);
                let (entries, all) = entries::read_part(directory, None)?;
                if all <= MOST {
                    return Ok((entries, Part::ALL));
                }
                let of = parts(all);
                Round { at: 0, of, left: of - 1, modified }
            }
        };
        let Round { at, of, left, .. } = round;
        let known = self.known.borrow();
        let (entries, all) =
            entries::read_part(directory, Some(entries::Part { known: &known, at, of }))?;
        if parts(all) > of * 2 || parts(all) < of / 2 {
            // From the beginning, in other parts.
            round.of = parts(all);
            (round.at, round.left) = (round.of - 1, round.of);
        }
        self.rounds.borrow_mut().insert(directory.to_owned(), round);
        Ok((entries, Part { begins: left + 1 >= of, ends: round.left == 0 }))
    }
}

/// When a directory was changed last; None: a moment ago, so it may have been after the last look.
fn settled(directory: &Path) -> Option<i64> {
    let modified = identity::look_at(directory).ok()?.modified_ns;
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(modified).ok()?);
    (SystemTime::now().duration_since(at).ok()? >= LATELY).then_some(modified)
}

/// Half of what is kept is for one part: parts are not alike, and what is known comes on top.
fn parts(all: usize) -> u32 {
    u32::try_from(all.div_ceil(MOST / 2)).unwrap_or(u32::MAX).max(1)
}

impl Discovery {
    /// Whether a directory has more entries than are looked at at once.
    pub fn is_large(&self, directory: &Path) -> bool {
        self.large.rounds.borrow().contains_key(directory)
    }

    /// The next listing of such a directory shows its next part, and the files with these inodes in any case.
    pub fn go_on_in(&self, directory: &Path, known: HashSet<u64>) {
        self.large.known.replace(known);
        let mut rounds = self.large.rounds.borrow_mut();
        let Some(round) = rounds.get_mut(directory) else { return };
        if round.of <= 1 {
            rounds.remove(directory);
            return;
        }
        let modified = settled(directory);
        if round.left == 0 || modified.is_none() || round.modified != modified {
            (round.left, round.modified) = (round.of, modified);
        }
        round.left -= 1;
        round.at = if round.at + 1 < round.of { round.at + 1 } else { 0 };
    }

    /// A directory is gone.
    pub fn forget_large(&self, directory: &Path) {
        self.large.rounds.borrow_mut().remove(directory);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::{config::Config, discover::OwnOutputs};

    #[test]
    fn every_name_of_a_large_directory_is_shown_in_a_round_and_what_is_known_at_every_look() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(230);
        for n in 0..12_000 {
            fs::File::create(dir.path().join(format!("{long}{n}.log"))).unwrap();
        }
        let shown = dir.path().display();
        let config = format!(
            "sources:\n  kubernetes: {{enabled: false}}\n  docker: {{enabled: false}}\n  \
             files: [{{paths: ['{shown}/*.log']}}]\n"
        );
        let config = Config::parse(&config, "test").unwrap();
        let discovery = Discovery::new(&config, &OwnOutputs::default()).unwrap();
        let mut listing = discovery.list(dir.path());
        assert!(listing.has_more() && discovery.is_large(dir.path()));
        let known = listing.files[0].clone();
        // A round begins with the last change, which was a moment ago.
        std::thread::sleep(LATELY);
        let mut all = BTreeSet::new();
        let mut looks = 0;
        while listing.has_more() {
            discovery.go_on_in(dir.path(), [known.inode].into());
            listing = discovery.list(dir.path());
            assert_eq!(listing.part.unwrap().begins, looks == 0);
            assert!(listing.files.iter().any(|found| found.path == known.path));
            let bytes: usize = listing.files.iter().map(|it| it.path.as_os_str().len()).sum();
            assert!(bytes < 2 * MOST, "{bytes}");
            all.extend(std::mem::take(&mut listing.files).into_iter().map(|found| found.path));
            looks += 1;
            assert!(looks < 20, "{:?}", discovery.large);
        }
        assert_eq!(all.len(), 12_000, "after {looks} looks");
        for n in 0..12_000 {
            fs::remove_file(dir.path().join(format!("{long}{n}.log"))).unwrap();
        }
        for _ in 0..4 {
            discovery.go_on_in(dir.path(), HashSet::new());
            assert!(discovery.list(dir.path()).files.is_empty());
        }
        assert!(!discovery.is_large(dir.path()));
    }
}
