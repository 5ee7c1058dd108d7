//! Sink: batches into the archive, receipts out, in order.
//!
//! Batches that wait together are written together and made durable by one `fdatasync`: under load
//! the groups grow by themselves, and a lone batch waits for nobody. What cannot be written (a full
//! disk) is tried again until it can; nothing is dropped, and the files are the buffer meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time,
};

use super::{
    segment::Header,
    write::{OpenError, Writer, refused_action},
};
use crate::{
    batch::{Batch, Framing},
    checkpoint::{Place, usable_as_own},
    config::{self, Compression},
    deliver::{Context, Handle, StartError},
};

/// Compressed bytes made durable by one `fdatasync`, at most (but for one batch that is larger).
const GROUP_BYTES: usize = 4 << 20;
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// How often is looked whether the directory still is there.
const PLACE_INTERVAL: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Starts the sink that writes the archive in `dir`. Needs a Tokio runtime.
pub fn start(
    config: &config::Archive,
    dir: PathBuf,
    context: Context,
) -> Result<Handle, StartError> {
    let writer = Writer::open(&dir, config, context.committed.as_deref())
        .map_err(|error| cannot_open(&context.name, &dir, &error))?;
    let (queue, batches) = mpsc::unbounded_channel();
    let group_bytes =
        usize::try_from(config.max_bytes.0 / 4).map_or(GROUP_BYTES, |bytes| bytes.min(GROUP_BYTES));
    let sink = Sink {
        writer: Some(writer),
        dir,
        config: config.clone(),
        group_bytes,
        gone: false,
        context,
    };
    Ok(Handle { queue, task: tokio::spawn(sink.run(batches)) })
}

/// Whether an archive could be opened in `dir` by this sink; changes nothing.
///
/// # Errors
/// As [`start`].
pub fn check(sink: &str, dir: &Path) -> Result<(), StartError> {
    usable_as_own(dir, &["archive.id"]).map(drop).map_err(|source| {
        let action = refused_action(dir, &source);
        cannot_open(sink, dir, &OpenError::Io { action, path: dir.to_owned(), source })
    })
}

fn cannot_open(sink: &str, dir: &Path, error: &OpenError) -> StartError {
    let why = match error {
        OpenError::Io { action, path, source } => {
            format!("could not {action} {}: {source}", path.display())
        }
        OpenError::Locked(_) => "another process writes to it".to_owned(),
    };
    StartError::Invalid {
        sink: sink.to_owned(),
        what: format!("the archive in {} cannot be opened: {why}", dir.display()),
        advice: "Make the directory writable for the agent alone, or set `dir` to another one."
            .to_owned(),
    }
}

struct Sink {
    /// `None` only while the writer is away on a thread that may block.
    writer: Option<Writer>,
    dir: PathBuf,
    config: config::Archive,
    /// See [`GROUP_BYTES`]; a fourth of the archive at most.
    group_bytes: usize,
    /// The directory is gone, and that was said.
    gone: bool,
    context: Context,
}

impl Sink {
    async fn run(mut self, mut batches: UnboundedReceiver<Batch>) {
        let mut maintenance = time::interval(MAINTENANCE_INTERVAL);
        let mut place = time::interval(PLACE_INTERVAL);
        let mut left_over = None;
        loop {
            let first = match left_over.take() {
                Some(batch) => batch,
                None => tokio::select! {
                    batch = batches.recv() => match batch {
                        Some(batch) => batch,
                        None => return,
                    },
                    _ = maintenance.tick() => {
                        self.with_writer(|writer| writer.maintain()).await;
                        continue;
                    }
                    _ = place.tick() => {
                        self.keep_place().await;
                        continue;
                    }
                },
            };
            if first.lines == 0 {
                // It only moves offsets, and everything before it is durable.
                first.delivered(None);
                continue;
            }
            let group = gather(first, &mut batches, &mut left_over, self.group_bytes);
            if !self.deliver(group).await {
                return;
            }
        }
    }

    /// Writes a group, however long it takes, and settles it. False: the runtime is going down.
    async fn deliver(&mut self, group: Vec<Batch>) -> bool {
        let mut pause = BACKOFF_FIRST;
        loop {
            let frames: Vec<(Header, Bytes)> =
                group.iter().map(|batch| (Header::of(batch), batch.payload.clone())).collect();
            let written = self.with_writer(move |writer| {
                // A new segment may be begun here: make room for it at once, not a minute later.
                let before = writer.position().segment;
                let written = writer.append(&frames);
                if written.is_err() || writer.position().segment != before {
                    writer.maintain();
                }
                written
            });
            match written.await {
                None => return false,
                Some(Ok(positions)) => {
                    if pause > BACKOFF_FIRST {
                        self.context.troubles.mended();
                        let dir = self.dir.display();
                        tracing::info!(%dir, "The archive can be written again.");
                    }
                    for (batch, position) in group.into_iter().zip(positions) {
                        self.context.metrics.delivered(batch.payload.len());
                        batch.delivered(Some(position.encode()));
                    }
                    return true;
                }
                Some(Err(error)) => {
                    let dir = self.dir.display();
                    self.context.troubles.failed(&format!(
                        "Cannot write the archive in {dir}: {error}. {}.",
                        advice(&error)
                    ));
                    if pause == BACKOFF_FIRST {
                        self.complain(&error);
                    }
                    self.context.metrics.error(class(&error));
                    self.keep_place().await;
                }
            }
            time::sleep(pause).await;
            self.context.metrics.retry();
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Makes the directory again if somebody removed it. What it held is gone; what comes is kept.
    async fn keep_place(&mut self) {
        let (dir, config) = (self.dir.clone(), self.config.clone());
        let found = self.with_writer(move |writer| {
            let found = writer.place();
            let remade = match found {
                Place::Kept | Place::Hidden => Ok(()),
                Place::Removed | Place::Replaced => {
                    Writer::open(&dir, &config, None).map(|opened| *writer = opened)
                }
            };
            (found, remade)
        });
        let Some((found, remade)) = found.await else { return };
        let (dir, sink) = (self.dir.display(), &self.context.name);
        match (found, remade) {
            (Place::Kept, _) => self.gone = false,
            (Place::Hidden, _) if !self.gone => {
                self.gone = true;
                tracing::error!(%dir, sink, "The archive's directory is gone, and the directory above it is another one: is a filesystem no longer mounted? Nothing is made in its place; writing goes on when it is back.");
            }
            (Place::Removed | Place::Replaced, Ok(())) => {
                self.gone = false;
                tracing::error!(%dir, sink, "The archive's directory was removed under the running agent, and with it what it held. It was made again; what comes is kept there.");
            }
            (Place::Removed | Place::Replaced, Err(error)) if !self.gone => {
                self.gone = true;
                tracing::error!(%dir, sink, %error, "The archive's directory was removed under the running agent and cannot be made again now; it is tried again.");
            }
            (Place::Hidden | Place::Removed | Place::Replaced, _) => {}
        }
    }

    fn complain(&self, error: &io::Error) {
        let (dir, sink) = (self.dir.display(), &self.context.name);
        let advice = advice(error);
        tracing::error!(%dir, sink, %error, advice, "Could not write the archive; trying again until it works. Nothing is lost meanwhile, as long as the log files are kept.");
    }

    /// Runs `work` where it may block. `None`: the runtime is going down, or `work` panicked.
    async fn with_writer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> Option<T> {
        let mut writer = self.writer.take()?;
        let alive = self.context.alive.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut writer);
            drop(alive);
            (writer, result)
        });
        let (writer, result) = worked.await.ok()?;
        self.writer = Some(writer);
        Some(result)
    }
}

/// Takes what waits already, up to the bound; what does not fit is left over.
fn gather(
    first: Batch,
    batches: &mut UnboundedReceiver<Batch>,
    left_over: &mut Option<Batch>,
    group_bytes: usize,
) -> Vec<Batch> {
    let mut bytes = first.payload.len();
    let mut group = vec![first];
    while let Ok(batch) = batches.try_recv() {
        bytes += batch.payload.len();
        if bytes > group_bytes || batch.lines == 0 {
            *left_over = Some(batch);
            break;
        }
        group.push(batch);
    }
    debug_assert!(
        group
            .iter()
            .all(|batch| batch.compression == Compression::Zstd && batch.framing == Framing::Lines)
    );
    group
}

fn advice(error: &io::Error) -> &'static str {
    match class(error) {
        "disk_full" => "Free some space or lower the archive's `max_bytes`",
        _ => "See what is wrong with the archive's directory",
    }
}

fn class(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
        _ => "io",
    }
}
