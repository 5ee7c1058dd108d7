//! A live file and its former ones, side by side in a directory.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{
    AgeKey, Found, Listing, Role,
    entries::{Entry, Kind},
    former,
};
use crate::source::Source;

/// Collects the live files that `source_of` answers a source for (by name), and their former files.
///
/// A compressed file beside a file of its name without `.gz` is listed too: it may be a copy that is
/// still being written, or have another content.
pub(super) fn collect(
    directory: &Path,
    entries: &[Entry],
    listing: &mut Listing,
    mut source_of: impl FnMut(&str) -> Option<Arc<Source>>,
) {
    let mut sources: HashMap<String, Option<Arc<Source>>> = HashMap::new();
    let mut source_of = |live: &str| match sources.get(live) {
        Some(known) => known.clone(),
        None => sources.entry(live.to_owned()).or_insert_with(|| source_of(live)).clone(),
    };
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        let Some(name) = entry.name.to_str() else { continue };
        let (stem, gzip) = former::gunzipped(name);
        let found = |source, role| Found {
            path: directory.join(name),
            source,
            role,
            gzip,
            only_if_known: false,
            inode: entry.inode,
            max_links: 0,
        };
        if !gzip && let Some(source) = source_of(name) {
            listing.files.push(found(source, Role::Live));
        } else if let Some((source, key)) = former_of(stem, &mut source_of) {
            listing.files.push(found(source, Role::Rotated(key)));
        }
    }
}

fn former_of(
    stem: &str,
    source_of: &mut impl FnMut(&str) -> Option<Arc<Source>>,
) -> Option<(Arc<Source>, AgeKey)> {
    former::readings(stem)
        .into_iter()
        .filter(|reading| !reading.infix)
        .find_map(|reading| Some((source_of(&reading.live)?, reading.key)))
}
