//! Directories that take long to look at rest between two looks.
//!
//! A look costs as much as a directory has entries, logs or not, and whoever may write there can have it looked
//! at again and again. So one that took long is left alone for twenty times as long, and all of a tenant that take long
//! have a tenth of the registry's time together. Another tenant's do not wait for them: whoever's turn comes first would
//! put the others off for as long as it likes. What changes there meanwhile is noticed later; elsewhere it is
//! noticed as ever. Processor time counts: a busy machine makes nobody rest. It counts where it is spent: a
//! directory does not rest for what lies in one below it.
//!
//! New logs cost more than a look at them, and thousands may come at once. They are placed a part at a time:
//! the rest waits for the next look at their directory.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Map, Registry};
use crate::{
    held_back::{self, Resource},
    watch::DirToken,
};

/// A look that took less time costs nobody anything.
const LONG: Duration = Duration::from_millis(10);
/// So many times as long as its look took a directory rests.
const TIMES: u32 = 20;
/// So many times as long every other one of its tenant rests that takes long.
const TIMES_ALL: u32 = 9;
/// No longer than this.
const LONGEST: Duration = Duration::from_secs(5);
/// New sources are placed for so long at a time.
const PLACING: Duration = Duration::from_millis(100);
/// Directories whose placing is told apart.
const MOST: usize = 4_096;
/// So long after its rest one is known to take long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Directories that take long to look at.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// Until when each is left alone.
    until: Map<DirToken, Instant>,
    /// Until when all of a tenant's are.
    all_until: Map<Arc<str>, Instant>,
    /// The directory that was listed once more to place what is in it, and how long that took in all: each of
    /// its sources may ask for it, and there may be thousands.
    repeated: Option<(Arc<Path>, Duration)>,
    /// What placing took since the last look began, by directory, and whether something was put off there.
    placing: Vec<(Arc<Path>, Duration, bool)>,
}

impl Rests {
    /// When a directory may be looked at again; None: now.
    fn until(&self, tenant: &str, directory: DirToken, now: Instant) -> Option<Instant> {
        let until = self.until.get(&directory)?;
        let all_until = self.all_until.get(tenant).into_iter();
        all_until.chain([until]).max().copied().filter(|until| *until > now)
    }

    /// What listings showed is placed.
    pub(super) fn begin_placing(&mut self) {
        self.repeated = None;
    }

    /// A directory was listed once more meanwhile, which took so long.
    pub(super) fn repeated(&mut self, directory: &Arc<Path>, took: Duration) {
        match &mut self.repeated {
            Some((known, before)) if known == directory => *before += took,
            other => *other = Some((Arc::clone(directory), took)),
        }
    }

    /// Whether that took long already: the next look at it serves all of its sources.
    pub(super) fn has_repeated(&self, directory: &Arc<Path>) -> bool {
        let known = self.repeated.as_ref().filter(|(known, _)| known == directory);
        known.is_some_and(|(_, took)| *took >= LONG)
    }

    /// What was found in a directory was placed, which took so long; whether something was put off.
    pub(super) fn placed(&mut self, directory: &Arc<Path>, took: Duration, put_off: bool) {
        let full = self.placing.len() >= MOST;
        match self.placing.last_mut() {
            Some((known, before, any)) if known == directory => {
                (*before, *any) = (*before + took, *any || put_off);
            }
            _ if full => {}
            _ => self.placing.push((Arc::clone(directory), took, put_off)),
        }
    }

    /// It was looked at, which took so long. `more`: what was put off there waits for the next look.
    fn looked(
        &mut self,
        (tenant, directory): (&Arc<str>, DirToken),
        took: Duration,
        more: bool,
        now: Instant,
    ) {
        if took < LONG {
            self.until.remove(&directory);
            return;
        }
        self.until.retain(|_, until| now.saturating_duration_since(*until) < REMEMBERED);
        let rest = if more { Duration::ZERO } else { (took * TIMES).min(LONGEST) };
        self.until.insert(directory, now + rest);
        self.all_until.retain(|_, until| *until > now);
        self.all_until.insert(Arc::clone(tenant), now + (took * TIMES_ALL).min(LONGEST));
    }
}

impl Registry {
    /// Looks at a tenant's directory again, or plans to where it rests.
    pub(super) fn relist_in_turn(&mut self, tenant: &Arc<str>, token: DirToken, path: &Path) {
        if let Some(until) = self.rests.until(tenant, token, Instant::now()) {
            held_back::note(Resource::Listing, &path.to_string_lossy());
            self.retries.entry(path.to_owned()).or_insert(until);
            return;
        }
        let began = used();
        self.rests.placing.clear();
        self.relist(token);
        let (mut took, now) = (used().saturating_sub(began), Instant::now());
        let mut more = false;
        for (directory, placing, put_off) in std::mem::take(&mut self.rests.placing) {
            if *directory == *path {
                more |= put_off;
                continue;
            }
            took = took.saturating_sub(placing);
            if placing >= LONG
                && let Some(other) = self.directories.find(&directory)
            {
                let (whose, _) = self.whose(&directory);
                self.rests.looked((&whose, other), placing, put_off, now);
            }
        }
        self.rests.looked((tenant, token), took, more, now);
    }
}

/// The processor time that this thread has used.
pub(super) fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Whether placing new sources has gone on for long enough since then (see [`used`]).
pub(super) fn is_enough(began: Duration) -> bool {
    used().saturating_sub(began) >= PLACING
}

/// Whether what began then (see [`used`]) takes too long to be done once more at once.
pub(super) fn takes_long(began: Duration) -> bool {
    used().saturating_sub(began) >= LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_rests_and_nothing_else_does() {
        let mut rests = Rests::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (quick, slow, other) =
            (DirToken::numbered(1), DirToken::numbered(2), DirToken::numbered(3));
        let ms = Duration::from_millis;
        let (loud, quiet): (Arc<str>, Arc<str>) = ("loud".into(), "quiet".into());
        rests.looked((&loud, quick), ms(1), false, at(1));
        assert_eq!(rests.until("loud", quick, at(1)), None);
        rests.looked((&loud, slow), ms(100), false, at(100));
        assert_eq!(rests.until("loud", slow, at(101)), Some(at(2_100)));
        assert_eq!(rests.until("loud", quick, at(101)), None, "another's look costs it nothing");
        let large = DirToken::numbered(4);
        rests.looked((&quiet, large), ms(15), false, at(150));
        // Many that take long do not take all the time together.
        rests.looked((&loud, other), ms(20), false, at(1_100));
        assert_eq!(rests.until("loud", other, at(1_400)), Some(at(1_500)), "its own rest");
        rests.looked((&loud, slow), ms(100), false, at(2_200));
        assert_eq!(rests.until("loud", other, at(2_201)), Some(at(3_100)), "another's");
        assert_eq!(
            rests.until("quiet", large, at(2_201)),
            None,
            "another tenant's cost it nothing"
        );
        assert_eq!(rests.until("loud", other, at(3_100)), None);
        rests.looked((&loud, slow), ms(60_000), false, at(9_000));
        assert_eq!(rests.until("loud", slow, at(9_001)), Some(at(14_000)), "never for long");
        rests.looked((&loud, slow), ms(1), false, at(14_000));
        assert_eq!(rests.until("loud", slow, at(14_000)), None, "it takes long no more");
        rests.looked((&loud, slow), ms(100), true, at(20_000));
        assert_eq!(
            rests.until("loud", slow, at(20_001)),
            Some(at(20_900)),
            "something was put off"
        );
    }
}
