//! What is said of files that patterns match and that are not collected.

use std::path::Path;

use crate::discover::{Listing, Look};

/// Of one link only, although there may be more: whoever makes them could fill memory and log.
pub(super) fn say_outside(look: &Look<'_>, bound: &Path, link: &Path, listing: &mut Listing) {
    let beginning = format!("Links in {:?} lead out of {bound:?}", look.here);
    if !listing.problems.iter().any(|problem| problem.starts_with(&beginning)) {
        listing.problems.push(format!(
            "{beginning}, {:?} for one, so what they lead to is not collected. If it is wanted, name it under \
             sources.files, or set follow_links to anywhere there, where only trusted users can make links.",
            link.file_name().unwrap_or_default()
        ));
    }
}

pub(super) fn say_unreadable(look: &Look<'_>, listing: &mut Listing) {
    let problem = format!(
        "Patterns of sources.files match compressed files in {:?} that are not gzip; these are not \
         read. Exclude them, or have them compressed with gzip.",
        look.here
    );
    if !listing.problems.contains(&problem) {
        listing.problems.push(problem);
    }
}
