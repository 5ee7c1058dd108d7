//! The files registered in a directory, by name.

use std::ffi::OsStr;

use crate::watch::FileToken;

/// Sorted rather than hashed: most directories have one file, and there are many directories.
#[derive(Debug, Default)]
pub(super) struct Names(Box<[(Box<OsStr>, FileToken)]>);

impl Names {
    pub(super) fn get(&self, name: &OsStr) -> Option<FileToken> {
        self.find(name).ok().map(|at| self.0[at].1)
    }

    /// Gives a name to a file; answers whose it was.
    pub(super) fn insert(&mut self, name: &OsStr, token: FileToken) -> Option<FileToken> {
        match self.find(name) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, token)),
            Err(at) => {
                self.change(|names| {
                    names.reserve_exact(1);
                    names.insert(at, (name.into(), token));
                });
                None
            }
        }
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        if let Ok(at) = self.find(name) {
            self.change(|names| drop(names.remove(at)));
        }
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = FileToken> {
        self.0.iter().map(|(_, token)| *token)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<(Box<OsStr>, FileToken)>)) {
        let mut names = std::mem::take(&mut self.0).into_vec();
        change(&mut names);
        self.0 = names.into();
    }

    fn find(&self, name: &OsStr) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_the_last_file_it_was_given_to() {
        let mut names = Names::default();
        let tokens = [1, 2, 3, 4].map(FileToken::numbered);
        for (name, token) in ["b", "a", "c"].into_iter().zip(tokens) {
            assert_eq!(names.insert(OsStr::new(name), token), None);
        }
        assert_eq!(names.insert(OsStr::new("b"), tokens[3]), Some(tokens[0]));
        assert_eq!(names.get(OsStr::new("b")), Some(tokens[3]));
        assert_eq!(names.tokens().collect::<Vec<_>>(), [tokens[1], tokens[3], tokens[2]]);
        names.remove(OsStr::new("a"));
        names.remove(OsStr::new("none"));
        assert_eq!(names.get(OsStr::new("a")), None);
        assert_eq!(names.tokens().count(), 2);
    }
}
