//! The checksums of finished files, by which their compressed copies are recognised.
//!
//! Taken when a rotated file is let go, by a thread of its own: no reader waits for it.

use std::{
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    identity::checksum::{crc_of, is_hollow},
    ledger::FileAccount,
};

/// Files whose checksum is wanted.
pub type Finished = (Arc<File>, Arc<FileAccount>);

/// Starts the thread; it ends when nobody can send any more.
///
/// # Errors
/// The thread cannot be started.
pub fn start() -> io::Result<Sender<Finished>> {
    let (sender, receiver) = unbounded();
    let builder = std::thread::Builder::new().name("everyline-checksum".to_owned());
    builder.spawn(move || run(&receiver))?;
    Ok(sender)
}

fn run(finished: &Receiver<Finished>) {
    for (file, account) in finished {
        let seen = account.seen.load(Ordering::Acquire);
        if is_hollow(&file).unwrap_or(true) {
            // To look through its holes would take this thread from all others.
            continue;
        }
        match crc_of(&file, seen) {
            Ok(Some(crc)) => account.set_crc(crc),
            // It is recognised by less then, or read again.
            Ok(None) | Err(_) => {
                tracing::debug!(path = %account.path().display(), "No checksum of a finished file could be taken.");
            }
        }
    }
}
