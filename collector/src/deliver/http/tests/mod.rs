//! The http sink against real sockets that misbehave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::runtime;

use super::*;
use crate::{
    batch::{Batch, Framing, Outcome, troubles::Troubles},
    deliver::testing::{Receipts, TestFile, join},
    metrics::{ErrorLabel, Metrics},
};

mod acceptance;
mod faults;
mod order;
mod proxies;
mod refused;
mod renew;
mod server;
mod settings;
mod tls;

use server::{Reply, Server};

/// A sink under test, with its metrics and receipts.
struct Running {
    handle: Handle,
    metrics: Arc<Metrics>,
    troubles: Troubles,
    receipts: Receipts,
}

impl Running {
    fn start(config: &config::Http) -> Self {
        Self::start_via(config, proxy::Environment::default(), Pace::default())
    }

    /// With a pace of renewal that a test can wait for.
    fn start_at(config: &config::Http, pace: Pace) -> Self {
        Self::start_via(config, proxy::Environment::default(), pace)
    }

    fn start_via(config: &config::Http, environment: proxy::Environment, pace: Pace) -> Self {
        let (metrics, troubles) = (Arc::new(Metrics::new()), Troubles::default());
        let context = Context {
            name: "h".into(),
            committed: None,
            metrics: SinkMetrics::new(metrics.clone(), "h"),
            troubles: troubles.clone(),
            alive: Alive::new().0,
        };
        let runtime = runtime::Handle::current();
        let handle = start_with(config, context, &runtime, (environment, pace)).unwrap();
        Self { handle, metrics, troubles, receipts: Receipts::new() }
    }

    fn file(&self, config: &config::Http, lane: u32) -> TestFile {
        let mut file = self.receipts.file(lane);
        file.compression = config.compression;
        if config.body == config::HttpBody::Json {
            file.framing = Framing::Array;
        }
        file
    }

    fn send(&self, batch: Batch) {
        self.handle.queue.send(batch).unwrap();
    }

    fn errors(&self, class: &'static str) -> u64 {
        let label = ErrorLabel { sink: "h".into(), class };
        self.metrics.deliver_errors.get_or_create(&label).get()
    }

    /// Waits until something of the class went wrong.
    async fn failed(&self, class: &'static str) {
        let started = Instant::now();
        while self.errors(class) == 0 {
            let so_far = self.metrics.render().unwrap();
            assert!(started.elapsed() < Duration::from_secs(10), "no {class} error: {so_far}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Closes the queue and waits for the end. Gives what became of each batch.
    async fn finish(self) -> Vec<Outcome> {
        drop(self.handle.queue);
        let ended = tokio::time::timeout(Duration::from_secs(30), self.handle.task).await;
        ended.expect("the sink must end with its queue").unwrap();
        self.receipts.all().into_iter().map(|receipt| receipt.outcome).collect()
    }
}

/// A quick configuration; `more` overrides it.
fn config(url: &str, more: serde_json::Value) -> config::Http {
    let mut value = json!({
        "url": url, "timeout": "2s", "backoff_base": "5ms", "backoff_max": "50ms",
    });
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

/// Delivers one batch of `lines` and gives the sink's own account of it.
async fn deliver_one(config: &config::Http, lines: u32) -> Vec<Outcome> {
    let running = Running::start(config);
    running.send(running.file(config, 0).batch(lines));
    running.finish().await
}
