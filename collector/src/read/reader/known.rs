//! Whether a file may be sent: only once the checkpoint knows it.

use std::sync::atomic::Ordering;

use super::{LogFile, Reader};
use crate::read::identity::{self, FINGERPRINT_BYTES, Fingerprint};

impl Reader {
    /// Whether the checkpoint knows the file; keeps the fingerprint growing with it.
    pub(super) fn is_known(&self, file: &LogFile, offset: u64) -> bool {
        let known = file.account.fingerprint().len as usize;
        if known < FINGERPRINT_BYTES
            && offset <= FINGERPRINT_BYTES as u64
            && let Some(plain) = file.content.plain()
            && let Ok(head) = identity::head(plain)
            && head.len() > known
        {
            file.account.set_fingerprint(Fingerprint::of(&head));
        }
        file.account.registered.load(Ordering::Acquire)
    }
}
