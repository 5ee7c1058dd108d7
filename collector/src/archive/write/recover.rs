//! Recovery, at start: what lies after the committed position is removed.

use std::{io, time::SystemTime};

use super::{
    Position, Writer,
    segments::{Closed, Open, survey},
};
use crate::{
    archive::read::{self, Segment},
    ownership,
};

impl Writer {
    pub(super) fn recover(&mut self, committed: Option<&str>) -> io::Result<()> {
        let committed = self.believable(committed);
        let mut segments = read::segments(&self.dir)?;
        let found = segments.len();
        if let Some(committed) = &committed {
            // A committed segment that is gone (retention) must not come again under its number:
            // the committed length would say nothing of it.
            self.last = committed.segment.saturating_sub(u64::from(committed.length == 0));
            while let Some(later) = segments.pop_if(|last| last.sequence > committed.segment) {
                self.last = self.last.max(later.sequence);
                let path = later.path.display();
                tracing::info!(%path, "Removing an archive segment that was not committed.");
                std::fs::remove_file(&later.path)?;
            }
        }
        let removed = segments.len() < found;
        let newest = segments.pop_if(|newest| {
            committed.as_ref().is_none_or(|committed| committed.segment == newest.sequence)
        });
        for segment in segments {
            self.last = self.last.max(segment.sequence);
            let (kept, _end) = survey(&segment)?;
            self.closed.push_back(Closed { path: segment.path, kept });
        }
        if let Some(segment) = newest {
            self.last = self.last.max(segment.sequence);
            self.reopen(segment, committed.as_ref(), removed)?;
        }
        self.own.file().sync_all()
    }

    fn believable(&self, committed: Option<&str>) -> Option<Position> {
        let text = committed?;
        match serde_json::from_str::<Position>(text) {
            Ok(position) if position.archive == self.id => Some(position),
            _ => {
                let dir = self.dir.display();
                tracing::warn!(%dir, "The committed position is not of this archive; keeping all that is in it. Lines of the last moments may be in it twice.");
                None
            }
        }
    }

    /// Cuts the newest segment back to what is committed. It is written on only if nothing was cut
    /// off or removed: a follower that has read beyond would take what comes here for what it knows,
    /// in a new segment it misses nothing. And what was added to a segment that is not the committed
    /// one could not be told from what is committed in it.
    fn reopen(
        &mut self,
        segment: Segment,
        committed: Option<&Position>,
        removed: bool,
    ) -> io::Result<()> {
        let file = ownership::open(&segment.path)?;
        let length = file.metadata()?.len();
        let (kept, whole) = survey(&segment)?;
        let wanted = match committed {
            Some(committed) if committed.length <= length => committed.length,
            Some(committed) => {
                let (path, missing) = (segment.path.display(), committed.length - whole);
                tracing::error!(%path, missing, "The archive is shorter than what was committed to it; lines are missing. The filesystem lost synchronised data, or somebody cut the file.");
                whole
            }
            None => whole,
        };
        if wanted < length {
            let (path, bytes) = (segment.path.display(), length - wanted);
            tracing::info!(%path, bytes, "Cutting off the end of an archive segment that was not committed.");
            file.set_len(wanted)?;
            file.sync_all()?;
        }
        if removed || wanted < length || committed.is_some_and(|at| at.length != length) {
            let (kept, _end) = survey(&segment)?;
            self.closed.push_back(Closed { path: segment.path, kept });
            return Ok(());
        }
        let created = file.metadata()?.created().unwrap_or_else(|_| SystemTime::now());
        let Segment { sequence, path } = segment;
        let stored = kept.stored;
        self.open = Some(Open { sequence, path, file, length: wanted, stored, created });
        Ok(())
    }
}
