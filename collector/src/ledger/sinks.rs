//! One file's accounts, one per sink.
//!
//! A sink has a slot: a number that is its own for the life of the process. A reload may add sinks,
//! so the list only grows, and what was handed out stays where it is. Nearly all files are made with
//! all the sinks that there will be: room for more is made when it is asked for.

use std::sync::{Arc, OnceLock};

use super::sink::SinkAccount;
use crate::checkpoint::FileEntry;

/// Accounts that are made at once at most; those beyond follow in further blocks of as many.
const BLOCK: usize = 4;

/// A sink's number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSlot {
    /// Its number, the same for the life of the process.
    pub number: u16,
    /// Its name in the configuration and in the checkpoint.
    pub name: Arc<str>,
}

/// Whether nothing of a file is left to be read or sent to those of its sinks that are among `sinks`, as
/// far as was known.
pub fn is_settled(entry: &FileEntry, sinks: &[SinkSlot]) -> bool {
    let configured = |name: &Arc<str>| sinks.iter().any(|sink| sink.name == *name);
    let owed = entry.sinks.iter().filter(|(name, _)| configured(name));
    owed.into_iter().all(|(_, offset)| offset.settled >= entry.size && offset.resume >= entry.size)
}

/// A file's accounts by slot.
#[derive(Debug)]
pub(super) struct SinkAccounts<A: ?Sized = [SinkAccount]> {
    more: OnceLock<Box<SinkAccounts<[SinkAccount; BLOCK]>>>,
    first: A,
}

impl SinkAccounts {
    /// Accounts for so many sinks; more are made when they are asked for.
    pub(super) fn new(sinks: usize) -> Box<Self> {
        match sinks {
            0 | 1 => Self::block::<1>() as Box<Self>,
            2 => Self::block::<2>(),
            3 => Self::block::<3>(),
            _ => Self::block::<BLOCK>(),
        }
    }

    /// The account of a sink.
    pub(super) fn get(&self, slot: usize) -> &SinkAccount {
        match self.first.get(slot) {
            Some(account) => account,
            None => {
                let more: &Self = &**self.more.get_or_init(Self::block);
                more.get(slot - self.first.len())
            }
        }
    }

    fn block<const N: usize>() -> Box<SinkAccounts<[SinkAccount; N]>> {
        let first = [const { SinkAccount::new() }; N];
        Box::new(SinkAccounts { more: OnceLock::new(), first })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn an_account_stays_where_it_is_when_others_are_added() {
        for sinks in 0..7 {
            let accounts = SinkAccounts::new(sinks);
            let places: Vec<_> = (0..20_u64)
                .map(|slot| {
                    let account = accounts.get(slot as usize);
                    assert_eq!(account.read.swap(slot + 1, Ordering::AcqRel), 0);
                    std::ptr::from_ref(account)
                })
                .collect();
            for (slot, place) in places.into_iter().enumerate() {
                let account = accounts.get(slot);
                assert_eq!(std::ptr::from_ref(account), place);
                assert_eq!(account.read.load(Ordering::Acquire), slot as u64 + 1);
            }
        }
    }

    #[test]
    fn room_for_more_sinks_costs_two_words() {
        let of_one = size_of::<SinkAccounts<[SinkAccount; 1]>>();
        assert!(of_one <= size_of::<SinkAccount>() + 2 * size_of::<usize>(), "{of_one}");
    }
}
