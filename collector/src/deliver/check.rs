//! Check: whether a sink could start here as configured. Reads what it would read, and touches nothing that
//! it would write to.

use std::{path::Path, sync::Arc};

use tokio::runtime;

use super::{Alive, Context, StartError, Troubles, file, http};
use crate::{
    archive, config,
    metrics::{Metrics, SinkMetrics},
};

/// What a sink that starts would have to wait for; a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits(pub String);

/// Whether the sink could start as configured: a reload, `validate --check-files` and the doctor ask before
/// anything is changed. Some: it would start, and wait.
///
/// # Errors
/// As [`super::start`].
pub fn check(
    config: &config::Sink,
    name: &str,
    state_dir: &Path,
    runtime: &runtime::Handle,
) -> Result<Option<Waits>, StartError> {
    match config {
        config::Sink::Http(config) => {
            let metrics = SinkMetrics::new(Arc::new(Metrics::new()), name);
            let (name, troubles) = (name.to_owned(), Troubles::default());
            let alive = Alive::new().0;
            let context = Context { name, committed: None, metrics, troubles, alive };
            // With its queue dropped it ends at once.
            http::start(config, context, runtime)?;
        }
        config::Sink::Archive(archive) => {
            archive::check(name, &archive::directory(archive, state_dir))?;
        }
        config::Sink::File(file) => return Ok(file::check(file).map(|why| waits(name, &why))),
        config::Sink::Console(_) | config::Sink::Null(_) => {}
    }
    Ok(None)
}

fn waits(sink: &str, why: &str) -> Waits {
    Waits(format!("Sink `{sink}`: {why}"))
}
