//! The admin port: metrics, health and status over HTTP.
//!
//! GET only; it changes nothing and takes nothing in. Bounded in connections, header size and
//! time, so that whoever can reach it cannot hold up collection.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time,
};

use crate::{ledger::report::Report, metrics::Metrics};

pub mod ask;
mod listen;
#[cfg(test)]
mod tests;

pub use listen::listen;

/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// For a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// An agent whose main loop has not ticked for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What the port serves.
pub struct State {
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/healthz` and `/readyz`.
    pub health: Arc<Health>,
    /// `/status`. May take locks, must not wait for I/O of others.
    pub report: Box<dyn Fn() -> Report + Send + Sync>,
    /// Brings the gauges up to date before `/metrics`.
    pub refresh: Box<dyn Fn() + Send + Sync>,
}

/// Whether the agent works.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    /// Milliseconds from `began` to the main loop's last turn.
    alive: AtomicU64,
    ready: AtomicBool,
}

/// Serves until `shutdown` holds true. A reply that is being sent then may be cut off.
pub async fn serve(listener: TcpListener, state: Arc<State>, mut shutdown: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            // Never closed, so never an error.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            accepted = accepted => accepted,
            // Also when the sender is gone.
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "A connection to the admin port was not accepted.");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let state = Arc::clone(&state);
        let mut shutdown = shutdown.clone();
        tokio::spawn(async move {
            let _slot = slot;
            tokio::select! {
                _ = time::timeout(CONNECTION_TIMEOUT, connection(stream, state)) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, state).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A connection to the admin port broke.");
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is served here.\n");
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return reply;
    }
    match request.uri().path() {
        "/metrics" => off_loop(move || metrics(&state)).await,
        "/status" => off_loop(move || status(&state)).await,
        "/healthz" => match state.health.is_alive() {
            true => text(StatusCode::OK, "ok\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "The main loop is stuck.\n"),
        },
        "/readyz" => match state.health.is_ready() {
            true => text(StatusCode::OK, "ok\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "Starting or stopping.\n"),
        },
        "/" => text(StatusCode::OK, "/metrics\n/healthz\n/readyz\n/status\n"),
        _ => text(StatusCode::NOT_FOUND, "There are /metrics, /healthz, /readyz and /status.\n"),
    }
}

/// Ten thousand files take a moment: not on a thread that carries the network.
async fn off_loop<F>(work: F) -> Response<Full<Bytes>>
where
    F: FnOnce() -> Response<Full<Bytes>> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "This failed.\n"))
}

fn metrics(state: &State) -> Response<Full<Bytes>> {
    (state.refresh)();
    match state.metrics.render() {
        Ok(body) => reply(StatusCode::OK, OPENMETRICS, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Rendering failed.\n"),
    }
}

fn status(state: &State) -> Response<Full<Bytes>> {
    match serde_json::to_string(&(state.report)()) {
        Ok(body) => reply(StatusCode::OK, JSON, body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Rendering failed.\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    reply(status, TEXT, body)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// Where something that listens at `address` is reached from this machine.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Health {
    /// Alive, not ready yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), alive: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }

    /// The main loop has made a turn. To be called at least every 30 seconds.
    pub fn tick(&self) {
        self.alive.store(self.now(), Ordering::Relaxed);
    }

    /// Whether configuration and watchers work (a sink that is down does not count).
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether the main loop turns.
    pub fn is_alive(&self) -> bool {
        let silent = self.now().saturating_sub(self.alive.load(Ordering::Relaxed));
        u128::from(silent) < STUCK_AFTER.as_millis()
    }

    /// Whether [`Health::set_ready`] said so.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("health", &self.health).finish_non_exhaustive()
    }
}
