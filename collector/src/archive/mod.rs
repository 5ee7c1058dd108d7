//! Archive: the embedded, searchable storage. The interface only; it stores nothing yet.

use std::path::PathBuf;

use crate::{config, deliver};

/// Starts the archive in `dir`.
pub fn start(
    _config: &config::Archive,
    _dir: PathBuf,
    context: deliver::Context,
) -> Result<deliver::Handle, deliver::StartError> {
    Err(deliver::StartError::Invalid {
        sink: context.name,
        what: "the archive is not part of this build".into(),
        advice: "Configure a file or http sink.".into(),
    })
}
