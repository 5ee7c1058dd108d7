//! One look at everything that the configuration collects, each file watched as the agent would.
//!
//! Walks as the agent's first scan does, but recognises nobody: it opens files and reads none.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::filesystem;
use crate::{
    discover::{Discovery, Found},
    identity,
    watch::{DirToken, FileToken, Mode, Trial},
};

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Directories that are watched, those on the way to logs included.
    pub(super) directories: Vec<WatchedDirectory>,
    /// Files that are open and watched, by path.
    pub(super) files: Vec<WatchedFile>,
    /// Compressed former files: unpacked when they are found, and not watched.
    pub(super) compressed: usize,
    /// What cannot be collected, said in full.
    pub(super) problems: Vec<String>,
}

/// A directory and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchedDirectory {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    /// The filesystem's number.
    pub(super) magic: u64,
    /// Whether a file that is watched lies in it.
    pub(super) holds_files: bool,
}

/// A file and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct WatchedFile {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    pub(super) filesystem: String,
    /// The filesystem's number.
    #[serde(skip)]
    pub(super) magic: u64,
}

impl Survey {
    /// Lists, opens and watches everything; the files stay open as long as the trial lasts.
    ///
    /// # Errors
    /// The watcher cannot be waited for.
    pub(super) fn new(discovery: &Discovery, trial: &mut Trial) -> io::Result<Self> {
        let mut walk = Walk { trial, survey: Self::default(), tokens: HashMap::new() };
        let mut files = Vec::new();
        let mut queue: VecDeque<PathBuf> = discovery.roots().into();
        while let Some(path) = queue.pop_front() {
            if walk.tokens.contains_key(&path) || walk.watch(&path).is_none() {
                continue;
            }
            let listing = discovery.list(&path);
            walk.survey.problems.extend(listing.problems);
            queue.extend(listing.directories);
            files.extend(listing.files.iter().filter_map(|found| walk.open(found)));
        }
        walk.trial.settle()?;
        let Walk { trial, mut survey, .. } = walk;
        survey.files = files
            .into_iter()
            .map(|(path, token, magic)| {
                let (mode, filesystem) = (trial.mode(token), filesystem::name(magic));
                WatchedFile { path, mode, filesystem, magic }
            })
            .collect();
        survey.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(survey)
    }

    /// Whether a file that is collected lies on this filesystem.
    pub(super) fn lies_on(&self, magic: u64) -> bool {
        self.files.iter().any(|file| file.magic == magic)
    }
}

struct Walk<'a> {
    trial: &'a mut Trial,
    survey: Survey,
    /// By path; with the place in the survey.
    tokens: HashMap<PathBuf, Option<(DirToken, usize)>>,
}

impl Walk<'_> {
    /// Watches a directory, once; None if it is gone or cannot be watched.
    fn watch(&mut self, path: &Path) -> Option<(DirToken, usize)> {
        if let Some(known) = self.tokens.get(path) {
            return *known;
        }
        let watched = match self.trial.directory(path) {
            Ok((token, mode)) => {
                let magic = filesystem::number(path).unwrap_or_default();
                let directory =
                    WatchedDirectory { path: path.to_owned(), mode, magic, holds_files: false };
                self.survey.directories.push(directory);
                Some((token, self.survey.directories.len() - 1))
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.survey.problems.push(format!(
                        "The directory {path:?} cannot be watched: {error}. Check its permissions."
                    ));
                }
                None
            }
        };
        self.tokens.insert(path.to_owned(), watched);
        watched
    }

    /// Opens a file and watches it, if the agent would keep it open.
    fn open(&mut self, found: &Found) -> Option<(PathBuf, FileToken, u64)> {
        if found.gzip {
            self.survey.compressed += 1;
            return None;
        }
        if found.only_if_known {
            return None;
        }
        let file = match identity::open(&found.path) {
            Ok((file, _look)) => Arc::new(file),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.survey.problems.push(unreadable(&found.path, &error));
                }
                return None;
            }
        };
        let (directory, at) = self.watch(found.path.parent()?)?;
        self.survey.directories[at].holds_files = true;
        let token = self.trial.file(directory, found.path.file_name()?, &file);
        Some((found.path.clone(), token, number(&file)))
    }
}

fn number(file: &File) -> u64 {
    rustix::fs::fstatfs(file).map_or(0, |about| u64::from(about.f_type as u32))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!(
        "The file {path:?} cannot be opened, so it is not collected: {error}. Let the agent read \
         it (as root, or with the capability DAC_READ_SEARCH)."
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::Config, discover::OwnOutputs};

    #[test]
    fn every_file_that_would_be_kept_open_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        let container = dir.path().join("var/log/pods/shop_web_0d7e/app");
        fs::create_dir_all(&container).unwrap();
        for name in ["0.log", "0.log.20260131-101112", "0.log.20260131-101011.gz"] {
            fs::write(container.join(name), "").unwrap();
        }
        // Of a former file that no pattern names nothing is read unless the checkpoint knows it.
        fs::write(dir.path().join("a.log"), "").unwrap();
        fs::write(dir.path().join("a.log.1"), "").unwrap();
        let text = format!(
            "host_root: {root}\nsources: {{files: [{{paths: ['/a.log']}}]}}\nwatch: {{mode: poll}}"
        );
        let config = Config::parse(&text, "t").unwrap();
        let discovery = Discovery::new(&config, &OwnOutputs::default()).unwrap();
        let survey = Survey::new(&discovery, &mut Trial::new(&config).unwrap()).unwrap();
        let files: Vec<_> = survey.files.iter().map(|file| file.path.as_path()).collect();
        assert_eq!(
            files,
            [
                dir.path().join("a.log"),
                container.join("0.log"),
                container.join("0.log.20260131-101112")
            ]
        );
        assert!(survey.files.iter().all(|file| file.mode == Mode::Poll));
        assert_eq!((survey.compressed, survey.problems.len()), (1, 0));
        let holding = survey.directories.iter().filter(|it| it.holds_files).count();
        assert_eq!(holding, 2, "{survey:?}");
    }
}
