//! Compressed files that are unpacked to find out whose copies they are: a part at a time, and few at once.
//!
//! A small file may unpack to gigabytes, and whoever can make one can make many. The registry has other things to
//! do meanwhile.

use std::{
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Map, Registry};
use crate::{
    discover::Found,
    held_back::{self, Resource},
    identity::{InodeKey, Look},
    read::gzip::{Survey, Surveying},
};

/// Bytes unpacked in one look at a file. More than runtimes let logs grow to, as a rule.
const PART: u64 = 32 << 20;
/// The same at the first look at everything: what is older is to be known before what is newer is read.
const PART_FIRST: u64 = 512 << 20;
/// Compressed bytes that are read for it at most: they may unpack to nothing.
const PACKED: u64 = 2 << 20;
const PACKED_FIRST: u64 = 64 << 20;
/// Looks go on after this, or so many times as long as the last part took: other things have their turn.
const PAUSE: Duration = Duration::from_millis(20);
const TIMES: u32 = 4;
/// Files that are unpacked in turns at once, and of them those of a tenant.
const MOST: usize = 8;
const OF_ONE: usize = 2;
/// One that nobody asks about any more is forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Those that are under way.
#[derive(Default)]
pub(super) struct Surveys {
    all: Map<InodeKey, Underway>,
    /// No part is unpacked for a tenant before this.
    rest_until: Map<Arc<str>, Instant>,
    /// One was put off since this was asked last.
    put_off: bool,
}

struct Underway {
    surveying: Surveying,
    tenant: Arc<str>,
    /// Size and last modification.
    state: (u64, i64),
    asked: Instant,
}

impl Registry {
    /// What unpacking all of a file comes to. None: it is under way, or has to wait, and is looked at again.
    pub(super) fn survey_in_turn(
        &mut self,
        found: &Found,
        (file, look): (&File, &Look),
        offsets: Vec<u64>,
    ) -> Option<Survey> {
        let (now, state) = (Instant::now(), (look.size, look.modified_ns));
        let surveys = &mut self.surveys;
        let is_current = |underway: &Underway| now.duration_since(underway.asked) < FORGOTTEN;
        surveys.all.retain(|_, underway| is_current(underway));
        surveys.rest_until.retain(|_, until| *until > now);
        let tenant = found.source.tenant();
        let rests = surveys.rest_until.contains_key(&tenant) && !self.scanning;
        let known = surveys.all.remove(&look.key).filter(|known| {
            known.state == state && known.surveying.was_asked(offsets.iter().copied())
        });
        let mut underway = match known {
            Some(known) => known,
            None => {
                let his = surveys.all.values().filter(|other| other.tenant == tenant).count();
                if rests || his >= OF_ONE || surveys.all.len() >= MOST {
                    held_back::note(Resource::Unpacking, &tenant);
                    self.survey_later((&found.path, &tenant), now);
                    return None;
                }
                let Ok(file) = file.try_clone() else {
                    self.survey_later((&found.path, &tenant), now);
                    return None;
                };
                let surveying = Surveying::new(Arc::new(file), offsets, self.setup.max_unpacked);
                let tenant = Arc::clone(&tenant);
                Underway { surveying, tenant, state, asked: now }
            }
        };
        underway.asked = now;
        if !rests {
            let (part, packed) =
                if self.scanning { (PART_FIRST, PACKED_FIRST) } else { (PART, PACKED) };
            let done = underway.surveying.go_on(part, packed);
            let took = now.elapsed();
            if took > PAUSE {
                let until = Instant::now() + took * TIMES;
                self.surveys.rest_until.insert(Arc::clone(&tenant), until);
            }
            if done.is_some() {
                return done;
            }
        }
        self.surveys.all.insert(look.key, underway);
        self.survey_later((&found.path, &tenant), now);
        None
    }

    /// Whether a file had to wait for its turn since this was asked last.
    pub(super) fn was_put_off(&mut self) -> bool {
        std::mem::take(&mut self.surveys.put_off)
    }

    /// Its directory is looked at again soon.
    fn survey_later(&mut self, (path, tenant): (&Path, &Arc<str>), now: Instant) {
        self.surveys.put_off = true;
        let directory = path.parent().unwrap_or(path).to_owned();
        let rest = self.surveys.rest_until.get(tenant).copied().unwrap_or(now);
        let until = rest.max(now + PAUSE);
        let planned = self.retries.entry(directory).or_insert(until);
        *planned = until.min(*planned);
    }
}
