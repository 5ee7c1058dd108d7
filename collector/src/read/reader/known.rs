//! Whether a file may be sent: only once the checkpoint knows it.

use std::sync::atomic::Ordering;

use super::{LogFile, Reader};
use crate::identity::{self, FINGERPRINT_BYTES, Fingerprint};

/// Whether a file that nothing was read of begins as it did when it was registered, which takes a
/// moment: it may have been truncated and written anew since.
pub(super) fn begins_as_known(file: &LogFile, read: &[u8]) -> bool {
    let known = file.account.fingerprint();
    match file.content.plain() {
        Some(_) if read.len() >= known.len as usize => known.matches(read),
        Some(plain) => identity::head(plain).map_or(true, |head| known.matches(&head)),
        None => true,
    }
}

impl Reader {
    /// Whether the checkpoint knows the file, of which `read` was read at `offset`; keeps the fingerprint
    /// growing with it.
    pub(super) fn is_known(&self, file: &LogFile, offset: u64, read: &[u8]) -> bool {
        let known = file.account.fingerprint();
        if (known.len as usize) < FINGERPRINT_BYTES
            && offset <= FINGERPRINT_BYTES as u64
            && let Some(plain) = file.content.plain()
        {
            // The first bytes are those that are read: a moment later they can be another life's.
            let head = match offset {
                0 => Ok(read[..read.len().min(FINGERPRINT_BYTES)].to_vec()),
                _ => identity::head(plain),
            };
            if let Ok(mut head) = head {
                // What is behind those that were read may be in doubt.
                head.truncate(usize::try_from(offset).unwrap_or(0) + read.len());
                // Zeros at the end may be room that is filled later.
                let text = head.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let head = &head[..text];
                if head.len() > known.len as usize && known.matches(head) {
                    file.account.set_fingerprint(Fingerprint::of(head));
                }
            }
        }
        file.account.registered.load(Ordering::Acquire)
    }
}
