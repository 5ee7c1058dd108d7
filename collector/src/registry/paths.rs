//! A set of paths that other tables hold too.

use std::{path::Path, sync::Arc};

/// Sorted rather than hashed: most directories hold one, and there are many directories.
#[derive(Debug, Default, Clone)]
pub(super) struct Paths(Box<[Arc<Path>]>);

impl Paths {
    pub(super) fn insert(&mut self, path: Arc<Path>) {
        if let Err(at) = self.0.binary_search(&path) {
            let mut paths = std::mem::take(&mut self.0).into_vec();
            paths.reserve_exact(1);
            paths.insert(at, path);
            self.0 = paths.into();
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        if self.0.iter().any(|path| !keep(path)) {
            self.0 = self.0.iter().filter(|path| keep(path)).cloned().collect();
        }
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.0.binary_search_by(|known| known.as_ref().cmp(path)).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.0.iter()
    }
}

impl FromIterator<Arc<Path>> for Paths {
    fn from_iter<T: IntoIterator<Item = Arc<Path>>>(paths: T) -> Self {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_unstable();
        paths.dedup();
        Self(paths.into())
    }
}

impl IntoIterator for Paths {
    type Item = Arc<Path>;
    type IntoIter = std::vec::IntoIter<Arc<Path>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_it_once() {
        let path = |text: &str| Arc::<Path>::from(Path::new(text));
        let mut paths: Paths = ["/b", "/a", "/b"].map(path).into_iter().collect();
        paths.insert(path("/c"));
        paths.insert(path("/a"));
        assert!(paths.contains(Path::new("/c")) && !paths.contains(Path::new("/d")));
        assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["/a", "/b", "/c"].map(path));
    }
}
