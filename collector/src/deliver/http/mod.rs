//! The http sink: POSTs batches to a server until it acknowledges them.
//!
//! A reply of 2xx, read to its end within the deadline, acknowledges a batch. Anything else is tried
//! again, with full-jitter back-off. A batch whose content is refused is narrowed to the record that
//! is; the others go on, and that one is tried again or dropped, as the operator says. Lanes are
//! independent; within a lane one batch is on the way at a time, so a file's order survives every retry.
//!
//! Every request carries `Everyline-Batch-Id`, the same at every attempt and for the same records
//! after a restart, so that a server can recognise what it already holds. Replies are hostile input:
//! bounded in size and time, made safe before they are shown. Redirects are never followed.

use std::{sync::Arc, time::Duration};

use hyper::{HeaderMap, header};
use tokio::runtime;

use super::{Context, Handle, StartError};
use crate::{
    batch::alive::Alive,
    config::{self, Compression},
    metrics::SinkMetrics,
};

mod addresses;
mod attempt;
mod attempts;
mod auth;
mod backoff;
mod client;
mod dial;
mod dispatch;
mod lane;
mod limit;
mod meter;
mod narrow;
mod proxy;
mod renew;
#[cfg(feature = "fuzzing")]
pub(crate) mod replies;
mod report;
mod retry_after;
mod split;
#[cfg(test)]
mod tests;
mod tls;

use attempt::Pause;
use auth::Auth;
use client::Client;
use limit::Limit;
use renew::{Pace, Renewal};
use report::Report;

/// An address as it may be shown: without what may be a secret in it.
pub fn shown(url: &config::Url) -> String {
    client::shown(url.uri())
}

/// Starts the sink's tasks, which send batches and answer with receipts.
///
/// # Errors
/// What can never work as configured.
pub fn start(
    config: &config::Http,
    context: Context,
    runtime: &runtime::Handle,
) -> Result<Handle, StartError> {
    start_with(config, context, runtime, (proxy::Environment::of_process(), Pace::default()))
}

/// The same with a given proxy environment and pace of renewal.
fn start_with(
    config: &config::Http,
    context: Context,
    runtime: &runtime::Handle,
    (environment, pace): (proxy::Environment, Pace),
) -> Result<Handle, StartError> {
    let fault = Fault { sink: &context.name };
    let route = proxy::route(&config.url, &config.proxy, environment, fault)?;
    let auth = Auth::load(&config.auth, fault)?;
    let tls = tls::Files::read(&config.tls, config.url.is_https(), fault)?;
    let client = Client::new(config.url.uri().clone(), route, tls, config);
    let limit = Limit::new(config.concurrency, context.metrics.clone());
    let sink = Sink {
        headers: request_headers(config),
        name: context.name.clone(),
        metrics: context.metrics,
        _alive: context.alive,
        client,
        auth,
        renewal: Renewal::new(pace),
        limit,
        pause: Pause::default(),
        report: Report::new(context.name, context.troubles),
        backoff_base: config.backoff_base.0,
        backoff_max: config.backoff_max.0,
        on_reject: config.on_reject,
        level: config.level,
    };
    Ok(dispatch::spawn(Arc::new(sink), runtime))
}

/// What all lanes share.
struct Sink {
    name: String,
    metrics: SinkMetrics,
    _alive: Alive,
    client: Client,
    auth: Auth,
    renewal: Renewal,
    limit: Limit,
    pause: Pause,
    report: Report,
    /// Sent with every request; credentials and the batch's id are added.
    headers: HeaderMap,
    backoff_base: Duration,
    backoff_max: Duration,
    on_reject: config::OnReject,
    level: i32,
}

/// Makes errors of the configuration; none of them holds a secret.
#[derive(Clone, Copy)]
struct Fault<'a> {
    sink: &'a str,
}

impl Fault<'_> {
    fn invalid(self, what: impl Into<String>, advice: impl Into<String>) -> StartError {
        StartError::Invalid { sink: self.sink.into(), what: what.into(), advice: advice.into() }
    }
}

/// Everything but credentials and the batch's id.
fn request_headers(config: &config::Http) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let body = match config.body {
        config::HttpBody::Ndjson => "application/x-ndjson",
        config::HttpBody::Json => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(body));
    let agent = concat!("everyline/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
    for (name, value) in config.headers.iter() {
        headers.insert(name, value.clone());
    }
    headers
}

/// The name of a compression in `Content-Encoding`.
fn content_encoding(compression: Compression) -> Option<header::HeaderValue> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(header::HeaderValue::from_static("gzip")),
        Compression::Zstd => Some(header::HeaderValue::from_static("zstd")),
    }
}
