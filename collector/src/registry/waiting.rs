//! Files that wait for a place: their tenant has as many known files as it may have.
//!
//! They lie on disk, and nothing is kept of them but an inode's number and a size. When a file of the tenant is
//! forgotten, because it is finished and gone, the directory is looked at again. What is known stays known, so that nothing is
//! left half read; of what waits, each log's oldest file comes first, and logs in the order of their names. Newest
//! first would leave those waiting that are deleted first.

mod gone;

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Map, Registry, recognised::Recognised};
use crate::{
    discover::{Found, Role},
    held_back::{self, Resource},
    identity::{self, InodeKey},
    known_files::{self, Place, Waits, Wanted},
    messages::{self, Kind},
};

/// How often it is asked whether there is room.
const AGAIN: Duration = Duration::from_secs(1);
/// Files of one source that are taken up in one look.
const AT_ONCE: usize = 500;
/// Waiting files that are remembered by their inodes, all directories together.
const MOST: usize = 1 << 17;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    by_directory: Map<Arc<Path>, Here>,
    asked: Option<Instant>,
    changed: bool,
    /// At the first look: of files that the checkpoint knows, by inode, until each has one of its own.
    kept: Map<u64, Place>,
}

/// What waits in one directory.
struct Here {
    tenant: Arc<str>,
    /// By inode.
    files: Map<u64, One>,
    /// Those that are not among them, in the round of looks before this one and in this.
    more: (u64, u64),
    /// Directories in it, likewise.
    directories: (u64, u64),
    /// Files and directories that found a place since it was asked whether fewer of these wait.
    let_in: u64,
    /// Rounds of looks that began.
    round: u32,
}

#[derive(Clone, Copy)]
struct One {
    size: u64,
    /// The round in which it was seen last.
    round: u32,
    /// The kernel told its end, and so much is lost with it.
    told: bool,
}

impl Here {
    fn new(tenant: Arc<str>) -> Self {
        Self {
            tenant,
            files: Map::default(),
            more: (0, 0),
            directories: (0, 0),
            let_in: 0,
            round: 0,
        }
    }

    fn more(&self) -> u64 {
        self.more.0.max(self.more.1)
    }

    fn directories(&self) -> u64 {
        self.directories.0.max(self.directories.1)
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        (self.more, self.directories) = ((self.more(), 0), (self.directories(), 0));
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.more() == 0 && self.directories() == 0
    }
}

impl Waiting {
    fn here(&mut self, directory: &Arc<Path>, tenant: &Arc<str>) -> &mut Here {
        self.changed = true;
        let here = self.by_directory.entry(Arc::clone(directory));
        here.or_insert_with(|| Here::new(Arc::clone(tenant)))
    }

    fn knows(&self, directory: &Path, inode: u64) -> bool {
        let here = self.by_directory.get(directory);
        inode != 0 && here.is_some_and(|here| here.files.contains_key(&inode))
    }

    /// A file waits. True if that is new.
    fn note(
        &mut self,
        (directory, found): (&Arc<Path>, &Found),
        size: u64,
        tenant: &Arc<str>,
    ) -> bool {
        let full = self.by_directory.values().map(|here| here.files.len()).sum::<usize>() >= MOST;
        let here = self.here(directory, tenant);
        if found.inode == 0 || full {
            here.more.1 += 1;
            return false;
        }
        // What a compressed one holds is not known.
        let size = if found.gzip { 0 } else { size };
        let one = One { size, round: here.round, told: false };
        here.files.insert(found.inode, one).is_none()
    }

    /// A file, or a directory in it (`None`), found a place.
    fn let_in(&mut self, directory: &Path, inode: Option<u64>) {
        if let Some(here) = self.by_directory.get_mut(directory) {
            let is_known = inode.is_some_and(|inode| here.files.remove(&inode).is_some());
            here.let_in += u64::from(!is_known);
            self.changed |= is_known;
        }
    }

    fn tell(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut all: HashMap<&Arc<str>, Waits> = HashMap::new();
        for here in self.by_directory.values() {
            let tenant = Arc::clone(&here.tenant);
            let waits = all.entry(&here.tenant).or_insert(Waits { tenant, ..Waits::default() });
            waits.files += here.files.len() as u64 + here.more();
            waits.bytes += here.files.values().map(|one| one.size).sum::<u64>();
            waits.directories += here.directories();
        }
        known_files::note_waiting(all.into_values().collect());
    }
}

impl Registry {
    /// Before the first look: what the checkpoint knows goes before what is new.
    pub(super) fn keep_places(&mut self, found: &[(Arc<Path>, Found)]) {
        for (_, found) in found {
            if found.inode != 0 && self.unclaimed.knows_inode(found.inode) {
                let length = found.path.as_os_str().len();
                let place = known_files::enter(&found.source.tenant(), length);
                self.waiting.kept.insert(found.inode, place);
            }
        }
    }

    /// It has a place of its own.
    pub(super) fn keep_no_place(&mut self, inode: u64) {
        self.waiting.kept.remove(&inode);
    }

    /// After the first look.
    pub(super) fn keep_no_places(&mut self) {
        self.waiting.kept = Map::default();
    }

    /// Those of a source's files, sorted oldest first, that are known or find a place. The others wait.
    pub(super) fn those_with_a_place(
        &mut self,
        found: Vec<Found>,
        directory: &Arc<Path>,
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Vec<Found> {
        let Some(source) = found.first().map(|found| Arc::clone(&found.source)) else {
            return found;
        };
        let tenant = source.tenant();
        let known = self.sources.get(&source.path).is_some_and(|it| !it.accounts.is_empty());
        let wanted = if known { Wanted::Further } else { Wanted::New };
        let found = self.some_at_once(found, directory, opened);
        let none_waits = !self.waiting.by_directory.contains_key(directory);
        if none_waits && known_files::has_room(&tenant, wanted, found.len() as u64) {
            return found;
        }
        let (mut admitted, mut all) = (0, Vec::new());
        for mut found in found {
            let waited = self.waiting.knows(directory, found.inode);
            // It was live when it began to wait: it is asked for, whatever it is called now.
            found.only_if_known &= !waited;
            let size = match waited {
                true => None,
                false => match identity::look_at(&found.path) {
                    Ok(look) if self.has_place(&look.key, opened) => None,
                    Ok(look) => Some(look.size),
                    Err(_gone) => None,
                },
            };
            if !waited && (size.is_none() || found.only_if_known) {
                all.push(found);
                continue;
            }
            let may_be_a_copy =
                self.scanning && found.role != Role::Live && !self.unclaimed.is_empty();
            let wanted = if may_be_a_copy { Wanted::Further } else { wanted };
            if known_files::has_room(&tenant, wanted, admitted + 1) {
                admitted += 1;
                self.waiting.let_in(directory, Some(found.inode));
                all.push(found);
            } else if let Some(size) = size
                && self.waiting.note((directory, &found), size, &tenant)
            {
                self.say_that_it_waits(&found.path, &tenant);
            }
        }
        all
    }

    /// Of very many files of one source, the first that are not known: the rest waits for the next look.
    fn some_at_once(
        &mut self,
        mut found: Vec<Found>,
        directory: &Arc<Path>,
        opened: &HashMap<InodeKey, Recognised>,
    ) -> Vec<Found> {
        if self.scanning || found.len() <= AT_ONCE {
            return found;
        }
        let mut new = 0;
        let end = found.iter().position(|found| {
            let known = self.waiting.knows(directory, found.inode)
                || identity::look_at(&found.path).is_ok_and(|it| self.has_place(&it.key, opened));
            new += usize::from(!known);
            new > AT_ONCE
        });
        if let Some(end) = end {
            // Files that are known come on, wherever they stand.
            let later = found.split_off(end);
            let is_known = |found: &Found| {
                identity::look_at(&found.path).is_ok_and(|it| self.has_place(&it.key, opened))
            };
            found.extend(later.into_iter().filter(is_known));
            self.retries.entry(directory.to_path_buf()).or_insert_with(Instant::now);
        }
        found
    }

    fn has_place(&self, key: &InodeKey, opened: &HashMap<InodeKey, Recognised>) -> bool {
        self.held.find(key).is_some()
            || self.inodes.contains_key(key)
            || opened.contains_key(key)
            || self.unclaimed.knows_inode(key.inode)
    }

    /// Whether a directory may be watched and looked through, which was listed in `parent`.
    pub(super) fn may_look_through(&mut self, path: &Path) -> bool {
        let Some(tenant) = self.setup.discovery.tenant_of(path) else { return true };
        let Some(parent) = path.parent().map(Arc::<Path>::from) else { return true };
        if known_files::has_room(&tenant, Wanted::New, 1) {
            self.waiting.let_in(&parent, None);
            return true;
        }
        self.waiting.here(&parent, &tenant).directories.1 += 1;
        self.say_that_it_waits(path, &tenant);
        false
    }

    fn say_that_it_waits(&self, path: &Path, tenant: &Arc<str>) {
        held_back::note(Resource::KnownFiles, tenant);
        if let Some(unsaid) = messages::admit(Kind::Waiting, path) {
            tracing::warn!(
                path = %path.display(),
                tenant = &**tenant,
                most = known_files::most(),
                share = known_files::share(),
                "Log files wait, because their namespace or directory has as many as may be known of one. They are \
                 collected when others of it are finished and deleted; what is deleted before that is lost. \
                 Raise read.known_files, or have old logs removed.{unsaid}"
            );
        }
    }

    /// Looks again at directories in which something waits that may find a place by now.
    pub(super) fn let_waiting_in(&mut self) {
        let now = Instant::now();
        if self.waiting.asked.is_some_and(|asked| now.duration_since(asked) < AGAIN) {
            return;
        }
        self.waiting.asked = Some(now);
        for (directory, here) in &self.waiting.by_directory {
            if known_files::has_room(&here.tenant, Wanted::New, 1) {
                self.retries.entry(directory.to_path_buf()).or_insert(now);
            }
        }
    }

    /// Says what waits, for status and metrics.
    pub(super) fn tell_waiting(&mut self) {
        self.waiting.tell();
        let metrics = &self.setup.metrics;
        metrics.known_files.set(known_files::taken() as i64);
        metrics
            .waiting_files
            .set(known_files::waiting().iter().map(|it| it.files).sum::<u64>() as i64);
    }
}
