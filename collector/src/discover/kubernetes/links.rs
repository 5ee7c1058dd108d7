//! Logs that are reached through a link: older layouts, dockershim, cri-dockerd.
//!
//! A link is only followed to where a runtime's leads: to a container's log in Docker's own directory, and
//! only to the log of the very container that the link is in the place of, as far as Docker says whose it is. What
//! another listing finds anyway is left to that. So nothing is counted twice, and whoever may write into
//! the log directories can have nothing else collected, and nothing in another's name.

use std::path::{Path, PathBuf};

use super::{Kubernetes, Owner};
use crate::{
    discover::{
        Listing, Look,
        docker::{self, Docker},
        entries::{self, Kind, is_regular},
        family,
        names::{Link, PodDirectory, is_container, is_id},
    },
    source::{Format, Known},
};

/// What a link leads to.
enum Target {
    /// A log that is to be collected because of the link; its real path on the host.
    Log(PathBuf),
    /// Nothing (yet, any more), or what another listing finds.
    Nothing,
    /// What no runtime would link to, or another container's log.
    Strange(PathBuf),
}

impl Kubernetes {
    /// The containers directory: links, or plain log files named like them.
    pub(super) fn list_links(
        &self,
        look: &Look<'_>,
        docker: Option<&Docker>,
        listing: &mut Listing,
    ) {
        family::collect(look.directory, look.entries, listing, |name| {
            let owner = owner_of_link(name)?;
            self.source(look, &owner, &look.here.join(name), Format::Cri)
        });
        for entry in look.entries.iter().filter(|entry| entry.kind == Kind::Link) {
            if let Some(owner) = entry.name.to_str().and_then(owner_of_link) {
                self.list_target(look, &look.here.join(&entry.name), owner, docker, listing);
            }
        }
    }

    /// What a link leads to, and its former files beside it.
    pub(super) fn list_target(
        &self,
        look: &Look<'_>,
        link: &Path,
        owner: Owner,
        docker: Option<&Docker>,
        listing: &mut Listing,
    ) {
        match self.target(look, link, docker) {
            Target::Log(target) if is_foreign(look, &target, &owner) => {
                listing.problems.push(format!(
                    "The log {link:?} is a link to {target:?}, which is another container's log, so it is not \
                     collected."
                ));
            }
            Target::Log(target) => self.collect_target(look, &target, &owner, listing),
            Target::Nothing => {}
            Target::Strange(target) => listing.problems.push(format!(
                "The log {link:?} is a link to {target:?}, which is no container's log below {:?}, so it is not \
                 collected. If Docker keeps its logs elsewhere, set sources.docker.containers_dir; other files \
                 are named under sources.files.",
                self.runtime
            )),
        }
    }

    /// A directory that is known only because links lead into it.
    pub(in crate::discover) fn list_linked(
        &self,
        look: &Look<'_>,
        docker: Option<&Docker>,
        listing: &mut Listing,
    ) {
        // Their links lead nowhere else: every pod's directory would be looked through for nothing.
        let runtime = look.host.walk(&self.runtime);
        if look.here.parent() != Some(runtime.end.as_ref().map_or(&*self.runtime, |real| real)) {
            return;
        }
        for (link, owner) in self.all_links(look) {
            let Target::Log(target) = self.target(look, &link, docker) else { continue };
            if target.parent() == Some(look.here) && !is_foreign(look, &target, &owner) {
                self.collect_target(look, &target, &owner, listing);
            }
        }
    }

    fn collect_target(&self, look: &Look<'_>, target: &Path, owner: &Owner, listing: &mut Listing) {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return };
        let directory = look.host.inside(parent);
        // Docker's log has the whole id, also where the link's name was cut.
        let mut owner = owner.clone();
        if let Some(id) = docker::id_of(target).filter(|id| is_id(id)) {
            (owner.id, owner.known) = (Some(id.to_owned()), Known::All);
        }
        let Some(source) = self.source(look, &owner, target, Format::DockerJson) else { return };
        let Ok(entries) = entries::read(&directory) else { return };
        family::collect(&directory, &entries, listing, |live| {
            (name == live).then(|| source.clone())
        });
        listing.directories.push(directory);
    }

    fn target(&self, look: &Look<'_>, link: &Path, docker: Option<&Docker>) -> Target {
        let listed = |path: &Path| {
            self.holds(look, path) || docker.is_some_and(|docker| docker.holds(look, path))
        };
        let runtime = look.host.walk(&self.runtime);
        let root = runtime.end.as_ref().map_or(&*self.runtime, |real| real);
        let allowed = |path: &Path| {
            path.starts_with(root) || self.runtime.starts_with(path) || runtime.passes(path)
        };
        let walk = look.follow(link, listed, allowed);
        let Ok(target) = walk.end else { return Target::Nothing };
        let in_pods =
            |path: &Path| look.real(&self.pods).is_some_and(|pods| path.starts_with(pods));
        // Ends in, or passes through, the pods directory: found there (a link from there does not
        // count as passing through).
        let elsewhere = walk.links.iter().any(|passed| passed != link && in_pods(passed));
        if elsewhere || in_pods(&target) || docker.is_some_and(|it| it.holds(look, &target)) {
            return Target::Nothing;
        }
        let below = target.parent().and_then(Path::parent) == Some(root);
        let is_log = docker::id_of(&target).is_some_and(is_id);
        if below && is_log && is_regular(&look.host.inside(&target)) {
            Target::Log(target)
        } else {
            Target::Strange(target)
        }
    }

    /// Every link there is to a log, with what its own name says.
    fn all_links(&self, look: &Look<'_>) -> Vec<(PathBuf, Owner)> {
        let mut links = Vec::new();
        if let Some(containers) = look.real(&self.containers) {
            for (name, link) in names_of(look, &containers, Kind::Link) {
                links.extend(owner_of_link(&name).map(|owner| (link, owner)));
            }
        }
        let Some(pods) = look.real(&self.pods) else { return links };
        for (name, pod) in names_of(look, &pods, Kind::Directory) {
            let Some(names) = PodDirectory::parse(&name) else { continue };
            for (container, logs) in names_of(look, &pod, Kind::Directory) {
                if !is_container(&container) {
                    continue;
                }
                for (name, link) in names_of(look, &logs, Kind::Link) {
                    let here = Look { here: &logs, ..*look };
                    let owner = self.owner_of_log(&here, &names, &container, &name);
                    links.extend(owner.map(|owner| (link, owner)));
                }
            }
        }
        links
    }
}

/// Whether a log of Docker's is not the one that a link so named may lead to: whoever can make a link beside his own
/// logs could have another pod's collected as his.
fn is_foreign(look: &Look<'_>, target: &Path, owner: &Owner) -> bool {
    let other = owner.id.as_deref().zip(docker::id_of(target)).is_some_and(|(own, id)| own != id);
    let directory = look.host.inside(target.parent().unwrap_or(target));
    other || !docker::may_be_of_pod(&directory, &owner.namespace, &owner.pod)
}

/// Names and paths of a directory's entries of one kind.
fn names_of(look: &Look<'_>, directory: &Path, kind: Kind) -> Vec<(String, PathBuf)> {
    let entries = entries::read(&look.host.inside(directory)).unwrap_or_default();
    let named = entries.into_iter().filter(|entry| entry.kind == kind).filter_map(|entry| {
        let name = entry.name.into_string().ok()?;
        let path = directory.join(&name);
        Some((name, path))
    });
    named.collect()
}

fn owner_of_link(name: &str) -> Option<Owner> {
    let Link { namespace, pod, container, id } = Link::parse(name)?;
    let (uid, restarts, known) = (None, None, Known::All);
    Some(Owner { namespace, pod, uid, container, restarts, id, known })
}
