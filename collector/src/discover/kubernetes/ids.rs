//! Which container id a pod's log belongs to, as the links in the containers directory tell.
//!
//! Best effort: kubelet makes the link only after the container's start, and newer runtimes may
//! make none. Remembers one reading of the directory for as long as its time stamp proves it.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::names::Link;

/// A time stamp younger than this proves nothing: a second change may have got the same.
const SETTLED: Duration = Duration::from_millis(100);

/// The ids, as the links' names have them.
#[derive(Debug, Default)]
pub(super) struct Ids {
    reading: Mutex<Option<Reading>>,
}

#[derive(Debug)]
struct Reading {
    stamp: SystemTime,
    links: Arc<Links>,
}

/// The links' names, sorted. Names begin with what is looked for, and one string each is little for
/// thousands of containers; there is one for each restart that kubelet still keeps.
type Links = [Box<str>];

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
        let beginning = format!("{pod}_{namespace}_{container}-");
        let first = links.partition_point(|name| **name < *beginning);
        let alike = links[first..].iter().take_while(|name| name.starts_with(&beginning));
        let named = alike.filter_map(|name| Some((containers.join(&**name), Link::parse(name)?)));
        // Another container's name may begin with this one's and a hyphen.
        let mut own = named.filter(|(_, link)| link.container == container);
        let (_, link) = own.find(|(link, _)| {
            fs::read_link(link).is_ok_and(|target| last_three(&target).eq(last_three(log)))
        })?;
        Some(link.id)
    }

    fn links(&self, containers: &Path) -> Option<Arc<Links>> {
        let stamp = fs::metadata(containers).ok()?.modified().ok()?;
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = reading.as_ref().filter(|reading| reading.stamp == stamp) {
            return Some(Arc::clone(&reading.links));
        }
        let settled = stamp.elapsed().is_ok_and(|age| age > SETTLED);
        let links = read(containers);
        *reading = settled.then(|| Reading { stamp, links: Arc::clone(&links) });
        Some(links)
    }
}

fn read(containers: &Path) -> Arc<Links> {
    let entries = fs::read_dir(containers).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let links = names.filter(|name| Link::parse(name).is_some()).map(String::into_boxed_str);
    let mut links: Vec<_> = links.collect();
    links.sort_unstable();
    links.into()
}

/// Pod directory, container directory, log: the same whatever lies before them.
fn last_three(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.iter().rev().take(3)
}
