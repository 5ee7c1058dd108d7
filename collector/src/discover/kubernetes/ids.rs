//! Which container id a pod's log belongs to, as the links in the containers directory tell.
//!
//! Best effort: kubelet makes the link only after the container's start, and newer runtimes may
//! make none. Remembers one reading of the directory for as long as its time stamp proves it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::names::Link;

/// A time stamp younger than this proves nothing: a second change may have got the same.
const SETTLED: Duration = Duration::from_millis(100);

/// The ids, by (namespace, pod, container).
#[derive(Debug, Default)]
pub(super) struct Ids {
    reading: Mutex<Option<Reading>>,
}

#[derive(Debug)]
struct Reading {
    stamp: SystemTime,
    links: Arc<Links>,
}

/// (namespace, pod, container) → (id, the link's name), one for each restart kubelet still keeps.
type Links = HashMap<(String, String, String), Vec<(String, PathBuf)>>;

impl Ids {
    /// The id of the container whose log (`…/NAMESPACE_POD_UID/CONTAINER/N.log`) this is.
    pub(super) fn of(
        &self,
        containers: &Path,
        namespace: &str,
        pod: &str,
        container: &str,
        log: &Path,
    ) -> Option<String> {
        let links = self.links(containers)?;
        let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        let (id, _) = links.get(&key)?.iter().find(|(_, link)| {
            fs::read_link(link).is_ok_and(|target| last_three(&target).eq(last_three(log)))
        })?;
        Some(id.clone())
    }

    fn links(&self, containers: &Path) -> Option<Arc<Links>> {
        let stamp = fs::metadata(containers).ok()?.modified().ok()?;
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = reading.as_ref().filter(|reading| reading.stamp == stamp) {
            return Some(Arc::clone(&reading.links));
        }
        let settled = stamp.elapsed().is_ok_and(|age| age > SETTLED);
        let links = Arc::new(read(containers));
        *reading = settled.then(|| Reading { stamp, links: Arc::clone(&links) });
        Some(links)
    }
}

fn read(containers: &Path) -> Links {
    let mut links = Links::new();
    for entry in fs::read_dir(containers).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(link) = name.to_str().and_then(Link::parse) {
            let key = (link.namespace, link.pod, link.container);
            links.entry(key).or_default().push((link.id, entry.path()));
        }
    }
    links
}

/// Pod directory, container directory, log: the same whatever lies before them.
fn last_three(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.iter().rev().take(3)
}
