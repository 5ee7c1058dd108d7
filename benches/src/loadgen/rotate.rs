//! Rotation as the kubelet does it (and Docker, by number).
//!
//! In the kubelet's order (`pkg/kubelet/logs/container_log_manager.go`): remove what is too much,
//! compress everything rotated before (to `.tmp`, renamed to `.gz`, then the original removed),
//! rename the live file to `….YYYYMMDD-HHMMSS`. The caller then opens a new live file, as the
//! runtime does when it is told to reopen.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};

use crate::framing::Format;

/// Rotates one log.
#[derive(Debug)]
pub struct Rotator {
    live: PathBuf,
    format: Format,
    /// Rotated files to keep; 0: all.
    keep: usize,
    compress: bool,
    /// The last rotation's second: names must differ and sort.
    last: i64,
}

impl Rotator {
    /// For the log whose live file is `live`.
    pub fn new(live: PathBuf, format: Format, keep: usize, compress: bool) -> Self {
        Self { live, format, keep, compress, last: 0 }
    }

    /// The live file's path.
    pub fn live(&self) -> &Path {
        &self.live
    }

    /// Moves the live file away. The writer's descriptor still points at it.
    pub fn rotate(&mut self) -> Result<()> {
        let rotated = match self.format {
            Format::Cri => self.by_date(),
            Format::Docker => self.by_number(),
        };
        rotated.with_context(|| format!("Rotating {}", self.live.display()))
    }

    fn by_date(&mut self) -> io::Result<()> {
        let rotated = self.rotated()?;
        let excess = match self.keep {
            0 => 0,
            keep => (rotated.len() + 1).saturating_sub(keep),
        };
        for path in &rotated[..excess] {
            fs::remove_file(path)?;
        }
        if self.compress {
            let plain = |path: &&PathBuf| path.extension().is_none_or(|name| name != "gz");
            rotated[excess..].iter().filter(plain).try_for_each(|path| compress(path))?;
        }
        self.last = jiff::Timestamp::now().as_second().max(self.last + 1);
        let time = jiff::Timestamp::from_second(self.last).unwrap_or_default();
        let name = self.with_suffix(&time.strftime("%Y%m%d-%H%M%S").to_string());
        fs::rename(&self.live, name)
    }

    fn by_number(&self) -> io::Result<()> {
        let count = self.rotated()?.len();
        for number in (1..=count).rev() {
            let old = self.with_suffix(&number.to_string());
            if self.keep > 0 && number >= self.keep {
                fs::remove_file(old)?;
            } else {
                fs::rename(old, self.with_suffix(&(number + 1).to_string()))?;
            }
        }
        fs::rename(&self.live, self.with_suffix("1"))
    }

    /// Rotated files, oldest first where names carry dates.
    fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(dir), Some(name)) = (self.live.parent(), self.live.file_name()) else {
            return Ok(Vec::new());
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut path = self.live.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }
}

/// `PATH` to `PATH.gz`, never half visible under that name.
pub fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(&name);
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::fast());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    fs::rename(&temporary, name)?;
    fs::remove_file(path)
}
