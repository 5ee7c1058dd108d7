//! Whether a directory changed while it was looked at.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use crate::identity;

/// A directory that changed this lately may have changed since it was listed.
const LATELY: Duration = Duration::from_millis(500);

/// When the directory's entries changed last, by its file system's clock.
pub(super) fn modified_ns(directory: &Path) -> Option<i64> {
    identity::look_at(directory).ok().map(|look| look.modified_ns)
}

/// Whether the directory's entries changed a moment ago: perhaps since they were listed.
pub(super) fn changed_lately(directory: &Path) -> bool {
    let modified = modified_ns(directory).and_then(|at| u64::try_from(at).ok());
    let Some(modified) = modified else { return false };
    let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(modified);
    // A time in the future (the clock was set back) proves nothing.
    SystemTime::now().duration_since(modified).map_or(true, |age| age < LATELY)
}
