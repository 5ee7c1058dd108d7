//! Listing one directory: every lister is asked, and what is the agent's own is left out.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Discovery, docker, entries, files,
    found::{Found, Listing},
    kubernetes,
    look::{Bases, Look},
    ways,
};
use crate::{config::FollowLinks, descriptors, source::Source};

impl Discovery {
    /// What one directory holds, given that it was returned by [`Discovery::roots`] or in a
    /// listing. One `readdir` and a few `stat`; opens no log file. Of a directory that is gone: the
    /// roots, for the way to it may have to be waited for anew.
    pub fn list(&self, directory: &Path) -> Listing {
        let mut listing = Listing::default();
        let Some(here) = self.host.outside(directory) else { return listing };
        let entries = match self.large.read(directory) {
            Ok((entries, part)) => {
                listing.part = Some(part);
                entries
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                listing.directories = self.roots();
                return listing;
            }
            Err(error) if descriptors::is_shortage(&error) => {
                listing.shortage = Some(error);
                Vec::new()
            }
            Err(error) => {
                listing.problems.push(unlistable(&here, &error));
                Vec::new()
            }
        };
        let mut listing = self.list_entries(directory, &here, &entries, listing);
        let shortage = self.kubernetes.as_ref().and_then(kubernetes::Kubernetes::take_shortage);
        listing.shortage = listing.shortage.or(shortage);
        if listing.shortage.is_some() {
            // Of what there is not all can be told.
            listing.files.clear();
        }
        listing
    }

    /// The source of a live file at this path, as far as that is told by what lies elsewhere; None: nothing
    /// that is collected.
    pub fn describe(&self, path: &Path) -> Option<Arc<Source>> {
        let listing = self.list_with(path.parent()?, Vec::new(), &[path]);
        Some(listing.files.into_iter().find(|found| *found.source.path == *path)?.source)
    }

    /// What a file would be that was at `path` (its directory may be gone too); None: nothing that
    /// is collected.
    pub fn would_find(&self, path: &Path) -> Option<Found> {
        let directory = path.parent()?;
        let entries = entries::read(directory).unwrap_or_default();
        let listing = self.list_with(directory, entries, &[path]);
        listing.files.into_iter().find(|found| found.path == path)
    }

    /// What files of these paths would be that were in a directory (which may be gone too); what is
    /// not collected is left out.
    ///
    /// # Errors
    /// There is no descriptor to look with.
    pub fn would_find_all(&self, directory: &Path, paths: &[&Path]) -> io::Result<Vec<Found>> {
        let entries = match entries::read(directory) {
            Ok(entries) => entries,
            Err(error) if descriptors::is_shortage(&error) => return Err(error),
            Err(_gone_or_not_ours) => Vec::new(),
        };
        Ok(self.list_with(directory, entries, paths).files)
    }

    /// What a directory would hold if these files were in it.
    fn list_with(
        &self,
        directory: &Path,
        mut entries: Vec<entries::Entry>,
        paths: &[&Path],
    ) -> Listing {
        let Some(here) = self.host.outside(directory) else { return Listing::default() };
        let names: HashSet<&OsStr> = paths.iter().filter_map(|path| path.file_name()).collect();
        entries.retain(|entry| !names.contains(&*entry.name));
        let kind = entries::Kind::File;
        entries.extend(names.iter().map(|name| entries::Entry {
            name: name.into(),
            kind,
            inode: 0,
        }));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.list_entries(directory, &here, &entries, Listing::default())
    }

    fn list_entries(
        &self,
        directory: &Path,
        here: &Path,
        entries: &[entries::Entry],
        mut listing: Listing,
    ) -> Listing {
        let (host, own) = (&self.host, &self.own);
        let bases = Bases::default();
        let (left_out, ways) = (&self.left_out, ways::Ways::default());
        let look =
            Look { host, own, left_out, directory, here, entries, bases: &bases, ways: &ways };
        let mut known = self.lead_on(&look, &mut listing);
        if let Some(kubernetes) = &self.kubernetes {
            known |= kubernetes.list(&look, self.docker.as_ref(), &mut listing);
            kubernetes.bound_links(&mut listing);
        }
        if let Some(docker) = &self.docker {
            let others = listing.files.len();
            known |= docker.list(&look, &mut listing);
            docker.bound_links(&mut listing.files[others..]);
        }
        let elsewhere = self.files_elsewhere(&look);
        let taken = |path: &Path| {
            let lies_elsewhere = || self.lies_elsewhere(&look, path.parent()?).map(drop);
            self.is_of_a_runtime(&look, path) || lies_elsewhere().is_some()
        };
        let others = files::Others { taken: &taken, elsewhere: &elsewhere };
        known |= self.files.list(&look, &others, &mut listing);
        if !known {
            // Reached through a link only: ask the links what of it is meant. Where they lead through
            // concerns the directories that they lie in.
            let theirs = ways::Ways::default();
            let look = Look { ways: &theirs, ..look };
            if let Some(kubernetes) = &self.kubernetes {
                kubernetes.list_linked(&look, self.docker.as_ref(), &mut listing);
                kubernetes.bound_links(&mut listing);
            }
            let find = || self.files.linked(&look, &others);
            listing.files.append(&mut self.linked.in_directory(directory, find));
        }
        self.leave_out_own(&mut listing);
        let configured: Vec<&Path> = self.bases().map(|(base, _)| base).collect();
        let ways = ways.into_directories(&configured);
        listing.ways = ways.iter().map(|way| host.inside(way)).collect();
        listing.directories.sort();
        listing.directories.dedup();
        listing.directories.retain(|path| path != directory);
        listing
    }

    /// From an ancestor on towards the configured directories. True if it is one.
    fn lead_on(&self, look: &Look<'_>, listing: &mut Listing) -> bool {
        let mut ancestor = false;
        for (base, links) in self.bases() {
            let walk = self.host.walk_to_base(base, links);
            if let Some(link) = walk.refused.as_ref().filter(|_| walk.deepest() == look.here) {
                listing.problems.push(link_on_the_way(base, link, links));
            }
            if walk.passes(look.here) && walk.deepest() != look.here {
                ancestor = true;
                listing.directories.push(self.host.inside(walk.deepest()));
            }
        }
        ancestor
    }

    /// What of the directory's files the runtimes' listers answer for, because it is one of theirs that is
    /// mounted here too: their names.
    fn files_elsewhere(&self, look: &Look<'_>) -> HashSet<OsString> {
        let Some(original) = self.lies_elsewhere(look, look.here) else { return HashSet::new() };
        let (directory, ways) = (self.host.inside(&original), ways::Ways::default());
        let look = Look { here: &original, directory: &directory, ways: &ways, ..*look };
        let mut listing = Listing::default();
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.list(&look, self.docker.as_ref(), &mut listing);
        }
        if let Some(docker) = &self.docker {
            docker.list(&look, &mut listing);
        }
        let names = listing.files.iter().filter_map(|found| found.path.file_name());
        names.map(OsStr::to_owned).collect()
    }

    /// Where a real directory of the host lies too, below one of the runtimes'.
    fn lies_elsewhere(&self, look: &Look<'_>, directory: &Path) -> Option<PathBuf> {
        if self.files.is_empty() {
            return None;
        }
        let kubernetes = self.kubernetes.iter().flat_map(kubernetes::Kubernetes::bases);
        let runtimes = kubernetes.chain(self.docker.iter().map(docker::Docker::base));
        let real = runtimes.filter_map(|base| Some(self.host.inside(&look.real(base)?)));
        let bases: Vec<PathBuf> = real.collect();
        let original = self.aliases.original(&self.host.inside(directory), &bases)?;
        self.host.outside(&original)
    }

    /// Whether a real path of the host lies where Kubernetes' or Docker's logs are looked for.
    fn is_of_a_runtime(&self, look: &Look<'_>, path: &Path) -> bool {
        self.kubernetes.as_ref().is_some_and(|it| it.holds(look, path))
            || self.docker.as_ref().is_some_and(|it| it.holds(look, path))
    }

    fn leave_out_own(&self, listing: &mut Listing) {
        let is_own = |path: &Path| self.own.holds(path, self.host.outside(path).as_deref());
        listing.directories.retain(|path| !is_own(path));
        listing.files.retain(|found| !is_own(&found.path) && !self.own.is_stream(&found.path));
    }
}

fn link_on_the_way(base: &Path, link: &Path, links: FollowLinks) -> String {
    let todo = match links {
        FollowLinks::Never => "follow_links is never there",
        FollowLinks::Beneath | FollowLinks::Anywhere => {
            "it was a directory before, and whoever may write there could choose what is collected. If the link \
             is meant, restart the agent, or set follow_links to anywhere under sources.files"
        }
    };
    format!(
        "No logs in {base:?} are collected, because {link:?} is a link that is not followed: {todo}."
    )
}

fn unlistable(here: &Path, error: &io::Error) -> String {
    format!(
        "The directory {here:?} cannot be listed, so no logs in it are collected: {error}. Let the \
         agent read it (as root, or with the capability DAC_READ_SEARCH)."
    )
}
