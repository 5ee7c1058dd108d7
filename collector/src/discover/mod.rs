//! Discover: which files hold container logs, and whose they are.
//!
//! Turns directory listings into [`Found`] files: a path, the [`Source`] it belongs to and the
//! [`Role`] its name gives it (live, rotated, compressed). Opens no log file and remembers nothing:
//! identity is `identity`'s business, noticing changes is `watch`'s.
//!
//! Whoever drives it watches and then lists [`Discovery::roots`], does the same with every
//! [`Listing::directories`] not yet watched, and lists a directory again whenever it changes. A
//! root that does not exist yet stands in as its nearest existing ancestor, so nothing has to be
//! tried again on a timer. What links and roots lead to may change elsewhere: [`Listing::ways`] and
//! [`Discovery::ways`] say where; when an entry changes there, the directory is listed again.
//!
//! Names in these directories are hostile input: a name that is not as the runtime would make it
//! is refused with a problem, and no text of one reaches a path that is opened.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Config, FollowLinks},
    descriptors,
    identity::beneath,
    source::Source,
};

mod aliases;
mod docker;
mod entries;
mod family;
mod files;
mod filter;
mod former;
mod host;
mod kubernetes;
mod names;
mod node;
mod own;
#[cfg(test)]
mod tests;
mod ways;

#[cfg(feature = "fuzzing")]
pub(crate) use files::Pattern;
pub use own::OwnOutputs;

/// Finds log files as configured. Cheap to ask, and always answers from the file system as it is.
#[derive(Debug)]
pub struct Discovery {
    host: host::HostRoot,
    own: OwnOutputs,
    left_out: LeftOut,
    aliases: aliases::Aliases,
    kubernetes: Option<kubernetes::Kubernetes>,
    docker: Option<docker::Docker>,
    files: files::Groups,
}

/// Why discovery cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// A pattern is no glob.
    #[error(
        "`{key}`: `{pattern}` is not a glob: {reason}; put a special character that is meant \
         literally in brackets, like [*]"
    )]
    Glob {
        /// The configuration key.
        key: String,
        /// What was written there.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern of files is not absolute.
    #[error("`{key}`: `{pattern}` is not absolute; write the whole path, beginning with /")]
    Relative {
        /// The configuration key.
        key: String,
        /// What was written there.
        pattern: String,
    },
}

/// What every lister is told of the directory it looks at.
struct Look<'a> {
    host: &'a host::HostRoot,
    own: &'a OwnOutputs,
    left_out: &'a LeftOut,
    /// The directory as this process opens it.
    directory: &'a Path,
    /// The directory as the host calls it.
    here: &'a Path,
    entries: &'a [entries::Entry],
    bases: &'a Bases,
    /// Where what its links lead to may change.
    ways: &'a ways::Ways,
}

/// The agent's own pods and containers that were found: what is not collected must be visible.
#[derive(Debug, Default)]
struct LeftOut {
    pods: RefCell<Vec<String>>,
    containers: RefCell<Vec<String>>,
    changed: Cell<bool>,
}

impl LeftOut {
    fn pods(&self, found: Vec<String>) {
        self.put(&self.pods, found);
    }

    fn containers(&self, found: Vec<String>) {
        self.put(&self.containers, found);
    }

    /// One container more.
    fn container(&self, found: String) {
        if !self.has_container(&found) {
            self.containers.borrow_mut().push(found);
            self.changed.set(true);
        }
    }

    fn has_container(&self, one: &str) -> bool {
        self.containers.borrow().iter().any(|known| known == one)
    }

    fn put(&self, known: &RefCell<Vec<String>>, found: Vec<String>) {
        if *known.borrow() != found {
            known.replace(found);
            self.changed.set(true);
        }
    }
}

/// Where configured directories really are, looked up once a listing.
#[derive(Default)]
struct Bases(RefCell<HashMap<(PathBuf, FollowLinks), Option<PathBuf>>>);

/// Links on the way to the directories of the runtimes: as on the way to a pattern's beginning.
const TO_RUNTIMES: FollowLinks = FollowLinks::Beneath;

impl Look<'_> {
    /// The real path of a configured directory of a runtime, if it exists.
    fn real(&self, base: &Path) -> Option<PathBuf> {
        self.real_base(base, TO_RUNTIMES)
    }

    /// The real path of a configured directory, if it exists.
    fn real_base(&self, base: &Path, links: FollowLinks) -> Option<PathBuf> {
        let base = (base.to_owned(), links);
        if let Some(known) = self.bases.0.borrow().get(&base) {
            return known.clone();
        }
        let real = self.host.real_base(&base.0, links);
        self.bases.0.borrow_mut().insert(base, real.clone());
        real
    }
}

impl Discovery {
    /// Compiles the configuration's patterns. Looks at nothing yet.
    pub fn new(config: &Config, own: &OwnOutputs) -> Result<Self, DiscoverError> {
        let node = node::name(config);
        let sources = &config.sources;
        let docker = sources.docker.enabled.then_some(&sources.docker);
        let kubernetes = sources.kubernetes.enabled.then_some(&sources.kubernetes);
        let docker = docker.map(|it| docker::Docker::new(it, &node)).transpose()?;
        let runtime = &sources.docker.containers_dir;
        let kubernetes = kubernetes.map(|it| kubernetes::Kubernetes::new(it, runtime, &node));
        let kubernetes = kubernetes.transpose()?;
        Ok(Self {
            host: host::HostRoot::new(&config.host_root),
            own: own.clone(),
            left_out: LeftOut::default(),
            aliases: aliases::Aliases::new(),
            kubernetes,
            docker,
            files: files::Groups::new(&sources.files, &node)?,
        })
    }

    /// Takes over from the one before it, after a reload, what links may not take the place of.
    pub fn go_on_from(&self, former: &Self) {
        self.host.go_on_from(&former.host);
    }

    /// Directories to watch and list first. In place of one that does not exist: its nearest
    /// existing ancestor, whose listing leads on once there is more.
    pub fn roots(&self) -> Vec<PathBuf> {
        let deepest = self.walks().map(|walk| self.host.inside(walk.deepest()));
        let mut roots: Vec<_> = deepest.collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// Directories an entry of which may change so that [`Discovery::roots`] are others: those that lead to
    /// the configured directories, links followed.
    pub fn ways(&self) -> Vec<PathBuf> {
        let mut ways = Vec::new();
        for walk in self.walks() {
            let end = walk.end.as_deref().ok();
            ways.extend(
                walk.passed().filter(|passed| Some(*passed) != end).map(|it| self.host.inside(it)),
            );
        }
        ways.sort();
        ways.dedup();
        ways
    }

    /// The directories below which logs are looked for, those that there are: no ancestors of others.
    pub fn places(&self) -> Vec<PathBuf> {
        self.walks().filter_map(|walk| Some(self.host.inside(&walk.end.ok()?))).collect()
    }

    /// Where logs are looked for, as the host calls it, with what is wrong with it now.
    pub fn looked_in(&self) -> Vec<String> {
        let told = |(base, links): (&Path, FollowLinks)| {
            let here = base.display();
            match self.host.walk_to_base(base, links).end {
                Ok(real) => match beneath::entries(&self.host.inside(&real)) {
                    Ok(_) => here.to_string(),
                    Err(error) => format!("{here} (cannot be read: {error})"),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    format!("{here} (does not exist)")
                }
                Err(error) => format!("{here} (cannot be reached: {error})"),
            }
        };
        let mut places: Vec<String> = self.bases().map(told).collect();
        places.sort();
        places.dedup();
        places
    }

    /// What one directory holds, given that it was returned by [`Discovery::roots`] or in a
    /// listing. One `readdir` and a few `stat`; opens no log file. Of a directory that is gone: the
    /// roots, for the way to it may have to be waited for anew.
    pub fn list(&self, directory: &Path) -> Listing {
        let mut listing = Listing::default();
        let Some(here) = self.host.outside(directory) else { return listing };
        let entries = match entries::read(directory) {
            Ok(entries) => entries,
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

    /// Whether what lies in this directory tells of logs elsewhere whose they are.
    pub fn tells_names(&self, directory: &Path) -> bool {
        let real = |it: &kubernetes::Kubernetes| self.host.real_base(it.containers(), TO_RUNTIMES);
        let containers = self.kubernetes.as_ref().and_then(real);
        containers.is_some_and(|containers| self.host.inside(&containers) == directory)
    }

    /// How long a new container's first lines wait for its id.
    pub fn wait_for_id(&self) -> Duration {
        self.kubernetes.as_ref().map_or(Duration::ZERO, kubernetes::Kubernetes::wait_for_id)
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
        entries.extend(names.iter().map(|name| entries::Entry { name: name.into(), kind }));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.list_entries(directory, &here, &entries, Listing::default())
    }

    /// The agent's own pods and containers whose logs were found and left out, by name, if they are
    /// others than at the last call.
    pub fn left_out_anew(&self) -> Option<Vec<String>> {
        let LeftOut { pods, containers, changed } = &self.left_out;
        let all = || pods.borrow().iter().chain(containers.borrow().iter()).cloned().collect();
        changed.replace(false).then(all)
    }

    /// Where the host's root is mounted.
    pub fn host_root(&self) -> &Path {
        self.host.root()
    }

    /// Where this process finds a path of the host, links followed as the host would.
    pub fn host_path(&self, path: &Path) -> PathBuf {
        self.host.inside(&self.host.real(path).unwrap_or_else(|| path.to_owned()))
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
            self.files.list_linked(&look, &others, &mut listing);
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

    /// Every configured directory, as the host calls it, and whether links may lead to it.
    fn bases(&self) -> impl Iterator<Item = (&Path, FollowLinks)> {
        let kubernetes = self.kubernetes.iter().flat_map(kubernetes::Kubernetes::bases);
        let docker = self.docker.iter().map(docker::Docker::base);
        let runtimes = kubernetes.chain(docker).map(|base| (base, TO_RUNTIMES));
        runtimes.chain(self.files.bases())
    }

    /// The ways to the configured directories.
    fn walks(&self) -> impl Iterator<Item = host::Walk> {
        self.bases().map(|(base, links)| self.host.walk_to_base(base, links))
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

/// What a file's name says about its place in the life of its source.
///
/// Orders as written: everything rotated or compressed comes before the live file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A former live file. The key orders former files of one source, oldest first.
    Rotated(AgeKey),
    /// The file being written now.
    Live,
}

/// Orders the former files of one source, oldest first, from their names alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeKey {
    /// `name.3`: the larger the number, the older (so it is stored negated).
    Number(i64),
    /// `name.20260131-101112`, `name-20260131`: compares as text.
    Date(String),
}

/// A file that may hold unread lines.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it lies now.
    pub path: PathBuf,
    /// Whose it is.
    pub source: Arc<Source>,
    /// Which of the source's files it is.
    pub role: Role,
    /// Whether it is gzip-compressed (kubelet's and logrotate's `….gz`).
    pub gzip: bool,
    /// True where a former file is followed only if the checkpoint knows it: rotated siblings of a
    /// statically configured file whose own path no pattern names.
    pub only_if_known: bool,
    /// With more names (hard links) than this it is refused, unless it is known. 0: any number.
    pub max_links: u32,
}

/// What one directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Directories below it that can hold logs and want watching and listing too.
    pub directories: Vec<PathBuf>,
    /// Directories elsewhere an entry of which may change so that its links lead to something else: to be
    /// watched, and this directory listed again then. They need not be listed.
    pub ways: Vec<PathBuf>,
    /// Files in it (or linked from it) that can hold lines.
    pub files: Vec<Found>,
    /// What could not be looked at, said in full (what, where, why, what to do).
    pub problems: Vec<String>,
    /// Nothing was seen, or not all that belongs to it, for there was no descriptor to look with.
    pub shortage: Option<io::Error>,
}
