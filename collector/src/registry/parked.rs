//! Opened files that wait for an older one of their source.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Registry, recognised::Recognised, sequence::Sequence, unfinished::PATIENCE};
use crate::{
    discover::{AgeKey, Role},
    identity::{self, InodeKey},
    read::reader::Message,
};

/// Files wait this long at most for an older one that vanished while it was looked for.
pub(super) const PARK: Duration = Duration::from_secs(3);

/// As long as it may take until it is told whose copy the older one is.
const PARK_COPY: Duration = PATIENCE;

/// As long as one has to wait for its turn to be unpacked.
const PARK_UNPACKING: Duration = Duration::from_secs(30);

/// Opened files of a source that wait for an older one that could not be found yet.
pub(super) struct Parked {
    pub(super) files: HashMap<InodeKey, Recognised>,
    pub(super) sequence: Sequence,
    /// Since when they wait for it.
    pub(super) since: Instant,
    /// Since when they wait, for whichever.
    pub(super) begun: Instant,
    /// How long they may.
    pub(super) patience: Duration,
    /// Which one they wait for.
    pub(super) older: Option<Role>,
}

/// What one or several looks at a source's files showed.
pub(super) struct Looks {
    /// The files of the last one.
    pub(super) last: HashSet<InodeKey>,
    /// The oldest file that could not be found, or that others may be older than.
    pub(super) doubt: Option<Role>,
    /// Files were still coming in the last one.
    pub(super) unstable: bool,
}

impl Parked {
    pub(super) fn nothing() -> Self {
        let (files, sequence) = (HashMap::new(), Sequence::default());
        let now = Instant::now();
        Self { files, sequence, since: now, begun: now, patience: PARK * 2, older: None }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = InodeKey> {
        self.files.keys().copied()
    }
}

impl Registry {
    /// What may be later than a file that is still to be found waits for it, held open, unless it has waited
    /// long enough. `before`: since when, and for which.
    pub(super) fn park_later(
        &mut self,
        source: Arc<Path>,
        looks: Looks,
        before: Parked,
        recognised: &mut Vec<Recognised>,
    ) {
        let Looks { last, doubt: Some(doubt), unstable } = looks else { return };
        let Parked { mut sequence, mut since, mut begun, older, .. } = before;
        // It may have come while the source was looked through.
        let pause = self.heed_pause(Duration::ZERO);
        (since, begun) = (since + pause, begun + pause);
        if older.as_ref() != Some(&doubt) && !unstable {
            // The one they waited for was found, another one was not.
            since = Instant::now();
        }
        let patience = match self.was_put_off() {
            true => PARK_UNPACKING,
            false if self.has_unfinished(&source) => PARK_COPY,
            false => PARK,
        };
        if since.elapsed() >= patience || begun.elapsed() >= patience * 2 {
            return;
        }
        let later = recognised.partition_point(|file| file.found.role < doubt);
        let parked = recognised.split_off(later);
        parked.iter().for_each(|file| self.note_end(&file.look));
        let files: HashMap<_, _> = parked.into_iter().map(|file| (file.look.key, file)).collect();
        sequence.retain(|key| files.contains_key(key) || last.contains(key));
        let patience = patience * 2;
        let parked = Parked { files, sequence, since, begun, patience, older: Some(doubt) };
        self.parked.insert(source, parked);
    }

    /// Tells a source's reader that files wait here that follow what it has.
    pub(super) fn tell_what_follows(&self, source: &Path) {
        if self.parked.contains_key(source) {
            let until = Instant::now() + PARK;
            self.send(source, |tail| Message::Follow(Some(tail), until));
        }
    }

    /// Hands over files that have waited long enough for an older one.
    pub(super) fn hand_over_parked(&mut self) {
        self.heed_pause(Duration::ZERO);
        let due: Vec<Arc<Path>> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.begun.elapsed() >= parked.patience)
            .map(|(source, _)| Arc::clone(source))
            .collect();
        for source in due {
            let Some(parked) = self.parked.remove(&source) else { continue };
            let files = in_order(parked.files, &parked.sequence);
            let directory = Arc::from(source.parent().unwrap_or(&source));
            for file in files {
                let source = Arc::clone(&file.found.source);
                self.open_source(&source, &directory);
                self.settle_in(file);
            }
        }
    }
}

/// Puts files of a source into the order they were written in. Names with dates tell it; numbers are others'
/// by the next look. None has a later role than the one that follows it.
pub(super) fn in_order(
    files: HashMap<InodeKey, Recognised>,
    sequence: &Sequence,
) -> Vec<Recognised> {
    let is_dated = |file: &Recognised| matches!(file.found.role, Role::Rotated(AgeKey::Date(_)));
    let dated = files.values().any(is_dated);
    let mut files: Vec<Recognised> = files.into_values().collect();
    if dated {
        files.sort_by(|a, b| {
            let born = |file: &Recognised| file.look.key.born_ns;
            a.found.role.cmp(&b.found.role).then(born(a).cmp(&born(b)))
        });
        former_live_ones_first(&mut files);
    } else {
        let places: HashMap<InodeKey, usize> = sequence.places().collect();
        files.sort_by_key(|file| places.get(&file.look.key).copied().unwrap_or(0));
    }
    let mut follower: Option<Role> = None;
    for file in files.iter_mut().rev() {
        if let Some(role) = follower.filter(|role| *role < file.found.role) {
            file.found.role = role;
        }
        follower = Some(file.found.role.clone());
    }
    files
}

/// One that was opened as the live file, and rotated and removed before it was seen again, was begun before
/// those that followed it.
pub(super) fn former_live_ones_first(files: &mut Vec<Recognised>) {
    let born = |file: &Recognised| file.look.key.born_ns;
    for at in (0..files.len()).rev() {
        let file = &files[at];
        let key = &file.look.key;
        let is_there = || identity::look_at(&file.found.path).is_ok_and(|look| look.key == *key);
        if file.found.role != Role::Live || is_there() {
            continue;
        }
        // A compressed file was made later than what it holds.
        let next = files.iter().position(|other| !other.found.gzip && born(other) > born(file));
        if let Some(next) = next.filter(|next| *next < at) {
            let file = files.remove(at);
            files.insert(next, file);
        }
    }
}
