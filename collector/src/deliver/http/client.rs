//! One POST and its reply, whatever way it goes: the connection pool, the request, the bounded
//! reading of a reply, and what a failure is called.

use std::{error::Error as _, io, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri, body::Incoming, header, http::Extensions,
};
use hyper_util::{
    client::legacy::{
        self,
        connect::{CaptureConnection, HttpInfo, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    Fault,
    addresses::Addresses,
    dial::{Connector, Dial, ProxyFailed},
    meter::Allowance,
    proxy::Route,
    tls,
};
use crate::{causes, config, deliver::StartError, shown as safe};

type Pool = legacy::Client<Connector, Full<Bytes>>;

/// Bytes of a reply's body that are kept.
const KEPT: usize = 64 << 10;
/// Bytes of a reply's body that are read at all; more is no acknowledgement.
const READ: usize = 16 << 20;
/// So many pieces may be of any size; all of them together must come to this many bytes each.
const PIECES: usize = 1024;
const PIECE: usize = 16;

pub(super) struct Client {
    url: Uri,
    /// Without the query, which may hold a token.
    shown: String,
    route: Route,
    tls: tls::Files,
    timeout: Duration,
    concurrency: usize,
    addresses: Addresses,
    allowance: Allowance,
    pool: ArcSwap<Pool>,
}

/// What became of a request, and who answered it or did not.
pub(super) struct Exchange {
    pub(super) result: Result<Reply, Failure>,
    /// None: no connection was made.
    pub(super) peer: Option<IpAddr>,
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
    #[error("the reply comes in pieces of less than {PIECE} bytes")]
    Crumbs,
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
            Self::Endless | Self::Crumbs => "reply",
        }
    }
}

impl Client {
    pub(super) fn new(url: Uri, route: Route, tls: tls::Files, config: &config::Http) -> Self {
        let timeout = config.timeout.0.max(Duration::from_millis(1));
        let concurrency = config.concurrency.max(1) as usize;
        let (addresses, allowance) = (Addresses::new(), Allowance::default());
        let dial = Dial::new(route.clone(), addresses.clone(), allowance.clone(), timeout);
        let pool = pool(dial, &tls, timeout, concurrency);
        let shown = shown(&url);
        let pool = ArcSwap::from_pointee(pool);
        Self { url, shown, route, tls, timeout, concurrency, addresses, allowance, pool }
    }

    /// Where it goes, without secrets.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Reads certificates and keys again if they seem to have changed, or `anyway`. True: they are
    /// others. What cannot be used changes nothing.
    pub(super) fn reread(&self, anyway: bool, fault: Fault<'_>) -> Result<bool, StartError> {
        self.tls.reread(anyway, fault)
    }

    /// Begins with new connections: names are looked up again, and handshakes show the certificates
    /// that were read last. Attempts under way keep theirs.
    pub(super) fn reconnect(&self) {
        let Self { route, addresses, allowance, .. } = self;
        let dial = Dial::new(route.clone(), addresses.clone(), allowance.clone(), self.timeout);
        let pool = pool(dial, &self.tls, self.timeout, self.concurrency);
        self.pool.store(Arc::new(pool));
    }

    /// A delivery failed at this address, or went through. The next connections heed it.
    pub(super) fn note(&self, peer: IpAddr, works: bool) {
        if works {
            self.addresses.works(peer);
        } else {
            self.addresses.failed(peer);
        }
    }

    /// Sends one request and reads the whole reply, all within the deadline.
    pub(super) async fn post(&self, mut headers: HeaderMap, body: Bytes) -> Exchange {
        if let Route::Forward(proxy) = &self.route
            && let Some(auth) = &proxy.auth
        {
            headers.insert(header::PROXY_AUTHORIZATION, auth.clone());
        }
        self.allowance.asked(body.len());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        let connection = capture_connection(&mut request);
        let pool = Arc::clone(&self.pool.load());
        let exchange = async {
            let response =
                pool.request(request).await.map_err(|error| classify(&error, self.timeout))?;
            let (parts, body) = response.into_parts();
            let body = read(body).await?;
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        let result = tokio::time::timeout(self.timeout, exchange).await;
        let result = result.unwrap_or(Err(Failure::Timeout(self.timeout)));
        Exchange { result, peer: peer(&connection) }
    }
}

fn peer(connection: &CaptureConnection) -> Option<IpAddr> {
    let mut about = Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut about);
    about.get::<HttpInfo>().map(|info| info.remote_addr().ip())
}

fn pool(dial: Dial, tls: &tls::Files, timeout: Duration, concurrency: usize) -> Pool {
    let connector = Connector::new(tls.connector(dial), timeout);
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(concurrency)
        .http1_max_buf_size(64 << 10)
        .http2_max_header_list_size(64 << 10)
        // A dead HTTP/2 connection would take every later request with it.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .build(connector)
}

/// Reads a body to its end: an early end is a failure, not a short success.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut kept = Vec::new();
    let (mut total, mut pieces) = (0, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Io(describe(&error)))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len();
        if total > READ {
            return Err(Failure::Endless);
        }
        pieces += 1;
        // Each costs as much as a large one.
        if pieces > PIECES && total / PIECE < pieces {
            return Err(Failure::Crumbs);
        }
        kept.extend_from_slice(&data[..data.len().min(KEPT - kept.len())]);
    }
    Ok(kept)
}

/// An address without what may be a secret in it: a user, a password, the query.
pub(super) fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{}://{host}{}", url.scheme_str().unwrap_or_default(), url.path())
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
    safe::excerpt(causes::told(error).as_bytes(), 400)
}
