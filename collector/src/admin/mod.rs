//! The admin port: metrics, health and status over HTTP.
//!
//! GET only; it changes nothing and takes nothing in. Whoever can reach it cannot hold up collection, for it
//! has a thread of its own and is bounded in connections, header size, large answers and time; nor a probe,
//! for a new connection is always taken and `/healthz` and `/readyz` wait for nothing (`connections`,
//! `answer`). It answers under this machine's names only (`host`).

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

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task, time,
};

use self::{
    answer::{Answer, Place, Places, large, text},
    connections::{Connection, Connections, Large},
};
use crate::{
    held_back::{self, Resource},
    ledger::report::Report,
    metrics::Metrics,
};

mod answer;
pub mod ask;
mod connections;
mod host;
mod listen;
#[cfg(test)]
mod tests;
mod thread;

pub use host::Hosts;
pub use thread::Port;

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
    /// Under which names it is served.
    pub hosts: Hosts,
}

/// Whether the agent works.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    /// Milliseconds from `began` to the main loop's last turn.
    alive: AtomicU64,
    ready: AtomicBool,
}

/// The port while it is open.
struct Server {
    state: State,
    connections: Arc<Connections>,
    metrics: Places,
    status: Places,
}

/// Serves until `shutdown` holds true. A reply that is being sent then may be cut off.
pub async fn serve(listener: TcpListener, state: State, mut shutdown: watch::Receiver<bool>) {
    let (metrics, status) = (Places::new(Large::Metrics), Places::new(Large::Status));
    let server = Arc::new(Server { state, connections: Arc::default(), metrics, status });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Also when the sender is gone.
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "A connection to the admin port was not accepted.");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (connection, gave_way) =
            server.connections.admit(peer.ip().to_canonical(), Instant::now());
        if let Some(gave_way) = gave_way {
            held_back::note(Resource::AdminConnections, &gave_way.to_string());
        }
        let (server, mut shutdown) = (Arc::clone(&server), shutdown.clone());
        tokio::spawn(async move {
            let connection = Arc::new(connection);
            tokio::select! {
                _ = time::timeout(CONNECTION_TIMEOUT, attend(stream, &connection, server)) => {}
                () = connection.closed() => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        });
        // Whoever came is heard before the next one may take its place.
        task::yield_now().await;
    }
}

async fn attend(stream: TcpStream, connection: &Arc<Connection>, server: Arc<Server>) {
    let service = service_fn(move |request| {
        let (server, connection) = (Arc::clone(&server), Arc::clone(connection));
        async move {
            connection.is_active();
            Ok::<_, Infallible>(server.answer(request, connection).await)
        }
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

impl Server {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Answer> {
        if !self.state.hosts.admit(&request) {
            held_back::note(Resource::AdminHosts, &connection.peer.to_string());
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "This name is not known to be this machine's. Ask by its IP address, or list the name under admin.hosts.\n",
            );
        }
        if request.method() != Method::GET {
            let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is served here.\n");
            reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return reply;
        }
        match request.uri().path() {
            "/metrics" => self.in_place(connection, Large::Metrics).await,
            "/status" => self.in_place(connection, Large::Status).await,
            "/healthz" => match self.state.health.is_alive() {
                true => text(StatusCode::OK, "ok\n"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "The main loop is stuck.\n"),
            },
            "/readyz" => match self.state.health.is_ready() {
                true => text(StatusCode::OK, "ok\n"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "Starting or stopping.\n"),
            },
            "/" => text(StatusCode::OK, "/metrics\n/healthz\n/readyz\n/status\n"),
            _ => {
                text(StatusCode::NOT_FOUND, "There are /metrics, /healthz, /readyz and /status.\n")
            }
        }
    }

    /// A large answer, once there is a place for it.
    async fn in_place(
        self: Arc<Self>,
        connection: Arc<Connection>,
        kind: Large,
    ) -> Response<Answer> {
        let places = match kind {
            Large::Metrics => &self.metrics,
            Large::Status => &self.status,
        };
        let peer = connection.peer;
        let Some(place) = places.enter(&self.connections, &connection).await else {
            held_back::note(Resource::AdminLargeAnswers, &peer.to_string());
            let mut reply =
                text(StatusCode::SERVICE_UNAVAILABLE, "Too many ask for this at once.\n");
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return reply;
        };
        // Ten thousand files take a moment: not on the thread that answers probes.
        let server = Arc::clone(&self);
        let done = task::spawn_blocking(move || server.make(kind, (connection, place))).await;
        done.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "This failed.\n"))
    }

    fn make(&self, kind: Large, whose: (Arc<Connection>, Place)) -> Response<Answer> {
        let (media, body) = match kind {
            Large::Metrics => {
                (self.state.refresh)();
                (OPENMETRICS, self.state.metrics.render().ok())
            }
            Large::Status => (JSON, serde_json::to_string(&(self.state.report)()).ok()),
        };
        match body {
            Some(body) => large(kind, media, body, whose),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "Rendering failed.\n"),
        }
    }
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
