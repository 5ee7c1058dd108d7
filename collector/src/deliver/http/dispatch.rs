//! Batches to their lanes. A lane is a task that delivers one batch at a time, in the order they
//! came; lanes know nothing of each other and meet only at the limit.

use std::{collections::HashMap, sync::Arc};

use tokio::{runtime, sync::mpsc, task::JoinSet};

use super::{Sink, lane::Lane};
use crate::{batch::Batch, deliver::Handle};

/// Starts the sink. Its task ends when the queue is closed and every lane has settled everything;
/// aborting it aborts every lane.
pub(super) fn spawn(sink: Arc<Sink>, runtime: &runtime::Handle) -> Handle {
    let (queue, batches) = mpsc::unbounded_channel();
    let task = runtime.spawn(dispatch(sink, batches));
    Handle { queue, task }
}

async fn dispatch(sink: Arc<Sink>, mut batches: mpsc::UnboundedReceiver<Batch>) {
    // As many as reader threads fill, so bounded. Dropping the set aborts what is left in it.
    let mut tasks = JoinSet::new();
    let mut lanes: HashMap<u32, mpsc::UnboundedSender<Batch>> = HashMap::new();
    while let Some(batch) = batches.recv().await {
        let lane = lanes.entry(batch.lane).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tasks.spawn(run(sink.clone(), receiver));
            sender
        });
        if lane.send(batch).is_err() {
            // Only if the lane panicked: its batches stay unsettled, and so must all later ones.
            tracing::error!(sink = sink.name, "A lane has ended; restart the agent.");
        }
    }
    drop(lanes);
    while tasks.join_next().await.is_some() {}
}

async fn run(sink: Arc<Sink>, mut batches: mpsc::UnboundedReceiver<Batch>) {
    let mut lane = Lane::new(sink);
    while let Some(batch) = batches.recv().await {
        lane.deliver(batch).await;
    }
}
