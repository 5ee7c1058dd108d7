//! Kubernetes: kubelet's pod log directory, and the older links beside it.
//!
//! `PODS/NAMESPACE_POD_UID/CONTAINER/N.log`; every N is a source of its own. Where an entry is
//! itself a link (dockershim, cri-dockerd), `links` takes it on.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

mod ids;
mod links;

use super::{
    DiscoverError, Listing, Look,
    docker::Docker,
    entries::Kind,
    family,
    filter::{Selection, Subject},
    names::{PodDirectory, is_container, is_uid, restart_count},
};
use crate::{
    config,
    identity::beneath,
    source::{Format, Known, Schema, Source},
};
use ids::Told;

/// Root's number.
const ROOT: u32 = 0;

/// Kubernetes' logs as configured.
#[derive(Debug)]
pub(super) struct Kubernetes {
    pods: PathBuf,
    containers: PathBuf,
    /// Where Docker's logs lie, whether they are looked for or not.
    runtime: PathBuf,
    max_links: u32,
    selection: Selection,
    schema: Schema,
    ids: ids::Ids,
    wait_for_id: Duration,
}

/// Whose a log is, as far as names tell.
#[derive(Debug, Clone)]
struct Owner {
    namespace: String,
    pod: String,
    uid: Option<String>,
    container: Option<String>,
    restarts: Option<u32>,
    id: Option<String>,
    /// Whether that is all that will be told.
    known: Known,
}

impl Kubernetes {
    /// `runtime`: where Docker's logs lie; links lead nowhere else.
    pub(super) fn new(
        config: &config::Kubernetes,
        runtime: &Path,
        node: &str,
    ) -> Result<Self, DiscoverError> {
        Ok(Self {
            pods: config.pods_dir.clone(),
            containers: config.containers_dir.clone(),
            runtime: runtime.to_owned(),
            max_links: config.max_links,
            selection: Selection::new("sources.kubernetes", &config.include, &config.exclude)?,
            schema: Schema::new([
                ("k8s.namespace.name", None),
                ("k8s.pod.name", None),
                ("k8s.pod.uid", None),
                ("k8s.container.name", None),
                ("k8s.container.restart_count", None),
                ("container.id", None),
                ("k8s.node.name", Some(node)),
                ("log.file.path", None),
            ]),
            ids: ids::Ids::default(),
            wait_for_id: config.wait_for_id.0,
        })
    }

    /// The configured directories.
    pub(super) fn bases(&self) -> [&Path; 2] {
        [&self.pods, &self.containers]
    }

    /// How many names its files may have.
    pub(super) fn bound_links(&self, listing: &mut Listing) {
        listing.files.iter_mut().for_each(|found| found.max_links = self.max_links);
    }

    /// The namespace of a directory below a pod's, the pod's included.
    pub(super) fn owner(&self, host: &super::host::HostRoot, here: &Path) -> Option<String> {
        let pods = host.real_base(&self.pods, super::TO_RUNTIMES)?;
        let pod = here.strip_prefix(pods).ok()?.iter().next()?;
        Some(PodDirectory::parse(pod.to_str()?)?.namespace)
    }

    /// Whether this is the directory of the pods.
    pub(super) fn is_pods(&self, host: &super::host::HostRoot, here: &Path) -> bool {
        host.real_base(&self.pods, super::TO_RUNTIMES).is_some_and(|pods| *pods == *here)
    }

    /// The directory of the older links.
    pub(super) fn containers(&self) -> &Path {
        &self.containers
    }

    /// How long a new container's first lines wait for its id.
    pub(super) fn wait_for_id(&self) -> Duration {
        self.wait_for_id
    }

    /// Why ids could not be told since the last call, if descriptors were missing.
    pub(super) fn take_shortage(&self) -> Option<io::Error> {
        self.ids.take_shortage()
    }

    /// Whether a real path of the host lies in one of them.
    pub(super) fn holds(&self, look: &Look<'_>, path: &Path) -> bool {
        self.bases().iter().any(|base| look.real(base).is_some_and(|base| path.starts_with(base)))
    }

    /// Adds what the directory holds of Kubernetes; false if it has nothing to do with it.
    pub(super) fn list(
        &self,
        look: &Look<'_>,
        docker: Option<&Docker>,
        listing: &mut Listing,
    ) -> bool {
        if let Some(pods) = look.real(&self.pods)
            && let Ok(below) = look.here.strip_prefix(&pods)
        {
            let parts: Vec<_> = below.iter().map(|part| part.to_str()).collect();
            match parts[..] {
                [] => self.list_pods(look, listing),
                [Some(pod)] if !self.is_kubelets(look, look.directory) => {
                    listing.problems.extend(PodDirectory::parse(pod).map(|_| self.not_kubelets()));
                }
                [Some(pod)] => list_containers(look, pod, listing),
                [Some(_), Some(_)]
                    if look.directory.parent().is_some_and(|pod| !self.is_kubelets(look, pod)) => {}
                [Some(pod), Some(container)] => {
                    self.list_logs(look, pod, container, docker, listing);
                }
                // Deeper than kubelet writes, or not as it names.
                _ => {}
            }
            return true;
        }
        if look.real(&self.containers).is_some_and(|containers| containers == look.here) {
            self.list_links(look, docker, listing);
            return true;
        }
        false
    }

    fn list_pods(&self, look: &Look<'_>, listing: &mut Listing) {
        let (mut refused, mut own) = (None, Vec::new());
        for entry in look.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
            let Some(names) = entry.name.to_str().and_then(PodDirectory::parse) else {
                refused.get_or_insert(&entry.name);
                continue;
            };
            let PodDirectory { namespace, pod, uid } = &names;
            if look.own.is_pod(namespace, pod, Some(uid)) {
                own.push(format!("pod {namespace}/{pod}"));
            } else if self.selection.may_admit_pod(namespace, pod) {
                listing.directories.push(look.directory.join(&entry.name));
            }
        }
        look.left_out.pods(own);
        listing.problems.extend(refused.map(|name| {
            let form = "NAMESPACE_POD_UID";
            refusal(&look.here.join(name), form)
        }));
    }

    /// Whether a pod's directory may be kubelet's: its owner is root, or whoever owns what it lies in. Others' say
    /// nothing of whose the logs in them are.
    fn is_kubelets(&self, look: &Look<'_>, directory: &Path) -> bool {
        let owner = |path: &Path| beneath::stat(path).map(|about| about.stx_uid).ok();
        let Some(found) = owner(directory).filter(|found| *found != ROOT) else { return true };
        look.real(&self.pods).is_some_and(|pods| owner(&look.host.inside(&pods)) == Some(found))
    }

    fn not_kubelets(&self) -> String {
        format!(
            "A directory in {:?} is named like a pod's, but kubelet did not make it: it belongs to neither root \
             nor the owner of the directory it lies in. Its logs are not collected; there may be more \
             like it. If they are wanted, name them under sources.files.",
            self.pods
        )
    }

    fn list_logs(
        &self,
        look: &Look<'_>,
        pod: &str,
        container: &str,
        docker: Option<&Docker>,
        listing: &mut Listing,
    ) {
        let Some(pod) = PodDirectory::parse(pod).filter(|_| is_container(container)) else {
            return;
        };
        let owner = |name: &str| self.owner_of_log(look, &pod, container, name);
        family::collect(look.directory, look.entries, listing, |name| {
            let owner = owner(name)?;
            self.source(look, &owner, &look.here.join(name), Format::Cri)
        });
        for entry in look.entries.iter().filter(|entry| entry.kind == Kind::Link) {
            if let Some(owner) = entry.name.to_str().and_then(owner) {
                self.list_target(look, &look.here.join(&entry.name), owner, docker, listing);
            }
        }
    }

    /// `None` if the name is not that of a live log.
    fn owner_of_log(
        &self,
        look: &Look<'_>,
        pod: &PodDirectory,
        container: &str,
        name: &str,
    ) -> Option<Owner> {
        let restarts = restart_count(name)?;
        let PodDirectory { namespace, pod, uid } = pod.clone();
        let log = look.here.join(name);
        let told = look.real(&self.containers).map_or(Told::Nowhere, |containers| {
            self.ids.of(&look.host.inside(&containers), &namespace, &pod, container, &log)
        });
        let (id, known) = match told {
            Told::Id(id) => (Some(id), Known::All),
            Told::NotYet => (None, Known::Soon),
            // Only that it is worth no wait.
            Told::Nowhere => (None, Known::Part),
            Told::Nothing => (None, Known::All),
        };
        let (uid, restarts) = (Some(uid), Some(restarts));
        let container = Some(container.to_owned());
        Some(Owner { namespace, pod, uid, container, restarts, id, known })
    }

    /// The source of a live log at a real path of the host, if it is wanted.
    fn source(
        &self,
        look: &Look<'_>,
        owner: &Owner,
        path: &Path,
        format: Format,
    ) -> Option<Arc<Source>> {
        let subject = Subject {
            namespace: Some(&owner.namespace),
            pod: Some(&owner.pod),
            container: [owner.container.as_deref(), None],
            path: &self.as_configured(look, path),
        };
        let own = look.own.is_pod(&owner.namespace, &owner.pod, owner.uid.as_deref());
        if own || !self.selection.admits(subject) {
            return None;
        }
        let restarts = owner.restarts.map(|count| count.to_string());
        let path = look.host.inside(path);
        let values = [
            Some(&*owner.namespace),
            Some(&*owner.pod),
            owner.uid.as_deref().filter(|uid| is_uid(uid)),
            owner.container.as_deref(),
            restarts.as_deref(),
            owner.id.as_deref(),
            Some(&subject.path.to_string_lossy()),
        ];
        let attributes = self.schema.attributes(&path, &values);
        Some(Arc::new(Source {
            path: path.into(),
            format,
            attributes,
            known: owner.known,
            owned: 0,
        }))
    }

    /// A real path as the operator knows it: below the configured directory, even if that is a
    /// link to another place.
    fn as_configured(&self, look: &Look<'_>, real: &Path) -> PathBuf {
        let below = |base: &Path| {
            let rest = real.strip_prefix(look.real(base)?).ok()?;
            Some(base.join(rest))
        };
        below(&self.pods).or_else(|| below(&self.containers)).unwrap_or_else(|| real.to_owned())
    }
}

fn list_containers(look: &Look<'_>, pod: &str, listing: &mut Listing) {
    if PodDirectory::parse(pod).is_none() {
        return;
    }
    let mut refused = None;
    for entry in look.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        if entry.name.to_str().is_some_and(is_container) {
            listing.directories.push(look.directory.join(&entry.name));
        } else {
            refused.get_or_insert(&entry.name);
        }
    }
    listing
        .problems
        .extend(refused.map(|name| refusal(&look.here.join(name), "a container's name")));
}

/// Of one name only, although there may be more: a text each would let whoever makes them fill
/// memory and log.
fn refusal(path: &Path, form: &str) -> String {
    format!(
        "{path:?} is not named as kubelet would ({form}), so its logs are not collected; there may \
         be more like it beside it. If they are wanted, name them under sources.files."
    )
}
