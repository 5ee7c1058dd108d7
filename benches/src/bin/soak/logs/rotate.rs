//! How logs are rotated: as kubelet does it, as Docker does it, and in logrotate's ways.
//!
//! What compresses in place does so over several ticks, so that a half-written `.gz` is there to be
//! seen. Only moves files: what is written meanwhile is the log's business.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use benches::{
    framing::Format,
    loadgen::{Rotator, compress},
};
use flate2::{Compression, write::GzEncoder};

/// Whose habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Renamed to a date; what was rotated before is compressed to `.tmp` and renamed.
    Kubelet,
    /// Renamed to `.1`, compressed in place; older ones move up.
    Docker,
    /// logrotate with `create` and `compress`.
    Create,
    /// logrotate with `create`, `compress` and `delaycompress`; the program writes on to the former
    /// file until it is told.
    CreateDelayed,
    /// logrotate with `copytruncate` and `compress`.
    CopyTruncate,
    /// Removed; a new one is begun.
    Delete,
}

/// Rotated files that are kept.
const KEEP: usize = 4;

/// Rotates one log.
#[derive(Debug)]
pub(super) struct Rotation {
    style: Style,
    live: PathBuf,
    kubelet: Rotator,
    compressing: Option<InPlace>,
}

/// A compression whose target already has its final name.
#[derive(Debug)]
struct InPlace {
    from: PathBuf,
    source: File,
    encoder: GzEncoder<File>,
}

impl Rotation {
    /// Of the log whose live file is `live`.
    pub(super) fn new(style: Style, live: &Path) -> Self {
        let kubelet = Rotator::new(live.to_owned(), Format::Cri, KEEP, true);
        Self { style, live: live.to_owned(), kubelet, compressing: None }
    }

    /// Moves the live file away, or copies it where it is truncated afterwards.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        while self.step()? {}
        match self.style {
            Style::Kubelet => self.kubelet.rotate().map_err(io::Error::other),
            Style::Delete => fs::remove_file(&self.live),
            Style::CreateDelayed => {
                if self.former(1, false).exists() {
                    compress(&self.former(1, false))?;
                }
                self.move_up()?;
                fs::rename(&self.live, self.former(1, false))
            }
            Style::Docker | Style::Create => {
                self.move_up()?;
                fs::rename(&self.live, self.former(1, false))?;
                self.begin()
            }
            Style::CopyTruncate => {
                self.move_up()?;
                fs::copy(&self.live, self.former(1, false))?;
                self.begin()
            }
        }
    }

    /// Goes on with a compression in place; false if there is none.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        let Some(InPlace { source, encoder, .. }) = &mut self.compressing else {
            return Ok(false);
        };
        let mut piece = vec![0; 32 * 1024];
        let read = source.read(&mut piece)?;
        if read > 0 {
            encoder.write_all(&piece[..read])?;
            encoder.flush()?;
            return Ok(true);
        }
        if let Some(InPlace { from, encoder, .. }) = self.compressing.take() {
            encoder.finish()?;
            fs::remove_file(from)?;
        }
        Ok(false)
    }

    fn begin(&mut self) -> io::Result<()> {
        let from = self.former(1, false);
        let source = File::open(&from)?;
        let encoder = GzEncoder::new(File::create(self.former(1, true))?, Compression::fast());
        self.compressing = Some(InPlace { from, source, encoder });
        Ok(())
    }

    /// Makes room for a new `.1`.
    fn move_up(&self) -> io::Result<()> {
        for number in (1..=KEEP).rev() {
            let old = self.former(number, true);
            if !old.exists() {
                continue;
            }
            if number == KEEP {
                fs::remove_file(old)?;
            } else {
                fs::rename(old, self.former(number + 1, true))?;
            }
        }
        Ok(())
    }

    fn former(&self, number: usize, gzip: bool) -> PathBuf {
        let mut name = self.live.clone().into_os_string();
        name.push(format!(".{number}{}", if gzip { ".gz" } else { "" }));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn rotated(style: Style, times: u32) -> (tempfile::TempDir, Rotation) {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("app.log");
        let mut rotation = Rotation::new(style, &live);
        for number in 0..times {
            fs::write(&live, format!("{number}\n").repeat(20_000)).unwrap();
            rotation.rotate().unwrap();
        }
        (dir, rotation)
    }

    #[test]
    fn a_file_compressed_in_place_is_there_before_it_is_whole() {
        let (dir, mut rotation) = rotated(Style::Docker, 2);
        assert_eq!(names(dir.path()), ["app.log.1", "app.log.1.gz", "app.log.2.gz"]);
        while rotation.step().unwrap() {}
        assert_eq!(names(dir.path()), ["app.log.1.gz", "app.log.2.gz"]);
        let file = File::open(dir.path().join("app.log.1.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "1\n".repeat(20_000));
    }

    #[test]
    fn the_oldest_goes_and_copies_leave_the_live_file() {
        let (dir, _rotation) = rotated(Style::CreateDelayed, 7);
        let expected = ["app.log.1", "app.log.2.gz", "app.log.3.gz", "app.log.4.gz"];
        assert_eq!(names(dir.path()), expected);
        let (dir, _rotation) = rotated(Style::CopyTruncate, 1);
        assert_eq!(names(dir.path()), ["app.log", "app.log.1", "app.log.1.gz"]);
        let (dir, _rotation) = rotated(Style::Delete, 1);
        assert!(names(dir.path()).is_empty());
    }
}
