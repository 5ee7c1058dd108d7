//! Docker: `CONTAINERS/ID/ID-json.log` and what the container's configuration says of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

mod about;

use about::{About, Trouble};

use super::{
    DiscoverError, Format, Known, Listing, Look, Schema, Source,
    entries::Kind,
    family,
    filter::{Selection, Subject},
    kubernetes,
};
use crate::config;

/// Docker's logs as configured.
#[derive(Debug)]
pub(super) struct Docker {
    containers: PathBuf,
    selection: Selection,
    /// Of containers that Kubernetes started.
    in_pods: Schema,
    /// Of all others.
    standalone: Schema,
}

/// Whether a path is laid out as Docker's `ID/ID-json.log`.
pub(super) fn is_log(path: &Path) -> bool {
    id_of(path).is_some()
}

/// The container's id, of a path that is laid out so.
pub(super) fn id_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent()?.file_name()?.to_str()?;
    name.strip_suffix("-json.log").filter(|id| directory == *id)
}

impl Docker {
    pub(super) fn new(config: &config::Docker, node: &str) -> Result<Self, DiscoverError> {
        Ok(Self {
            containers: config.containers_dir.clone(),
            selection: Selection::new("sources.docker", &config.include, &config.exclude)?,
            in_pods: schema(("k8s.node.name", node)),
            standalone: schema(("host.name", node)),
        })
    }

    /// The configured directory.
    pub(super) fn base(&self) -> &Path {
        &self.containers
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
            [Some(id)] if kubernetes::is_id(id) => self.list_logs(look, id, listing),
            _ => {}
        }
        true
    }

    fn list_logs(&self, look: &Look<'_>, id: &str, listing: &mut Listing) {
        let live = format!("{id}-json.log");
        let (mut problem, mut shortage) = (None, None);
        family::collect(look.directory, look.entries, listing, |name| {
            if name != live {
                return None;
            }
            let (about, trouble) = About::read(&look.directory.join("config.v2.json"));
            let known = if trouble.is_none() { Known::All } else { Known::Part };
            match trouble {
                Some(Trouble::Shortage(error)) => shortage = Some(error),
                Some(Trouble::Unusable(why)) => {
                    problem = Some((look.here.join("config.v2.json"), why));
                }
                Some(Trouble::Missing) | None => {}
            }
            self.source(look, id, (about, known), &self.containers.join(id).join(name))
        });
        listing.shortage = shortage.or(listing.shortage.take());
        listing.problems.extend(problem.map(|(path, trouble)| {
            format!(
                "What Docker says of a container in {path:?} cannot be used, so its log carries \
                 the container's id and no name: {trouble}."
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
        let About { name, namespace, pod, container, .. } = &about;
        let subject = Subject {
            namespace: namespace.as_deref(),
            pod: pod.as_deref(),
            container: [container.as_deref().or(name.as_deref()), Some(id)],
            path,
        };
        let own = look.own.is_container(id)
            || namespace.as_deref().zip(pod.as_deref()).is_some_and(|(namespace, pod)| {
                look.own.is_pod(namespace, pod, about.uid.as_deref())
            });
        if own || !self.selection.admits(subject) {
            return None;
        }
        let schema = if pod.is_some() { &self.in_pods } else { &self.standalone };
        let file = look.directory.join(format!("{id}-json.log"));
        let values = [
            namespace.as_deref(),
            pod.as_deref(),
            about.uid.as_deref().filter(|uid| kubernetes::is_uid(uid)),
            container.as_deref(),
            about.restarts.as_deref(),
            name.as_deref(),
            Some(id),
            about.image.as_deref(),
            about.compose_project.as_deref(),
            about.compose_service.as_deref(),
            Some(&path.to_string_lossy()),
        ];
        let attributes = schema.attributes(&file, &values);
        let (path, format) = (file.into(), Format::DockerJson);
        Some(Arc::new(Source { path, format, attributes, known }))
    }
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
        match entry.name.to_str().filter(|id| kubernetes::is_id(id)) {
            Some(id) if look.own.is_container(id) => own.push(format!("container {id}")),
            Some(id) => listing.directories.push(look.directory.join(id)),
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
