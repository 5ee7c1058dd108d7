//! The accounts of all files, and the totals that outlive them.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    account::FileAccount,
    copies::Copies,
    cuts::Cuts,
    originals::Originals,
    prefixes::Prefixes,
    report::{LostFile, Totals},
};
use crate::{
    checkpoint::CopyOf,
    identity::{FileId, Identity, prefix::PrefixGuards},
};

/// All files' accounts, and the totals that outlive them.
#[derive(Debug, Default)]
pub struct Accounts {
    // Locked in this order where both are.
    files: Mutex<HashMap<FileId, Arc<FileAccount>>>,
    reserved: Mutex<HashSet<FileId>>,
    totals: Mutex<Saved>,
    complete: AtomicBool,
    lost_files: Mutex<VecDeque<LostFile>>,
    /// Where files are cut.
    pub cuts: Cuts,
    /// What tells copies that end before what was read.
    pub prefixes: Prefixes,
    /// Whose copies copies are.
    pub originals: Originals,
    /// Under which names the records of copies go.
    pub copies: Copies,
}

/// Losses that are kept file by file.
const LOST_FILES: usize = 100;

/// Totals, and whether the checkpoint has them.
#[derive(Debug, Default)]
struct Saved {
    totals: Totals,
    changed: bool,
}

impl Accounts {
    /// No files yet, and the totals of former runs.
    pub fn new(totals: Totals) -> Self {
        let totals = Saved { totals, changed: false };
        Self { totals: Mutex::new(totals), ..Self::default() }
    }

    /// With what former runs knew of cuts, of lives that truncations ended, and of copies.
    #[must_use]
    pub fn with_cuts(
        self,
        cuts: BTreeMap<FileId, Box<[u64]>>,
        prefixes: BTreeMap<FileId, PrefixGuards>,
        copies: BTreeMap<FileId, CopyOf>,
    ) -> Self {
        let (cuts, prefixes, copies) =
            (Cuts::new(cuts), Prefixes::new(prefixes), Copies::new(copies));
        Self { cuts, prefixes, copies, ..self }
    }

    /// Enters a file.
    pub fn insert(&self, account: Arc<FileAccount>) {
        self.files().insert(account.id, account);
    }

    /// A file by its name.
    pub fn get(&self, id: FileId) -> Option<Arc<FileAccount>> {
        self.files().get(&id).cloned()
    }

    /// Takes out a file of which nothing was booked yet.
    pub fn remove(&self, id: FileId) -> Option<Arc<FileAccount>> {
        self.files().remove(&id)
    }

    /// Ids that are somebody's, whose accounts are still to be entered. Replaces former ones.
    pub fn reserve(&self, ids: impl IntoIterator<Item = FileId>) {
        let ids = ids.into_iter().collect();
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// The first of an inode's lives from number `epoch` on whose id is nobody's.
    pub fn free_epoch(&self, identity: &Identity, mut epoch: u32) -> u32 {
        let files = self.files();
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = |id| files.contains_key(&id) || reserved.contains(&id);
        while is_taken(identity.id(epoch)) {
            epoch = epoch.wrapping_add(1);
        }
        epoch
    }

    /// Takes out a file, if it is there; its sums outlive it in the totals.
    pub fn close(&self, id: FileId, sums: &Totals) {
        let mut files = self.files();
        if let Some(account) = files.remove(&id) {
            account.forget();
        }
        self.add(sums);
    }

    /// Forgets what is kept of a file beside its account.
    pub fn forget_details(&self, id: FileId) {
        self.cuts.forget(id);
        self.prefixes.forget(id);
        self.originals.forget(id);
        self.copies.forget(id);
    }

    /// Every file.
    pub fn all(&self) -> Vec<Arc<FileAccount>> {
        self.files().values().cloned().collect()
    }

    /// Every file, and the totals at the same moment: a file that is forgotten is in one of them.
    pub fn snapshot(&self) -> (Vec<Arc<FileAccount>>, Totals) {
        let files = self.files();
        let totals = self.saved().totals.clone();
        (files.values().cloned().collect(), totals)
    }

    /// Keeps a loss file by file, for a while.
    pub fn note_lost(&self, lost: LostFile) {
        let mut files = self.lost_files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() == LOST_FILES {
            files.pop_front();
        }
        files.push_back(lost);
    }

    /// The latest losses, file by file.
    pub fn lost_files(&self) -> Vec<LostFile> {
        let files = self.lost_files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().cloned().collect()
    }

    /// Everything that the checkpoint knows has been found again or given up, and is booked.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether [`Accounts::set_complete`] said so.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Adds to the totals.
    pub fn add(&self, sums: &Totals) {
        let mut saved = self.saved();
        saved.totals.add(sums);
        saved.changed = true;
    }

    /// Totals by name, for the checkpoint, if they changed since the last call.
    pub fn take_unsaved(&self) -> BTreeMap<String, u64> {
        let mut saved = self.saved();
        match std::mem::take(&mut saved.changed) {
            true => saved.totals.named(),
            false => BTreeMap::new(),
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Arc<FileAccount>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
