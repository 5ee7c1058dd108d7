//! Other sources, while the agent runs: what is no longer wanted is let go, what is new is found.
//!
//! What is no longer wanted is told from paths and the two configurations, not from what lies on disk at
//! this moment: a log that goes away while it is looked for was not excluded, and is read to its end as
//! ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

use super::Registry;
use crate::{
    discover::Discovery,
    identity::beneath,
    messages::{self, Kind},
    read::reader::Message,
};

/// Paths of sources.
type Sources = BTreeSet<Arc<Path>>;

impl Registry {
    /// Looks for logs as configured anew.
    pub(super) fn change_sources(&mut self, discovery: Discovery) {
        discovery.go_on_from(&self.setup.discovery);
        let former = std::mem::replace(&mut self.setup.discovery, discovery);
        self.problems.clear();
        self.exclude(former);
        self.look_anew();
        let found = self.list_roots();
        self.place(found);
        for token in self.directories.tokens() {
            self.relist(token);
        }
    }

    /// Has the readers leave what is not wanted any more, and take up what is wanted again. `former`:
    /// how logs were looked for before.
    pub(super) fn exclude(&mut self, former: Discovery) {
        let known: Sources = self.sources.keys().cloned().collect();
        let changed = excluded(&former, &self.setup.discovery, &known);
        let changed = changed.and_then(|gone| {
            let back = wanted(&self.setup.discovery, &self.excluded.iter().cloned().collect())?;
            Ok((gone, back))
        });
        let (gone, back) = match changed {
            Ok(changed) => changed,
            Err(error) => {
                self.complain(Path::new(""), format!(
                    "Which logs are no longer to be collected cannot be told at the moment: {error}. They are collected until then; it is tried again."
                ));
                self.former.get_or_insert(Box::new(former));
                return;
            }
        };
        for path in gone.iter().filter(|path| !back.contains(*path)) {
            if self.excluded.insert(Arc::clone(path)) {
                if let Some(unsaid) = messages::admit(Kind::LeftOut, path) {
                    tracing::info!(path = %path.display(), "A log is no longer collected, as configured.{unsaid}");
                }
                self.send(path, |tail| Message::Exclude(tail, true));
            }
        }
        for path in &back {
            self.excluded.remove(path);
            self.send(path, |tail| Message::Exclude(tail, false));
        }
        if !back.is_empty() {
            self.look_at_dormant();
        }
    }

    /// Tries again what could not be told.
    pub(super) fn exclude_later(&mut self) {
        if let Some(former) = self.former.take() {
            self.exclude(*former);
        }
    }
}

/// Those of `known` that `former` would find, and `next` would not.
///
/// # Errors
/// There is no descriptor to look with.
fn excluded(former: &Discovery, next: &Discovery, known: &Sources) -> io::Result<Sources> {
    let unwanted: Sources = &wanted(former, known)? - &wanted(next, known)?;
    // What leads to a log (a link, what Docker says of a container, a directory above) may have gone
    // between the two answers: then the former configuration does not find it any more either.
    let mut still = wanted(former, &unwanted)?;
    still.retain(|path| path.parent().is_some_and(beneath::is_directory));
    Ok(still)
}

/// Those that would be found if their live files were there.
fn wanted(discovery: &Discovery, sources: &Sources) -> io::Result<Sources> {
    let mut directories: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for path in sources {
        let Some(directory) = path.parent() else { continue };
        directories.entry(directory).or_default().push(path);
    }
    let mut found = Sources::new();
    for (directory, live) in directories {
        let files = discovery.would_find_all(directory, &live)?;
        found.extend(files.into_iter().map(|file| Arc::clone(&file.source.path)));
    }
    found.retain(|path| sources.contains(path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::Config, discover::OwnOutputs};

    fn discovery(root: &Path, extra: &str) -> Discovery {
        let root = root.display();
        let text = format!(
            "sources:\n  kubernetes: {{pods_dir: {root}/pods, containers_dir: {root}/containers{extra}}}\n  \
             docker: {{containers_dir: {root}/docker}}\n  files: [{{paths: ['{root}/plain/*.log']}}]\n"
        );
        Discovery::new(&Config::parse(&text, "test").unwrap(), &OwnOutputs::default()).unwrap()
    }

    /// The names of the excluded ones' directories, once `change` was made and `known` are collected.
    fn gone(next: &str, known: &[&str], missing: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        for path in known {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir_all(dir.path().join("docker").join(&id)).unwrap();
        let (before, after) = (discovery(dir.path(), ""), discovery(dir.path(), next));
        for path in missing {
            let path = dir.path().join(path);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        let known = known.iter().map(|path| Arc::from(dir.path().join(path))).collect();
        let found = excluded(&before, &after, &known).unwrap();
        let name = |path: &Arc<Path>| path.strip_prefix(dir.path()).unwrap().display().to_string();
        found.iter().map(name).collect()
    }

    const POD: &str = "pods/shop_a_uid-a/main/0.log";
    const OTHER: &str = "pods/shop_b_uid-b/main/0.log";
    const NOT_B: &str = ", exclude: {pods: [b]}";

    #[test]
    fn what_is_excluded_is_told_whether_or_not_its_file_is_there() {
        for missing in [&[][..], &[POD], &[OTHER], &[POD, OTHER], &["pods/shop_a_uid-a"]] {
            assert_eq!(gone(NOT_B, &[POD, OTHER, "plain/x.log"], missing), [OTHER], "{missing:?}");
        }
    }

    #[test]
    fn what_goes_away_is_not_excluded() {
        let all = [POD, OTHER, "plain/x.log"];
        for missing in [&all[..], &["pods"], &["plain"], &["pods/shop_b_uid-b", "plain"]] {
            assert!(gone("", &all, missing).is_empty(), "{missing:?}");
        }
        assert!(gone(NOT_B, &all, &["pods/shop_b_uid-b"]).is_empty());
    }
}
