//! The way to what links and configured paths lead to: the directories an entry of which may change
//! so that it leads elsewhere, or somewhere at all.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Look, host::Walk};

/// Where nothing tells of a change, or everything changes all the time (a link to `/dev/stdout` leads there).
const NEVER: [&str; 2] = ["/proc", "/sys"];

/// What the links of one directory lead through, as the host calls it.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Where links on the way lie, and where a way ends that leads nowhere.
    turns: RefCell<BTreeSet<PathBuf>>,
    /// What is passed besides.
    passed: RefCell<BTreeSet<PathBuf>>,
}

impl Look<'_> {
    /// Follows a link of the directory. `known`: whether a directory is listed whatever links lead to it;
    /// what changes there need not be told twice. `allowed`: whether the link may lead through a directory; what
    /// changes elsewhere is nothing to it, and whoever made the link is not to choose what is watched.
    pub(super) fn follow(
        &self,
        link: &Path,
        known: impl Fn(&Path) -> bool,
        allowed: impl Fn(&Path) -> bool,
    ) -> Walk {
        let walk = self.host.walk(link);
        let never = |directory: &Path| NEVER.iter().any(|never| directory.starts_with(never));
        let new = |directory: &Path| {
            directory != self.here && !never(directory) && !known(directory) && allowed(directory)
        };
        let turns = walk.links.iter().filter_map(|link| link.parent());
        let mut noted = self.ways.turns.borrow_mut();
        noted.extend(turns.filter(|turn| new(turn)).map(Path::to_owned));
        if known(walk.deepest()) {
            return walk;
        }
        if walk.end.is_err() {
            noted.extend(Some(walk.deepest()).filter(|end| new(end)).map(Path::to_owned));
        }
        let passed =
            walk.passed().filter(|directory| new(directory) && !self.here.starts_with(directory));
        self.ways.passed.borrow_mut().extend(passed.map(Path::to_owned));
        walk
    }
}

impl Ways {
    /// All of it. What leads to a configured directory is not among it unless something turns or ends there:
    /// whoever watches over those hears of it.
    pub(super) fn into_directories(self, bases: &[&Path]) -> BTreeSet<PathBuf> {
        let Self { turns, passed } = self;
        let (mut all, mut passed) = (turns.into_inner(), passed.into_inner());
        passed.retain(|directory| !bases.iter().any(|base| base.starts_with(directory)));
        all.append(&mut passed);
        all
    }
}
