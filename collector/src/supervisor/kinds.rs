//! Which code a sink of a kind is run by: the only place that knows all kinds.

use std::{path::Path, sync::Arc};

use tokio::runtime;

use crate::{
    archive,
    batch::{
        Framing,
        alive::Alive,
        encoding::{Encoding, Grouping},
        troubles::Troubles,
    },
    config::{self, Compression},
    deliver::{Context, Handle, StartError, console, file, http, null},
    metrics::{Metrics, SinkMetrics},
};

/// Starts the sink that `config` describes. `state_dir` is the agent's state directory; a sink
/// keeps there only what it needs to know its own files again.
///
/// # Errors
/// Only for what can never work as configured. A destination that is down, full or missing is no
/// such error: the sink starts, says so, and keeps trying.
pub(crate) fn start(
    config: &config::Sink,
    state_dir: &Path,
    context: Context,
    runtime: &runtime::Handle,
) -> Result<Handle, StartError> {
    match config {
        config::Sink::Console(config) => console::start(config, context, runtime),
        config::Sink::File(config) => file::start(config, state_dir, context, runtime),
        config::Sink::Http(config) => http::start(config, context, runtime),
        config::Sink::Archive(config) => {
            archive::start(config, config.directory(state_dir), context)
        }
        config::Sink::Null(_) => Ok(null::start(context, runtime)),
    }
}

/// How records must be encoded for the sink. `threads`: how many reader threads will fill lanes.
pub(crate) fn encoding(config: &config::Sink, batch: &config::Batch, threads: usize) -> Encoding {
    let (framing, compression, level, lanes) = match config {
        config::Sink::Console(_) => (Framing::Lines, Compression::None, 0, 1),
        config::Sink::File(file) => (Framing::Lines, file.compression, file.level, 1),
        config::Sink::Archive(archive) => (Framing::Lines, Compression::Zstd, archive.level, 1),
        config::Sink::Null(null) => {
            (Framing::Lines, null.compression.unwrap_or(Compression::None), 1, 1)
        }
        config::Sink::Http(http) => {
            let framing = match http.body {
                config::HttpBody::Ndjson => Framing::Lines,
                config::HttpBody::Json => Framing::Array,
            };
            let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
            (framing, http.compression, http.level, http.concurrency.div_ceil(threads).max(1))
        }
    };
    let Grouping { max_bytes, max_lines, max_age } = Grouping::new(batch);
    let apart = matches!(config, config::Sink::Http(_));
    let most = usize::MAX;
    Encoding { framing, compression, level, max_bytes, max_lines, max_age, lanes, apart, most }
}

/// What a sink that starts would have to wait for; a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waits(pub String);

/// Whether the sink could start as configured: a reload, `validate --check-files` and the doctor ask before
/// anything is changed. Some: it would start, and wait.
///
/// # Errors
/// As [`start`].
pub(crate) fn check(
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
            archive::check(name, &archive.directory(state_dir))?;
        }
        config::Sink::File(file) => return Ok(file::check(file).map(|why| waits(name, &why))),
        config::Sink::Console(_) | config::Sink::Null(_) => {}
    }
    Ok(None)
}

fn waits(sink: &str, why: &str) -> Waits {
    Waits(format!("Sink `{sink}`: {why}"))
}
