//! What links of patterns lead to, and what of it is a log for them alone.
//!
//! A link counts by the real path that it leads to. It reads the directories that links lie in and lead to, and
//! remembers nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Called, Group, Groups, Others, Pattern, Place, problems::say_outside};
use crate::{
    config::FollowLinks,
    discover::{
        AgeKey, Found, Listing, Look, Role,
        entries::{self, Entry, Kind, is_regular},
        former,
    },
    source::Source,
};

/// Where links lead, by directory and name, so that each of these directories is read once however many links lead
/// into it.
#[derive(Debug, Default)]
pub(in crate::discover) struct Targets(HashMap<PathBuf, OfDirectory>);

/// Those in one directory, by name.
#[derive(Debug, Default, Clone)]
pub(in crate::discover) struct OfDirectory(BTreeMap<OsString, Target>);

#[derive(Debug, Clone)]
pub(super) struct Target {
    source: Arc<Source>,
    max_links: u32,
}

impl Targets {
    /// The first link to a file counts.
    pub(super) fn add(&mut self, (directory, name, target): (PathBuf, OsString, Target)) {
        self.0.entry(directory).or_default().0.entry(name).or_insert(target);
    }

    /// Those in a real directory of the host.
    pub(in crate::discover) fn of(&self, directory: &Path) -> OfDirectory {
        self.0.get(directory).cloned().unwrap_or_default()
    }

    /// Adds those that are there, and their former files; but for those that another lister answers for.
    pub(super) fn list(self, look: &Look<'_>, before: &HashSet<PathBuf>, listing: &mut Listing) {
        for (directory, mut targets) in self.0 {
            let directory = look.host.inside(&directory);
            targets.0.retain(|name, _| !before.contains(&directory.join(name)));
            if targets.0.is_empty() {
                continue;
            }
            let entries = entries::read(&directory).unwrap_or_default();
            if targets.list(&directory, &entries, &mut listing.files) {
                listing.directories.push(directory);
            }
        }
    }
}

impl OfDirectory {
    /// Adds what other links lead to. The first link to a file counts.
    pub(in crate::discover) fn add(&mut self, others: Self) {
        for (name, target) in others.0 {
            self.0.entry(name).or_insert(target);
        }
    }

    /// Adds those that are there, in a directory with these entries, and their former files. True if there are any.
    pub(in crate::discover) fn list(
        &self,
        directory: &Path,
        entries: &[Entry],
        files: &mut Vec<Found>,
    ) -> bool {
        let listed = |name: &OsString| {
            let at = entries.binary_search_by(|entry| entry.name.cmp(name));
            at.is_ok_and(|at| entries[at].kind == Kind::File)
        };
        let (mut any, mut live) = (false, HashMap::new());
        for (name, target) in &self.0 {
            let path = directory.join(name);
            // Of a very large directory not all is listed.
            if !listed(name) && !is_regular(&path) {
                continue;
            }
            let (role, gzip, only_if_known, inode) = (Role::Live, false, false, 0);
            let (source, max_links) = (Arc::clone(&target.source), target.max_links);
            files.push(Found { path, source, role, gzip, only_if_known, inode, max_links });
            any = true;
            live.extend(name.to_str().map(|name| (name, target)));
        }
        let former = entries.iter().filter(|entry| entry.kind == Kind::File && !live.is_empty());
        for text in former.filter_map(|entry| entry.name.to_str()) {
            let (stem, gzip) = former::gunzipped(text);
            let mut of: HashMap<&str, AgeKey> = HashMap::new();
            let readings = former::readings(stem);
            for reading in &readings {
                if live.contains_key(&*reading.live) {
                    of.entry(&reading.live).or_insert_with(|| reading.key.clone());
                }
            }
            for (name, key) in of {
                let Target { source, max_links } = live[name];
                files.push(Found {
                    path: directory.join(text),
                    source: Arc::clone(source),
                    role: Role::Rotated(key),
                    gzip,
                    only_if_known: true,
                    inode: 0,
                    max_links: *max_links,
                });
            }
        }
        any
    }
}

impl Groups {
    /// The real directories below which links may lie that lead into this one, which no pattern leads to.
    pub(in crate::discover) fn linked_from(&self, look: &Look<'_>) -> Vec<PathBuf> {
        let patterns =
            self.0.iter().flat_map(|group| group.patterns.iter().map(move |it| (group, it)));
        let from = |(group, pattern): (&Group, &Pattern)| {
            let base = look.real_base(&pattern.base, group.links)?;
            match group.links {
                FollowLinks::Never => None,
                FollowLinks::Anywhere => Some(base),
                FollowLinks::Beneath => {
                    let below = look.here.strip_prefix(&base).ok()?.to_owned();
                    Some(Called { pattern, base, below }.bound())
                }
            }
        };
        let mut all = Vec::new();
        for directory in patterns.filter_map(from) {
            if !all.contains(&directory) {
                all.push(directory);
            }
        }
        all
    }

    /// Where matching links below a directory lead that lead to what is a log for them alone, whether something is
    /// there or not: walks for those links.
    pub(in crate::discover) fn linked(
        &self,
        look: &Look<'_>,
        others: &Others<'_>,
        below: &Path,
    ) -> Targets {
        let mut ahead = VecDeque::from([below.to_owned()]);
        let (mut targets, mut listed) = (Targets::default(), HashSet::new());
        while let Some(here) = ahead.pop_front() {
            if listed.contains(&here) {
                continue;
            }
            let directory = look.host.inside(&here);
            let entries = entries::read(&directory).unwrap_or_default();
            let there = Look { directory: &directory, here: &here, entries: &entries, ..*look };
            let mut problems = Listing::default();
            for place in self.0.iter().map(|group| group.place(&there, &here)) {
                for entry in &entries {
                    match entry.kind {
                        Kind::Directory if place.leads_into(entry) => {
                            ahead.push_back(here.join(&entry.name));
                        }
                        Kind::Link => {
                            let target = self.follow_link(
                                &there,
                                &place,
                                entry,
                                others.taken,
                                &mut problems,
                            );
                            target.into_iter().for_each(|target| targets.add(target));
                        }
                        _ => {}
                    }
                }
            }
            listed.insert(here);
        }
        targets
    }

    /// A matching link to a file: where that is, and the file as a log, unless it is found without the link. It may
    /// not be there.
    pub(super) fn follow_link(
        &self,
        look: &Look<'_>,
        place: &Place<'_>,
        entry: &Entry,
        taken: &dyn Fn(&Path) -> bool,
        listing: &mut Listing,
    ) -> Option<(PathBuf, OsString, Target)> {
        let (by, called) = place.matched(&entry.name)?;
        let (links, bound) = (place.group.links, by.bound());
        let allowed = |path: &Path| match links {
            FollowLinks::Never => false,
            FollowLinks::Beneath => path.starts_with(&bound),
            FollowLinks::Anywhere => true,
        };
        if links == FollowLinks::Never {
            return None;
        }
        let link = look.here.join(&entry.name);
        let walk = look.follow(&link, taken, allowed);
        let target = walk.end.ok().or(walk.missing)?;
        let path = look.host.inside(&target);
        let excluded = |called: &Path| place.group.exclude.is_match(called);
        if excluded(&target) || by.words(&target).is_some_and(|called| excluded(&called)) {
            return None;
        }
        if !allowed(&target) {
            if !taken(&target) && is_regular(&path) {
                say_outside(look, &bound, &link, listing);
            }
            return None;
        }
        let (parent, name) = (target.parent()?, target.file_name()?);
        let found_anyway = taken(&target)
            || self.0.iter().any(|group| group.place(look, parent).matched(name).is_some());
        let target = || Target {
            source: place.group.source(path, &called, &look.host.inside(&bound)),
            max_links: place.group.max_links,
        };
        (!found_anyway).then(|| (parent.to_owned(), name.to_owned(), target()))
    }
}
