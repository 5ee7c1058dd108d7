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
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::{Config, FollowLinks},
    identity::beneath,
};

mod aliases;
mod docker;
mod entries;
mod error;
mod family;
mod files;
mod filter;
mod former;
mod found;
mod host;
mod kubernetes;
mod large;
mod linked;
mod listing;
mod look;
mod names;
mod node;
mod own;
mod tenants;
#[cfg(test)]
mod tests;
mod ways;

pub use error::DiscoverError;
#[cfg(feature = "fuzzing")]
pub(crate) use files::Pattern;
pub use found::{AgeKey, Found, Listing, Part, Role};
use look::{LeftOut, Look, TO_RUNTIMES};
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
    linked: linked::Linked,
    large: large::Large,
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
            linked: linked::Linked::default(),
            large: large::Large::default(),
        })
    }

    /// Takes over from the one before it, after a reload, what links may not take the place of.
    pub fn go_on_from(&self, former: &Self) {
        self.host.go_on_from(&former.host);
    }

    /// Many directories are listed in a row from now on, or were (false): what links lead to is looked up once
    /// for all.
    pub fn list_many(&self, begins: bool) {
        self.linked.row(begins);
    }

    /// A directory is listed again because something may have changed in it: what links lead to is looked up anew.
    pub fn list_anew(&self, directory: &Path) -> Listing {
        self.linked.forget();
        self.list(directory)
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
}
