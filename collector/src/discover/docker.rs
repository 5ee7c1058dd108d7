//! Docker: `CONTAINERS/ID/ID-json.log` and what the container's configuration says of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

mod about;
mod compose;
mod facts;
mod kubelet;

use about::About;
use facts::{Facts, Trouble};
use kubelet::Member;

use super::{
    DiscoverError, Found, Listing, Look,
    entries::Kind,
    family,
    filter::{Selection, Subject},
    names,
};
use crate::{
    config,
    source::{Format, Known, Schema, Source},
};

/// Docker's logs as configured.
#[derive(Debug)]
pub(super) struct Docker {
    containers: PathBuf,
    max_links: u32,
    selection: Selection,
    /// Of containers that Kubernetes started.
    in_pods: Schema,
    /// Of all others.
    standalone: Schema,
}

/// The container's id, of a path that is laid out so.
pub(super) fn id_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent()?.file_name()?.to_str()?;
    name.strip_suffix("-json.log").filter(|id| directory == *id)
}

/// Whether the log in Docker's directory of a container may be that of a container of the pod, as far as Docker
/// tells.
pub(super) fn may_be_of_pod(directory: &Path, namespace: &str, pod: &str) -> bool {
    match Facts::read(&directory.join("config.v2.json")) {
        Ok(facts) => facts.name.is_none_or(|name| kubelet::is_named_for(&name, namespace, pod)),
        Err(trouble) => matches!(trouble, Trouble::Missing),
    }
}

impl Docker {
    pub(super) fn new(config: &config::Docker, node: &str) -> Result<Self, DiscoverError> {
        Ok(Self {
            containers: config.containers_dir.clone(),
            max_links: config.max_links,
            selection: Selection::new("sources.docker", &config.include, &config.exclude)?,
            in_pods: schema(("k8s.node.name", node)),
            standalone: schema(("host.name", node)),
        })
    }

    /// The configured directory.
    pub(super) fn base(&self) -> &Path {
        &self.containers
    }

    /// How many names its files may have.
    pub(super) fn bound_links(&self, files: &mut [Found]) {
        files.iter_mut().for_each(|found| found.max_links = self.max_links);
    }

    /// Whether a real path of the host lies in it.
    pub(super) fn holds(&self, look: &Look<'_>, path: &Path) -> bool {
        look.real(&self.containers).is_some_and(|base| path.starts_with(base))
    }

    /// Adds what the directory holds of Docker; false if it has nothing to do with it.
    pub(super) fn list(&self, look: &Look<'_>, listing: &mut Listing) -> bool {
        let Some(base) = look.real(&self.containers) else { return false };
        let Ok(below) = look.here.strip_prefix(base) else { return false };
        let parts: Vec<_> = below.iter().map(|part| part.to_str()).collect();
        match parts[..] {
            [] => list_containers(look, listing),
            [Some(id)] if names::is_id(id) => self.list_logs(look, id, listing),
            _ => {}
        }
        true
    }

    fn list_logs(&self, look: &Look<'_>, id: &str, listing: &mut Listing) {
        let live = format!("{id}-json.log");
        let (mut problem, mut shortage, mut pretends) = (None, None, false);
        family::collect(look.directory, look.entries, listing, |name| {
            if name != live {
                return None;
            }
            let (about, trouble) = About::read(look.directory, id);
            let known = if trouble.is_none() { Known::All } else { Known::Part };
            match trouble {
                Some(Trouble::Shortage(error)) => shortage = Some(error),
                Some(Trouble::Unusable(why)) => {
                    problem = Some((look.here.join("config.v2.json"), why));
                }
                Some(Trouble::Missing) | None => {}
            }
            pretends = about.pretends;
            self.source(look, id, (about, known), &self.containers.join(id).join(name))
        });
        listing.shortage = shortage.or(listing.shortage.take());
        listing.problems.extend(problem.map(|(path, trouble)| {
            format!(
                "What Docker says of a container in {path:?} cannot be used, so its log carries \
                 the container's id and no name: {trouble}."
            )
        }));
        // Of none in particular: whoever starts containers could fill memory and log.
        listing.problems.extend(pretends.then(|| {
            format!(
                "A container in {:?} says by its labels that it belongs to a pod, but kubelet did not make it: \
                 its name or its sandbox says otherwise. The labels are not believed, and its log is \
                 collected as that of any container; there may be more like it.",
                self.containers
            )
        }));
    }

    fn source(
        &self,
        look: &Look<'_>,
        id: &str,
        (about, known): (About, Known),
        path: &Path,
    ) -> Option<Arc<Source>> {
        let About { name, member, .. } = &about;
        let member = member.as_ref();
        let (namespace, pod) = (member.map(|it| &*it.namespace), member.map(|it| &*it.pod));
        let container = member.map(|it| &*it.container);
        let called = [container.or(name.as_deref()), Some(id)];
        let subject = Subject { namespace, pod, container: called, path };
        if is_own(look, id, member) {
            look.left_out.container(left_out(id));
            return None;
        }
        if !self.selection.admits(subject) {
            return None;
        }
        let schema = if pod.is_some() { &self.in_pods } else { &self.standalone };
        let restarts = member.map(|it| it.restarts.to_string());
        let file = look.directory.join(format!("{id}-json.log"));
        let values = [
            namespace,
            pod,
            member.map(|it| &*it.uid).filter(|uid| names::is_uid(uid)),
            container,
            restarts.as_deref(),
            name.as_deref(),
            Some(id),
            about.image.as_deref(),
            about.compose_project.as_deref(),
            about.compose_service.as_deref(),
            Some(&path.to_string_lossy()),
        ];
        let attributes = schema.attributes(&file, &values);
        let (path, format) = (file.into(), Format::DockerJson);
        Some(Arc::new(Source { path, format, attributes, known, owned: 0 }))
    }
}

/// Whether the agent runs in the container, or ran there, or in another one of the pod. What the container says
/// of itself counts only where kubelet said it.
fn is_own(look: &Look<'_>, id: &str, member: Option<&Member>) -> bool {
    look.own.is_container(id)
        || member.is_some_and(|member| {
            let Member { namespace, pod, uid, sandbox, .. } = member;
            look.own.is_container(sandbox) || look.own.is_pod(namespace, pod, Some(uid))
        })
}

/// What it is called among what is left out.
fn left_out(id: &str) -> String {
    format!("container {id}")
}

fn schema((node_key, node): (&str, &str)) -> Schema {
    Schema::new([
        ("k8s.namespace.name", None),
        ("k8s.pod.name", None),
        ("k8s.pod.uid", None),
        ("k8s.container.name", None),
        ("k8s.container.restart_count", None),
        ("container.name", None),
        ("container.id", None),
        ("container.image.name", None),
        ("docker.compose.project", None),
        ("docker.compose.service", None),
        (node_key, Some(node)),
        ("log.file.path", None),
    ])
}

fn list_containers(look: &Look<'_>, listing: &mut Listing) {
    let (mut refused, mut own) = (None, Vec::new());
    for entry in look.entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        match entry.name.to_str().filter(|id| names::is_id(id)) {
            Some(id) if look.own.is_container(id) => own.push(left_out(id)),
            Some(id) => {
                listing.directories.push(look.directory.join(id));
                own.extend(Some(left_out(id)).filter(|id| look.left_out.has_container(id)));
            }
            None => {
                refused.get_or_insert(&entry.name);
            }
        }
    }
    look.left_out.containers(own);
    listing.problems.extend(refused.map(|name| {
        format!(
            "{:?} is not named as Docker would (a container's id), so its log is not collected; \
             there may be more like it beside it.",
            look.here.join(name)
        )
    }));
}
