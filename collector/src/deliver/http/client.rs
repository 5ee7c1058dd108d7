//! One POST and its reply, whatever way it goes: the connection pool, the request, the bounded
//! reading of a reply, and what a failure is called.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, body::Incoming, header};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    Fault,
    dial::{Connector, Dial, ProxyFailed},
    proxy::Route,
    tls,
};
use crate::{
    config,
    deliver::{StartError, escape},
};

type Pool = legacy::Client<Connector, Full<Bytes>>;

/// Bytes of a reply's body that are kept.
const KEPT: usize = 64 << 10;
/// Bytes of a reply's body that are read at all; more is no acknowledgement.
const READ: usize = 16 << 20;

pub(super) struct Client {
    url: Uri,
    /// Without the query, which may hold a token.
    shown: String,
    route: Route,
    tls: tls::Files,
    timeout: Duration,
    concurrency: usize,
    pool: ArcSwap<Pool>,
}

/// A reply, its body read to the end.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`KEPT`] bytes of it.
    pub(super) body: Vec<u8>,
}

/// No reply that counts. The text is safe to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no complete reply within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}. Check that the server runs and can be reached from this node")]
    Connect(String),
    #[error(
        "cannot connect through the proxy: {0}. Check `proxy` (or HTTPS_PROXY, HTTP_PROXY, NO_PROXY)"
    )]
    Proxy(String),
    #[error(
        "TLS failed: {0}. Check the server's certificate against `tls.ca_file` and \
         `tls.server_name`, and `tls.cert_file` if the server wants one"
    )]
    Tls(String),
    #[error("the connection failed: {0}")]
    Io(String),
    #[error("the reply is longer than {} MiB", READ >> 20)]
    Endless,
}

impl Failure {
    /// The class in `deliver_errors_total`.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Connect(_) => "connect",
            Self::Proxy(_) => "proxy",
            Self::Tls(_) => "tls",
            Self::Io(_) => "io",
            Self::Endless => "reply",
        }
    }
}

impl Client {
    pub(super) fn new(
        url: Uri,
        route: Route,
        tls: tls::Files,
        config: &config::Http,
        fault: Fault<'_>,
    ) -> Result<Self, StartError> {
        let timeout = config.timeout.0.max(Duration::from_millis(1));
        let concurrency = config.concurrency.max(1) as usize;
        let pool = pool(&route, &tls, timeout, concurrency, fault)?;
        let shown = format!(
            "{}://{}{}",
            url.scheme_str().unwrap_or_default(),
            url.authority().map_or("", |authority| authority.as_str()),
            url.path()
        );
        let pool = ArcSwap::from_pointee(pool);
        Ok(Self { url, shown, route, tls, timeout, concurrency, pool })
    }

    /// Where it goes, without secrets.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Begins with new connections, reading certificates and keys again: they may have been renewed,
    /// the server may have moved, or a shared connection (HTTP/2) may be dead. Attempts under way
    /// keep theirs.
    pub(super) fn refresh(&self, sink: &str) {
        let fault = Fault { sink };
        // Files that are being replaced right now: the old ones stay until the next failure.
        if let Ok(pool) = pool(&self.route, &self.tls, self.timeout, self.concurrency, fault) {
            self.pool.store(Arc::new(pool));
        }
    }

    /// Sends one request and reads the whole reply, all within the deadline.
    pub(super) async fn post(&self, mut headers: HeaderMap, body: Bytes) -> Result<Reply, Failure> {
        if let Route::Forward(proxy) = &self.route
            && let Some(auth) = &proxy.auth
        {
            headers.insert(header::PROXY_AUTHORIZATION, auth.clone());
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        let pool = Arc::clone(&self.pool.load());
        let exchange = async {
            let response =
                pool.request(request).await.map_err(|error| classify(&error, self.timeout))?;
            let (parts, body) = response.into_parts();
            let body = read(body).await?;
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Failure::Timeout(self.timeout)),
        }
    }
}

fn pool(
    route: &Route,
    tls: &tls::Files,
    timeout: Duration,
    concurrency: usize,
    fault: Fault<'_>,
) -> Result<Pool, StartError> {
    let dial = Dial::new(route.clone(), timeout);
    let connector = Connector::new(tls.connector(dial, fault)?, timeout);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(concurrency)
        .http1_max_buf_size(64 << 10)
        .http2_max_header_list_size(64 << 10)
        // A dead HTTP/2 connection would take every later request with it.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .build(connector))
}

/// Reads a body to its end: an early end is a failure, not a short success.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut kept = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Io(describe(&error)))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len();
        if total > READ {
            return Err(Failure::Endless);
        }
        kept.extend_from_slice(&data[..data.len().min(KEPT - kept.len())]);
    }
    Ok(kept)
}

fn classify(error: &legacy::Error, timeout: Duration) -> Failure {
    let text = describe(error);
    let mut source = error.source();
    while let Some(cause) = source {
        // Connecting has the same deadline, and may be the first to notice.
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Failure::Timeout(timeout);
        }
        if cause.is::<ProxyFailed>() {
            return Failure::Proxy(text);
        }
        if is_tls(cause) {
            return Failure::Tls(text);
        }
        source = cause.source();
    }
    if error.is_connect() { Failure::Connect(text) } else { Failure::Io(text) }
}

/// An `io::Error` hides what it was made from where `source` does not look.
fn is_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<rustls::Error>()
        || cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| is_tls(inner))
}

/// The error and its causes, safe to show: some of it comes from the server.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    escape::excerpt(text.as_bytes(), 400)
}
