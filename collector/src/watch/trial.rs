//! A trial of the watcher: what would watch what, without an agent.
//!
//! It is the agent's own watcher, with programs and an inotify instance of its own: it touches no
//! other's, pins nothing and leaves nothing behind. It waits for nothing and tells no events.

use std::{ffi::OsStr, fs::File, io, path::Path, sync::Arc, time::Duration};

use slotmap::{Key, SlotMap};

use super::{
    Combined, DirToken, FileToken, HookReport, Inotify, Kernel, LoadError, Mode, Waker, Watcher,
};
use crate::{
    config::{Config, WatchMode},
    identity::FileId,
    metrics::Metrics,
};

/// See the module.
pub struct Trial {
    /// Every filesystem's hooks, whether or not the configuration wants them.
    pub hooks: Result<Vec<HookReport>, LoadError>,
    /// Whether an inotify instance is to be had.
    pub inotify: io::Result<()>,
    watcher: Combined,
    directories: SlotMap<DirToken, ()>,
    files: SlotMap<FileToken, ()>,
}

impl Trial {
    /// Loads the programs and makes an inotify instance. Fails only where the process has no
    /// descriptor left.
    pub fn new(config: &Config) -> io::Result<Self> {
        let mode = config.watch.mode;
        let (kernel, hooks) = match Kernel::on_trial(&config.watch.kernel) {
            Ok((kernel, hooks)) => (Some(kernel), Ok(hooks)),
            Err(error) => (None, Err(error)),
        };
        let kernel = kernel.filter(|_| matches!(mode, WatchMode::Auto | WatchMode::Kernel));
        let (inotify, refused) = match Inotify::new() {
            Ok(inotify) => (Some(inotify), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let inotify = inotify.filter(|_| mode != WatchMode::Poll);
        let metrics = Arc::new(Metrics::new());
        let watcher = Combined::new(config, kernel, inotify, None, Waker::new()?, metrics);
        let (directories, files) = (SlotMap::with_key(), SlotMap::with_key());
        Ok(Self { hooks, inotify: refused, watcher, directories, files })
    }

    /// Watches a directory.
    ///
    /// # Errors
    /// It cannot be watched at all.
    pub fn directory(&mut self, path: &Path) -> io::Result<(DirToken, Mode)> {
        let token = self.directories.insert(());
        Ok((token, self.watcher.watch_directory(token, &path.into())?))
    }

    /// Watches a file that is called `name` in a watched directory.
    pub fn file(&mut self, directory: DirToken, name: &OsStr, file: &Arc<File>) -> FileToken {
        let token = self.files.insert(());
        let id = FileId(token.data().as_ffi());
        // Only the watch itself is tried: the bell is nobody's.
        let _bell = self.watcher.watch_file(token, directory, name, Some(file), id.into());
        token
    }

    /// Enters every file that was watched since the last time.
    ///
    /// # Errors
    /// As `poll(2)`.
    pub fn settle(&mut self) -> io::Result<()> {
        self.watcher.wait(Duration::ZERO, &mut Vec::new())
    }

    /// How a file is watched, once settled.
    pub fn mode(&self, file: FileToken) -> Mode {
        self.watcher.mode_of(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode_under(watch: &str) -> (Mode, Mode) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "").unwrap();
        let config = Config::parse(&format!("watch: {{mode: {watch}}}"), "t").unwrap();
        let mut trial = Trial::new(&config).unwrap();
        let (directory, of_directory) = trial.directory(dir.path()).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        let file = trial.file(directory, OsStr::new("0.log"), &file);
        trial.settle().unwrap();
        (of_directory, trial.mode(file))
    }

    #[test]
    fn a_trial_watches_as_the_agent_would() {
        assert_eq!(mode_under("poll"), (Mode::Poll, Mode::Poll));
        assert_eq!(mode_under("inotify"), (Mode::Inotify, Mode::Inotify));
        if crate::watch::kernel::is_available() {
            assert_eq!(mode_under("auto"), (Mode::Kernel, Mode::Kernel));
        }
    }
}
