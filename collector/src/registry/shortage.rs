//! More files than descriptors, on the registry's side: who is handed over open, and saying so.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use super::{RETRY, Registry, recognised::Recognised};
use crate::{
    descriptors, identity,
    messages::{self, Kind},
    read::{
        permits::{self, Permit},
        reader::Message,
    },
    source::Source,
};

/// How often the limit is asked for: somebody may raise it.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What is known of the limit.
#[derive(Default)]
pub(super) struct Shortage {
    asked: Option<Instant>,
    /// Whether the shortage was said, and is not over.
    said: bool,
}

impl Registry {
    /// The recognised file and its permit, opened once more where it found no room then. None: it is not
    /// there any more; a listing is due.
    pub(super) fn still_open(
        &mut self,
        recognised: &mut Recognised,
    ) -> Option<(File, Option<Permit>)> {
        if let Some((file, permit)) = recognised.open.take() {
            return Some((file, Some(permit)));
        }
        let path = &recognised.found.path;
        let directory = path.parent().unwrap_or(path);
        match identity::open(path) {
            Ok((file, now)) if now.key == recognised.look.key => return Some((file, None)),
            Err(error) if descriptors::is_shortage(&error) => {
                self.say_shortage(directory, &error);
            }
            Ok(_) | Err(_) => _ = self.retries.insert(directory.to_owned(), Instant::now()),
        }
        None
    }

    /// A permit for a source's file that is to be handed over open (it may have one); None: closed.
    pub(super) fn room_for(
        &mut self,
        source: &Source,
        file: &File,
        permit: Option<Permit>,
    ) -> Option<Permit> {
        let held = self.sources.get(&*source.path).map_or(0, |state| state.held.len() as u64);
        if held >= permits::share(descriptors::for_files()) {
            return None;
        }
        let permit = permit.or_else(|| permits::permit(source.tenant(), file));
        if permit.is_none() {
            self.say_waiting();
        }
        permit
    }

    /// There is no descriptor at all, in the process or on the machine: whoever has idle ones gives
    /// some back.
    pub(super) fn say_shortage(&mut self, directory: &Path, error: &io::Error) {
        self.retries.insert(directory.to_owned(), Instant::now() + RETRY);
        self.have_files_closed();
        self.complain(directory, format!(
            "No file can be opened at the moment: {error}. It is tried again, and idle log files are closed meanwhile; raise the limit on open files (LimitNOFILE= in the unit, or the sysctl fs.file-max)."
        ));
    }

    fn have_files_closed(&self) {
        for reader in &self.setup.readers {
            let _going_down = reader.send(Message::GiveWay);
        }
    }

    fn say_waiting(&mut self) {
        let Some(shares) = descriptors::shares().filter(|_| !self.shortage.said) else { return };
        let Some(unsaid) = messages::admit(Kind::Shortage, &self.setup.state_dir) else { return };
        self.shortage.said = true;
        tracing::warn!(
            limit = shares.limit,
            for_files = shares.files,
            kept_back = shares.limit - shares.files,
            "There are more log files than descriptors: files without unread bytes are closed, and the rest take turns. Nothing is lost by that but what is deleted before its turn. Raise the limit on open files (LimitNOFILE= in the unit).{unsaid}"
        );
    }

    /// Shares the descriptors out anew, now and then.
    pub(super) fn share_descriptors(&mut self) {
        if self.shortage.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return;
        }
        self.shortage.asked = Some(Instant::now());
        // It was said at the start if it cannot be raised.
        let before = descriptors::shares();
        let _as_it_is = descriptors::share_out(self.setup.sinks.len());
        let Some(shares) = descriptors::shares() else { return };
        if before.is_some_and(|before| shares.files < before.files) {
            self.have_files_closed();
        }
        let metrics = &self.setup.metrics;
        metrics.file_descriptors.set(i64::try_from(shares.files).unwrap_or(i64::MAX));
        metrics.closed_files.set(shares.waiting as i64);
        if self.shortage.said && shares.waiting == 0 {
            self.shortage.said = false;
            tracing::info!("Every log file has a descriptor again.");
        }
    }
}
