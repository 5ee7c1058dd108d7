//! Whose the directories are that patterns lead through.

use std::path::{Path, PathBuf};

use super::Groups;
use crate::discover::host;

impl Groups {
    /// Whose a directory below a pattern's beginning is: whoever may make directories there.
    pub(in crate::discover) fn owner(&self, host: &host::HostRoot, here: &Path) -> Option<PathBuf> {
        self.0.iter().flat_map(|group| group.patterns.iter().map(move |it| (group, it))).find_map(
            |(group, pattern)| {
                let base = host.real_base(&pattern.base, group.links)?;
                let mut below = here.strip_prefix(&base).ok()?.iter();
                let own = below.next()?;
                let is_apart = pattern.sets_apart() && below.next().is_some();
                Some(if is_apart { base.join(own) } else { base })
            },
        )
    }
}
