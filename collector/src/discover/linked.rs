//! Where links of patterns lead, by directory, remembered while many directories are listed.
//!
//! Which files of a directory are logs only because links lead to them is told by the links, wherever they
//! lie, so each such directory asks all of them that may lead there. A thousand links may lead into a thousand
//! directories: without this, listing those would follow a million links. Only names are remembered, also of what is
//! not there: which files there are is told by the directory when it is listed. A link that comes meanwhile is found by
//! a look at the directory that it lies in.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::files::{OfDirectory, Targets};

/// What is remembered is used for so long, or so many times as long as it took to find.
const KEPT: Duration = Duration::from_secs(1);
const TIMES: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// How many rows of listings are under way, one in another.
    rows: Cell<u32>,
    /// By the directory below which the links lie; with the time until which that is used in rows to come.
    known: RefCell<HashMap<PathBuf, (Targets, Instant)>>,
}

impl Linked {
    /// A row begins, or ends (false). Outside of rows nothing that is remembered is used.
    pub(super) fn row(&self, begins: bool) {
        let rows = self.rows.get();
        self.rows.set(if begins { rows + 1 } else { rows.saturating_sub(1) });
        if begins && rows == 0 {
            let now = Instant::now();
            self.known.borrow_mut().retain(|_, (_, until)| *until > now);
        }
    }

    /// No further row follows soon.
    pub(super) fn forget(&self) {
        self.known.take();
    }

    /// What links lead to in one directory. `from`: below which directories they may lie; `find` follows all links
    /// below one of these.
    pub(super) fn in_directory(
        &self,
        directory: &Path,
        from: Vec<PathBuf>,
        find: impl Fn(&Path) -> Targets,
    ) -> OfDirectory {
        let mut all = OfDirectory::default();
        for below in from {
            if self.rows.get() == 0 {
                all.add(find(&below).of(directory));
                continue;
            }
            let mut known = self.known.borrow_mut();
            let (targets, _) = known.entry(below).or_insert_with_key(|below| {
                let began = Instant::now();
                let targets = find(below);
                let now = Instant::now();
                (targets, now + KEPT.max((now - began) * TIMES))
            });
            all.add(targets.of(directory));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_once_for_many_directories_until_what_is_remembered_is_old() {
        let (linked, followed) = (Linked::default(), Cell::new(0));
        let ask = || {
            for n in 0..1_000 {
                let directory = PathBuf::from(format!("/tree/{}/{n}", n % 2));
                let from = vec![PathBuf::from(format!("/tree/{}", n % 2))];
                linked.in_directory(&directory, from, |_| {
                    followed.set(followed.get() + 1);
                    Targets::default()
                });
            }
            followed.take()
        };
        linked.row(true);
        assert_eq!(ask(), 2, "once for each that links may lie below");
        linked.row(false);
        linked.row(true);
        assert_eq!(ask(), 0, "a row that follows soon uses the same");
        linked.row(false);
        linked.known.borrow_mut().values_mut().for_each(|(_, until)| *until = Instant::now());
        linked.row(true);
        assert_eq!(ask(), 2);
        linked.row(false);
        assert_eq!(ask(), 1_000, "nothing that is remembered is used outside of rows");
    }
}
