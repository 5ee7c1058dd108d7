//! The null sink: acknowledges everything at once and keeps nothing. For measuring.

use tokio::{runtime, sync::mpsc};

use super::{Context, Handle};
use crate::batch::Batch;

/// Starts the sink, which acknowledges every batch and keeps none.
pub fn start(context: Context, runtime: &runtime::Handle) -> Handle {
    let (queue, mut batches) = mpsc::unbounded_channel::<Batch>();
    let task = runtime.spawn(async move {
        while let Some(batch) = batches.recv().await {
            context.metrics.delivered(batch.payload.len());
            batch.delivered(None);
        }
    });
    Handle { queue, task }
}
