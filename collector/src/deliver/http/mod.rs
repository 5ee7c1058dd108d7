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

use hyper::{HeaderMap, Uri, header};
use tokio::runtime;

use super::{Alive, Context, Handle, StartError};
use crate::{batch::Compression, config, metrics::SinkMetrics};

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
mod narrow;
mod proxy;
mod renew;
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

pub(super) fn start(
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
    let url = parse_url(config, fault)?;
    let route = proxy::route(&url, &config.proxy, environment, fault)?;
    let auth = Auth::load(&config.auth, fault)?;
    let tls = tls::Files::read(&config.tls, url.scheme_str() == Some("https"), fault)?;
    let client = Client::new(url, route, tls, config);
    let limit = Limit::new(config.concurrency, context.metrics.clone());
    let sink = Sink {
        headers: request_headers(config, fault)?,
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

fn parse_url(config: &config::Http, fault: Fault<'_>) -> Result<Uri, StartError> {
    let advice = "Write it like https://logs.example.com/ingest.";
    // The parser's error says what is wrong without repeating the URL, which may hold a token.
    let url: Uri = config
        .url
        .parse()
        .map_err(|error| fault.invalid(format!("`url` is not a URL: {error}"), advice))?;
    let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(
            fault.invalid("`url` does not begin with http:// or https:// and a host", advice)
        );
    };
    if authority.as_str().contains('@') {
        return Err(fault.invalid(
            "`url` holds credentials",
            "Put the user into `auth.basic_user` and the password into a file named by \
             `auth.basic_password_file`.",
        ));
    }
    if authority.host().is_empty() {
        return Err(fault.invalid("`url` has no host", advice));
    }
    Ok(url)
}

/// Everything but credentials and the batch's id.
fn request_headers(config: &config::Http, fault: Fault<'_>) -> Result<HeaderMap, StartError> {
    let mut headers = HeaderMap::new();
    let body = match config.body {
        config::HttpBody::Ndjson => "application/x-ndjson",
        config::HttpBody::Json => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(body));
    let agent = concat!("everyline/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
    for (name, value) in &config.headers {
        let parsed: header::HeaderName =
            name.parse().map_err(|_invalid: header::InvalidHeaderName| {
                fault.invalid(format!("`headers` has the invalid name {name:?}"), "Mend the name.")
            })?;
        if OWN_HEADERS.contains(&parsed)
            || (parsed == header::AUTHORIZATION && auth::is_set(&config.auth))
        {
            return Err(fault.invalid(
                format!("`headers` sets {parsed}, which the sink sets itself"),
                "Remove it there; `compression` and `auth` decide it.",
            ));
        }
        let mut value: header::HeaderValue =
            value.parse().map_err(|_invalid: header::InvalidHeaderValue| {
                fault.invalid(
                    format!("`headers` has an invalid value for {parsed}"),
                    "Use visible ASCII.",
                )
            })?;
        // It may be a key of the server's.
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

const OWN_HEADERS: [header::HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// The name of a compression in `Content-Encoding`.
fn content_encoding(compression: Compression) -> Option<header::HeaderValue> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some(header::HeaderValue::from_static("gzip")),
        Compression::Zstd => Some(header::HeaderValue::from_static("zstd")),
    }
}
