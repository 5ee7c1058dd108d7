//! The oracle as an HTTP sink that fails on a seed.
//!
//! `POST /killed` tells that the agent was killed, `POST /calm` ends all faults, `GET /report` is
//! the report as JSON; every other POST is a delivery. Plain HTTP/1.1 on a loopback address, for
//! tests only.

use std::{
    convert::Infallible,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_ENCODING, RETRY_AFTER},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Fault, Faults, Oracle, Report};
use crate::loadgen::Manifest;

/// Everything the connections share.
#[derive(Debug)]
pub struct Server {
    oracle: Mutex<Oracle>,
    faults: Faults,
    manifest: Option<PathBuf>,
    calm: AtomicBool,
    dead: AtomicBool,
    requests: AtomicU64,
}

/// Largest decompressed body taken; more is an attack or a mistake.
const BODY_MAX: u64 = 256 << 20;

type Reply = Response<Full<Bytes>>;

impl Server {
    /// An oracle behind these faults. The manifest is read when a report is asked for.
    pub fn new(oracle: Oracle, faults: Faults, manifest: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            oracle: Mutex::new(oracle),
            faults,
            manifest,
            calm: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        })
    }

    /// The report so far.
    pub fn report(&self) -> Report {
        let manifest = self.manifest.as_ref().and_then(|path| Manifest::load(path).ok());
        self.oracle().report(manifest.as_ref())
    }

    /// No more faults.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// While dead, it answers no delivery.
    pub fn set_dead(&self, dead: bool) {
        self.dead.store(dead, Ordering::Relaxed);
    }

    /// What has been received.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Reply> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/report") => {
                let report = serde_json::to_vec_pretty(&self.report())?;
                Ok(Response::new(Full::from(report)))
            }
            (&Method::POST, "/killed") => {
                self.oracle().killed();
                Ok(reply(StatusCode::OK))
            }
            (&Method::POST, "/calm") => {
                self.calm();
                Ok(reply(StatusCode::OK))
            }
            (&Method::POST, _) => self.deliver(request).await,
            _ => Ok(reply(StatusCode::NOT_FOUND)),
        }
    }

    async fn deliver(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Reply> {
        let mut unanswered = false;
        while self.dead.load(Ordering::Relaxed) {
            unanswered = true;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if unanswered {
            self.oracle().request("unanswered");
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let calm = self.calm.load(Ordering::Relaxed);
        let fault = if calm { Fault::None } else { self.faults.decide(number) };
        self.oracle().request(fault.name());
        let (head, mut body) = request.into_parts();
        if fault == Fault::Reset {
            // A frame is enough to be in the middle of it.
            body.frame().await;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let kills = self.oracle().kills();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        match fault {
            Fault::Unavailable => return Ok(reply(StatusCode::SERVICE_UNAVAILABLE)),
            Fault::Throttle => {
                let mut reply = reply(StatusCode::TOO_MANY_REQUESTS);
                reply.headers_mut().insert(RETRY_AFTER, self.faults.retry_after.into());
                return Ok(reply);
            }
            Fault::Stall => {
                tokio::time::sleep(Duration::from_millis(self.faults.stall_ms)).await;
            }
            _ => {}
        }
        let encoding = head.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
        let server = Arc::clone(&self);
        let taken = tokio::task::spawn_blocking(move || {
            let text = decompress(&body, encoding.as_deref())?;
            let mut oracle = server.oracle();
            // Whoever died or gave up meanwhile will not learn of it.
            let orphan = oracle.kills() != kills;
            oracle.accept(&text, orphan || matches!(fault, Fault::LoseReply | Fault::Stall));
            io::Result::Ok(())
        });
        match taken.await.map_err(io::Error::other)? {
            Ok(()) if fault == Fault::LoseReply => Err(io::ErrorKind::ConnectionReset.into()),
            Ok(()) => Ok(reply(StatusCode::OK)),
            Err(error) => {
                self.oracle().request("undecodable");
                let mut reply = reply(StatusCode::BAD_REQUEST);
                *reply.body_mut() = Full::from(format!("The body cannot be decoded: {error}.\n"));
                Ok(reply)
            }
        }
    }
}

/// Serves until the task is aborted.
pub async fn serve(listener: TcpListener, server: Arc<Server>) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // A failing service drops the connection; with this it is a reset, not an orderly end.
        stream.set_zero_linger().ok();
        stream.set_nodelay(true).ok();
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| Arc::clone(&server).answer(request));
            let connection = hyper::server::conn::http1::Builder::new();
            connection.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

fn reply(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

fn decompress(body: &[u8], encoding: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match encoding {
        None | Some(b"identity") => text.extend_from_slice(body),
        Some(b"zstd") => drop(zstd::Decoder::new(body)?.take(BODY_MAX).read_to_end(&mut text)?),
        Some(b"gzip") => {
            flate2::read::MultiGzDecoder::new(body).take(BODY_MAX).read_to_end(&mut text)?;
        }
        Some(other) => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(io::Error::other(format!("unknown encoding {other}")));
        }
    }
    Ok(text)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
