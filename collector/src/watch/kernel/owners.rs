//! Whose slot is whose, on the agent's side.

use crate::watch::{DirToken, FileToken};

/// By slot number: slots are given out from the first on, so this is as long as it has to be.
#[derive(Debug, Default)]
pub(super) struct Owners(Vec<Owner>);

/// Whose a slot is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody's of this agent.
    #[default]
    Nobody,
    /// A file's.
    File(FileToken),
    /// A directory's.
    Directory(DirToken),
    /// Of a directory that several paths lead to.
    // Boxed twice to keep the rest, of which there are many, small.
    #[expect(clippy::box_collection, reason = "rare, and three words otherwise")]
    Directories(Box<Vec<DirToken>>),
}

impl Owner {
    /// The directories, if it is theirs.
    pub(super) fn directories(&self) -> &[DirToken] {
        match self {
            Self::Nobody | Self::File(_) => &[],
            Self::Directory(token) => std::slice::from_ref(token),
            Self::Directories(tokens) => tokens,
        }
    }
}

impl Owners {
    pub(super) fn get(&self, number: u32) -> &Owner {
        self.0.get(number as usize).unwrap_or(&Owner::Nobody)
    }

    /// Whether it is anybody's.
    pub(super) fn has(&self, number: u32) -> bool {
        *self.get(number) != Owner::Nobody
    }

    pub(super) fn set_file(&mut self, number: u32, token: FileToken) {
        *self.slot(number) = Owner::File(token);
    }

    /// One more directory token of a slot; it is no file's from then on.
    pub(super) fn add_directory(&mut self, number: u32, token: DirToken) {
        let slot = self.slot(number);
        *slot = match std::mem::take(slot) {
            Owner::Nobody | Owner::File(_) => Owner::Directory(token),
            Owner::Directory(first) => Owner::Directories(Box::new(vec![first, token])),
            Owner::Directories(mut tokens) => {
                tokens.push(token);
                Owner::Directories(tokens)
            }
        };
    }

    /// Takes a file off its slot; false if the slot is not its own.
    pub(super) fn remove_file(&mut self, number: u32, token: FileToken) -> bool {
        let own = *self.get(number) == Owner::File(token);
        if own {
            *self.slot(number) = Owner::Nobody;
        }
        own
    }

    /// Takes a directory off its slot; true if nobody has it now.
    pub(super) fn remove_directory(&mut self, number: u32, token: DirToken) -> bool {
        let slot = self.slot(number);
        if let Owner::Directories(tokens) = slot {
            tokens.retain(|other| *other != token);
            if !tokens.is_empty() {
                return false;
            }
        }
        *slot = Owner::Nobody;
        true
    }

    fn slot(&mut self, number: u32) -> &mut Owner {
        let at = number as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Owner::default);
        }
        &mut self.0[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_with_its_last_directory() {
        let mut owners = Owners::default();
        let [first, second] = [1, 2].map(DirToken::numbered);
        owners.add_directory(3, first);
        owners.add_directory(3, second);
        assert_eq!(owners.get(3).directories(), [first, second]);
        assert!(!owners.remove_directory(3, first));
        assert_eq!(owners.get(3).directories(), [second]);
        assert!(owners.remove_directory(3, second));
        assert!(!owners.has(3) && !owners.has(0) && !owners.has(4));
    }

    #[test]
    fn a_file_takes_no_slot_from_another() {
        let mut owners = Owners::default();
        let [first, second] = [1, 2].map(FileToken::numbered);
        owners.set_file(0, first);
        owners.set_file(0, second);
        assert!(!owners.remove_file(0, first));
        assert!(owners.has(0));
        assert!(owners.remove_file(0, second));
        assert!(!owners.has(0));
    }

    #[test]
    fn an_owner_is_small() {
        assert_eq!(size_of::<Owner>(), 16);
    }
}
