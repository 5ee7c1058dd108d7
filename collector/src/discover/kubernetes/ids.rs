//! Which container id a pod's log belongs to, as the links in the containers directory tell.
//!
//! Best effort: kubelet makes the link only after the container's start, and newer runtimes may
//! make none. Remembers one reading of the directory for as long as its time stamp proves it.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    descriptors,
    discover::names::Link,
    identity::{self, beneath},
};

/// A time stamp younger than this proves nothing: a second change may have got the same.
const SETTLED: Duration = Duration::from_millis(100);

/// The ids, as the links' names have them.
#[derive(Debug, Default)]
pub(super) struct Ids {
    reading: Mutex<Option<Reading>>,
    /// Why the directory could not be read, if it was for want of descriptors.
    shortage: Mutex<Option<io::Error>>,
}

/// What the links tell of one log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its container's id.
    Id(String),
    /// Nothing yet: its link may come.
    NotYet,
    /// Nothing yet: there is no directory of links, which may come.
    Nowhere,
    /// Nothing, and nothing is to be expected.
    Nothing,
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
    ) -> Told {
        let links = match self.links(containers) {
            Ok(links) => links,
            Err(error) if descriptors::is_shortage(&error) => {
                *self.shortage.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return Told::NotYet;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Told::Nowhere,
            // It says so itself when it is listed.
            Err(_unreadable) => return Told::Nothing,
        };
        if !Link::tells_id_of(namespace, pod, container) {
            // kubelet cuts it off.
            return Told::Nothing;
        }
        let beginning = format!("{pod}_{namespace}_{container}-");
        let first = links.partition_point(|name| **name < *beginning);
        let alike = links[first..].iter().take_while(|name| name.starts_with(&beginning));
        let named = alike.filter_map(|name| Some((containers.join(&**name), Link::parse(name)?)));
        // Another container's name may begin with this one's and a hyphen.
        let mut own = named.filter(|(_, link)| link.container.as_deref() == Some(container));
        let link = own.find(|(link, _)| {
            fs::read_link(link).is_ok_and(|target| last_three(&target).eq(last_three(log)))
        });
        link.map_or(Told::NotYet, |(_, link)| link.id.map_or(Told::Nothing, Told::Id))
    }

    /// Why ids could not be told since the last call, if descriptors were missing.
    pub(super) fn take_shortage(&self) -> Option<io::Error> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn links(&self, containers: &Path) -> io::Result<Arc<Links>> {
        let modified = u64::try_from(identity::look_at(containers)?.modified_ns).unwrap_or(0);
        let stamp = SystemTime::UNIX_EPOCH + Duration::from_nanos(modified);
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = reading.as_ref().filter(|reading| reading.stamp == stamp) {
            return Ok(Arc::clone(&reading.links));
        }
        let settled = stamp.elapsed().is_ok_and(|age| age > SETTLED);
        let links = read(containers)?;
        *reading = settled.then(|| Reading { stamp, links: Arc::clone(&links) });
        Ok(links)
    }
}

fn read(containers: &Path) -> io::Result<Arc<Links>> {
    let mut links = Vec::new();
    for entry in beneath::entries(containers)? {
        let name = entry?.file_name().to_str().ok().map(str::to_owned);
        links.extend(name.filter(|name| Link::parse(name).is_some()).map(String::into_boxed_str));
    }
    links.sort_unstable();
    Ok(links.into())
}

/// Pod directory, container directory, log: the same whatever lies before them.
fn last_three(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.iter().rev().take(3)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    const LOG: &str = "/var/log/pods/shop_cart_1/app/0.log";

    fn of(ids: &Ids, containers: &Path) -> Told {
        ids.of(containers, "shop", "cart", "app", Path::new(LOG))
    }

    #[test]
    fn a_link_that_is_not_there_may_come_and_so_may_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (ids, id) = (Ids::default(), "1".repeat(64));
        assert_eq!(of(&ids, &dir.path().join("missing")), Told::Nowhere);
        assert_eq!(of(&ids, dir.path()), Told::NotYet);
        let link = dir.path().join(format!("cart_shop_app-{id}.log"));
        std::os::unix::fs::symlink(LOG, link).unwrap();
        assert_eq!(of(&ids, dir.path()), Told::Id(id));
        assert!(ids.take_shortage().is_none());
    }

    #[test]
    fn want_of_descriptors_is_told_and_not_remembered_as_an_answer() {
        const CHILD: &str = "EVERYLINE_TEST_WITHOUT_DESCRIPTORS";
        if std::env::var_os(CHILD).is_none() {
            // In a process of its own: the limit is the whole process's.
            let name = "want_of_descriptors_is_told_and_not_remembered_as_an_answer";
            let mut child = Command::new(std::env::current_exe().unwrap());
            let child =
                child.arg(format!("{}::{name}", module_path!().split_once("::").unwrap().1));
            assert!(child.arg("--exact").env(CHILD, "1").status().unwrap().success());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (ids, id) = (Ids::default(), "1".repeat(64));
        let link = dir.path().join(format!("cart_shop_app-{id}.log"));
        std::os::unix::fs::symlink(LOG, link).unwrap();
        // Its time stamp is old enough to be relied on.
        std::thread::sleep(SETTLED * 2);
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
        assert_eq!(of(&ids, dir.path()), Told::NotYet);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert!(ids.take_shortage().is_some_and(|error| descriptors::is_shortage(&error)));
        assert_eq!(of(&ids, dir.path()), Told::Id(id));
        assert!(ids.take_shortage().is_none());
    }
}
