//! What links of patterns lead to, by directory, remembered while many directories are listed in a row.
//!
//! Which files of a directory are logs only because links lead to them is told by the links, wherever they
//! lie, so each such directory asks all of them. A thousand links may lead into a thousand directories: without
//! this, listing those would follow a million links. A link that comes meanwhile is found by a look at the
//! directory that it lies in.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::Found;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// How many such rows are under way, one in another.
    rows: Cell<u32>,
    all: RefCell<Option<HashMap<PathBuf, Vec<Found>>>>,
}

impl Linked {
    /// A row begins, or ends (false). What is remembered is forgotten with the outermost one.
    pub(super) fn row(&self, begins: bool) {
        let rows = self.rows.get();
        self.rows.set(if begins { rows + 1 } else { rows.saturating_sub(1) });
        if self.rows.get() == 0 {
            self.forget();
        }
    }

    /// What is asked next is looked up as it is then.
    pub(super) fn forget(&self) {
        self.all.replace(None);
    }

    /// What lies in one directory of all that links lead to. `find` follows them.
    pub(super) fn in_directory(
        &self,
        directory: &Path,
        find: impl FnOnce() -> Vec<Found>,
    ) -> Vec<Found> {
        if self.rows.get() == 0 {
            let lies_there = |found: &Found| found.path.parent() == Some(directory);
            return find().into_iter().filter(lies_there).collect();
        }
        let mut all = self.all.borrow_mut();
        let all = all.get_or_insert_with(|| {
            let mut all: HashMap<_, Vec<_>> = HashMap::new();
            for found in find() {
                let directory = found.path.parent().unwrap_or(&found.path).to_owned();
                all.entry(directory).or_default().push(found);
            }
            all
        });
        all.get(directory).cloned().unwrap_or_default()
    }
}
