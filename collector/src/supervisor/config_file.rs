//! Notices that the configuration file changed: by its contents, whichever way they were changed
//! (written in place, an editor's rename, a ConfigMap's link that leads elsewhere).
//!
//! A look is a `stat`; the file is read only when that tells something new. Parses nothing.

use std::{
    env, fs,
    hash::BuildHasher,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use foldhash::fast::FixedState;

use crate::config::{DEFAULT_PATH, PATH_VARIABLE};

/// The configuration file under observation.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// At the last look.
    state: Option<State>,
    /// A hash of the contents that were loaded, or refused.
    known: Option<u64>,
    /// Since the last look it may have been something else.
    unsettled: bool,
}

/// Device, inode, size, and times of the last change of contents and of the inode.
type State = (u64, u64, u64, (i64, i64), (i64, i64));

impl ConfigFile {
    /// The file that [`crate::config::Config::load`] reads, as it is now. None: standard input.
    pub(super) fn new(path: Option<&Path>) -> Option<Self> {
        let named = path.map(Path::to_owned).or_else(|| {
            env::var_os(PATH_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
        });
        let path = named.unwrap_or_else(|| DEFAULT_PATH.into());
        if path == Path::new("-") {
            return None;
        }
        let mut file = Self { path, state: None, known: None, unsettled: false };
        file.note();
        Some(file)
    }

    /// It is as the agent knows it now.
    pub(super) fn note(&mut self) {
        self.state = state(&self.path);
        self.known = self.contents();
        self.unsettled = false;
    }

    /// Whether its contents are others than those that are known, and it was quiet since the last
    /// look. To be asked again and again.
    pub(super) fn has_changed(&mut self) -> bool {
        let state = state(&self.path);
        if state != self.state {
            // Somebody may be writing it: whoever looks next finds it whole.
            self.state = state;
            self.unsettled = true;
            return false;
        }
        if !std::mem::take(&mut self.unsettled) {
            return false;
        }
        // A file that is gone is no wish to change anything.
        match self.contents() {
            Some(contents) if self.known != Some(contents) => {
                self.known = Some(contents);
                true
            }
            Some(_) | None => false,
        }
    }

    fn contents(&self) -> Option<u64> {
        fs::read(&self.path).ok().map(|bytes| FixedState::default().hash_one(bytes))
    }
}

fn state(path: &Path) -> Option<State> {
    let about = fs::metadata(path).ok()?;
    let (modified, changed) =
        ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    Some((about.dev(), about.ino(), about.size(), modified, changed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Looks until it is settled; whether a change was told.
    fn told(file: &mut ConfigFile) -> bool {
        (0..3).filter(|_| file.has_changed()).count() == 1
    }

    #[test]
    fn a_change_is_told_once_however_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("everyline.yaml");
        fs::write(&path, "one").unwrap();
        let mut file = ConfigFile::new(Some(&path)).unwrap();
        assert!(!told(&mut file));
        fs::write(&path, "two, in place").unwrap();
        assert!(told(&mut file) && !told(&mut file));
        fs::write(dir.path().join("new"), "three, by rename").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(told(&mut file) && !told(&mut file));
        fs::write(&path, "three, by rename").unwrap();
        assert!(!told(&mut file), "nothing is different");
        fs::remove_file(&path).unwrap();
        assert!(!told(&mut file));
        fs::write(&path, "four").unwrap();
        assert!(told(&mut file));
    }

    #[test]
    fn a_file_that_is_being_written_is_left_until_it_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("everyline.yaml");
        fs::write(&path, "").unwrap();
        let mut file = ConfigFile::new(Some(&path)).unwrap();
        for length in 1..5 {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert!(!file.has_changed());
        }
        assert!(file.has_changed());
    }

    #[test]
    fn the_link_of_a_config_map_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("everyline.yaml"), text).unwrap();
        }
        symlink("..1", dir.path().join("..data")).unwrap();
        let path = dir.path().join("everyline.yaml");
        symlink("..data/everyline.yaml", &path).unwrap();
        let mut file = ConfigFile::new(Some(&path)).unwrap();
        symlink("..2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(told(&mut file));
    }
}
