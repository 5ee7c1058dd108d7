//! Files named by pattern, and their former files beside them.
//!
//! Links to directories are not followed below a pattern's literal beginning: no loops, no file
//! twice, no way out of the tree. A link to a file stands for the file, if it leads to where the group's links may
//! lead (`follow_links`) and the file is not excluded under its own name.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use globset::GlobSet;

mod owner;
mod pattern;
mod problems;
mod targets;

pub(crate) use pattern::Pattern;
use problems::say_unreadable;
pub(super) use targets::{OfDirectory, Targets};

use super::{
    AgeKey, DiscoverError, Found, Listing, Look, Role,
    entries::{self, Entry, Kind},
    filter, former,
};
use crate::{
    config::{self, Charset, FileFormat, FollowLinks},
    source::{Format, Known, Schema, Source},
};

/// All statically configured files, in the configuration's order: the first to match wins.
#[derive(Debug)]
pub(super) struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    patterns: Vec<Pattern>,
    exclude: GlobSet,
    links: FollowLinks,
    max_links: u32,
    format: Format,
    schema: Schema,
}

/// What the listers of runtimes' logs answer for.
pub(super) struct Others<'a> {
    /// Real paths of the host.
    pub(super) taken: &'a dyn Fn(&Path) -> bool,
    /// Names of files in the directory, which is one of theirs, mounted in a second place.
    pub(super) elsewhere: &'a HashSet<OsString>,
}

/// A directory as one group's patterns call it.
struct Place<'a> {
    group: &'a Group,
    called: Vec<Called<'a>>,
}

/// A directory as a pattern calls it.
struct Called<'a> {
    pattern: &'a Pattern,
    /// The real path of the pattern's beginning.
    base: PathBuf,
    /// What is below that.
    below: PathBuf,
}

impl Called<'_> {
    /// What the pattern calls a real path of the host; None: it is not below its beginning.
    fn words(&self, real: &Path) -> Option<PathBuf> {
        Some(self.pattern.base.join(real.strip_prefix(&self.base).ok()?))
    }

    /// The real directory that links here may lead below: the pattern's beginning, or where the pattern's first
    /// wildcard stands for a directory's name, that directory.
    fn bound(&self) -> PathBuf {
        let own = self.below.iter().next().filter(|_| self.pattern.sets_apart());
        own.map_or_else(|| self.base.clone(), |own| self.base.join(own))
    }
}

impl Groups {
    pub(super) fn new(files: &[config::Files], node: &str) -> Result<Self, DiscoverError> {
        let group = |(at, files): (usize, &config::Files)| {
            let key = format!("sources.files[{at}]");
            let paths = format!("{key}.paths");
            Ok(Group {
                patterns: files
                    .paths
                    .iter()
                    .map(|pattern| Pattern::new(&paths, pattern))
                    .collect::<Result<_, _>>()?,
                exclude: filter::set(&format!("{key}.exclude"), &files.exclude)?,
                links: files.follow_links,
                max_links: files.max_links,
                format: match files.format {
                    FileFormat::Plain if files.encoding == Charset::UTF_8 => Format::Plain,
                    FileFormat::Plain => Format::Encoded(files.encoding),
                    FileFormat::Cri => Format::Cri,
                    FileFormat::DockerJson => Format::DockerJson,
                },
                schema: schema(node, &files.attributes),
            })
        };
        Ok(Self(files.iter().enumerate().map(group).collect::<Result<_, _>>()?))
    }

    /// The directories the patterns begin in, and whether links may lead there.
    pub(super) fn bases(&self) -> impl Iterator<Item = (&Path, FollowLinks)> {
        let of = |group: &'_ Group| group.links;
        self.0.iter().flat_map(move |group| {
            group.patterns.iter().map(move |pattern| (pattern.base.as_path(), of(group)))
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what the directory holds; false if no pattern leads here. `others`: what other listers
    /// answer for.
    pub(super) fn list(&self, look: &Look<'_>, others: &Others<'_>, listing: &mut Listing) -> bool {
        let mut known = false;
        for group in &self.0 {
            let place = group.place(look, look.here);
            if place.called.is_empty() {
                continue;
            }
            known = true;
            // What an earlier lister or group answers for.
            let before: HashSet<_> = listing.files.iter().map(|it| it.path.clone()).collect();
            let mut targets = Targets::default();
            for entry in look.entries {
                match entry.kind {
                    Kind::Directory => {
                        if place.leads_into(entry) {
                            listing.directories.push(look.directory.join(&entry.name));
                        }
                    }
                    Kind::File => {
                        if !before.contains(&look.directory.join(&entry.name))
                            && !others.elsewhere.contains(&entry.name)
                        {
                            place.list_file(look, entry, listing);
                        }
                    }
                    Kind::Link => {
                        let target = self.follow_link(look, &place, entry, others.taken, listing);
                        target.into_iter().for_each(|target| targets.add(target));
                    }
                    Kind::Other => {}
                }
            }
            targets.list(look, &before, listing);
        }
        known
    }
}

impl Group {
    /// How the patterns that lead to a real directory of the host call it.
    fn place(&self, look: &Look<'_>, here: &Path) -> Place<'_> {
        let called = self.patterns.iter().filter_map(|pattern| {
            let base = look.real_base(&pattern.base, self.links)?;
            let below = here.strip_prefix(&base).ok()?.to_owned();
            pattern.leads_through(&below).then_some(Called { pattern, base, below })
        });
        Place { group: self, called: called.collect() }
    }

    /// The source at a path that is called so. `owned`: the directory, as this process finds it, whose owner decides how
    /// many there are.
    fn source(&self, path: PathBuf, called: &Path, owned: &Path) -> Arc<Source> {
        let attributes = self.schema.attributes(&path, &[Some(&called.to_string_lossy())]);
        let owned = if path.starts_with(owned) { owned.as_os_str().len() } else { 0 };
        let owned = u16::try_from(owned).unwrap_or(0);
        let (path, format, known) = (path.into(), self.format, Known::All);
        Arc::new(Source { path, format, attributes, known, owned })
    }
}

fn schema(node: &str, configured: &BTreeMap<String, String>) -> Schema {
    let own = [("host.name", Some(node)), ("log.file.path", None)];
    let configured = configured.iter().map(|(name, value)| (&**name, Some(&**value)));
    Schema::new(own.into_iter().chain(configured))
}

impl Place<'_> {
    /// What the patterns call the entry of this name, if any matches, and which does.
    fn matched(&self, name: impl AsRef<Path>) -> Option<(&Called<'_>, PathBuf)> {
        let name = name.as_ref();
        let words = |called: &Called<'_>| called.pattern.base.join(&called.below).join(name);
        let mut paths = self.called.iter().map(|called| (called, words(called)));
        let (called, path) = paths.find(|(called, path)| called.pattern.is_match(path))?;
        (!self.group.exclude.is_match(&path)).then_some((called, path))
    }

    fn leads_into(&self, entry: &Entry) -> bool {
        self.called.iter().any(|Called { pattern, below, .. }| {
            let below = below.join(&entry.name);
            pattern.leads_through(&below) && !self.group.exclude.is_match(pattern.base.join(below))
        })
    }

    fn list_file(&self, look: &Look<'_>, entry: &Entry, listing: &mut Listing) {
        let path = look.directory.join(&entry.name);
        let (max_links, called) = (self.group.max_links, self.matched(&entry.name));
        let (text, inode) = (entry.name.to_str(), entry.inode);
        let (stem, gzip) = text.map_or(("", false), former::gunzipped);
        if let Some((source, key)) = self.former_of(look, stem, called.is_some()) {
            let (role, only_if_known) = (Role::Rotated(key), called.is_none());
            let found = Found { path, source, role, gzip, only_if_known, inode, max_links };
            listing.files.push(found);
            return;
        }
        let Some((by, called)) = called else { return };
        if text.is_some_and(former::is_unreadable) {
            say_unreadable(look, listing);
            return;
        }
        let source = self.group.source(path.clone(), &called, &look.host.inside(&by.bound()));
        // Nothing more is written to a compressed file: it is its own former self.
        let role = if gzip { Role::Rotated(AgeKey::Date(stem.to_owned())) } else { Role::Live };
        let only_if_known = false;
        listing.files.push(Found { path, source, role, gzip, only_if_known, inode, max_links });
    }

    /// The matching live file that this name makes a former file of.
    fn former_of(&self, look: &Look<'_>, stem: &str, named: bool) -> Option<(Arc<Source>, AgeKey)> {
        former::readings(stem).into_iter().find_map(|reading| {
            // `app-20260131.log` that a pattern names may be today's: only beside an `app.log`.
            if reading.infix && named && !entries::has_file(look.entries, &reading.live) {
                return None;
            }
            let (by, called) = self.matched(&reading.live)?;
            let owned = look.host.inside(&by.bound());
            let source = self.group.source(look.directory.join(&reading.live), &called, &owned);
            Some((source, reading.key))
        })
    }
}
