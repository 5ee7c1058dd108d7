//! What is sent back: small texts, and large answers, of which few are made at once.
//!
//! A large answer is held in memory until it is sent, so it has a place among few, and no address may have
//! or wait for many of them. A probe's answer needs none. An answer is handed over piece by piece: who takes
//! no piece of a large one for a while gives its place to whoever waits for one.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{self, HeaderValue},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::connections::{Connection, Connections, Large};

/// Large answers of a kind at once.
pub(super) const PLACES: usize = 4;
/// Of an address, those that have a place and those that wait for one.
pub(super) const PER_ADDRESS: usize = 8;
/// For a place.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked who could give way.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes handed over at once.
const PIECE: usize = 64 << 10;

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer, or what is left of it.
#[derive(Debug)]
pub(super) struct Answer {
    body: Bytes,
    /// Whose it is, and its place, if it is a large one.
    large: Option<(Arc<Connection>, Place)>,
}

/// The places for large answers of one kind.
#[derive(Debug)]
pub(super) struct Places {
    kind: Large,
    free: Arc<Semaphore>,
    of_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place, or the wish for one, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    of_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(kind: Large) -> Self {
        let free = Arc::new(Semaphore::new(PLACES));
        Self { kind, free, of_address: Arc::default() }
    }

    /// Waits for a place. None: too many of this address have one or wait, or it took too long.
    pub(super) async fn enter(&self, all: &Connections, connection: &Connection) -> Option<Place> {
        let mut place = Place::wished(connection.peer, &self.of_address)?;
        let until = Instant::now() + PATIENCE;
        let free = Arc::clone(&self.free).acquire_owned();
        tokio::pin!(free);
        while Instant::now() < until {
            if let Ok(permit) = time::timeout(Duration::ZERO, &mut free).await {
                // Never closed, so never an error.
                place.permit = Some(permit.ok()?);
                return Some(place);
            }
            all.close_slow(self.kind, Instant::now());
            if let Ok(permit) = time::timeout(LOOK, &mut free).await {
                place.permit = Some(permit.ok()?);
                return Some(place);
            }
            // It waits, but does not dawdle.
            connection.is_active();
        }
        None
    }
}

impl Place {
    fn wished(address: IpAddr, all: &Arc<Mutex<HashMap<IpAddr, usize>>>) -> Option<Self> {
        let mut of_address = all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_address.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        drop(of_address);
        Some(Self { address, of_address: Arc::clone(all), permit: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.of_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// A short text.
pub(super) fn text(status: StatusCode, body: &'static str) -> Response<Answer> {
    reply(status, TEXT, Answer { body: body.into(), large: None })
}

/// An answer that has a place.
pub(super) fn large(
    kind: Large,
    media: &'static str,
    body: impl Into<Bytes>,
    (connection, place): (Arc<Connection>, Place),
) -> Response<Answer> {
    connection.sends(Some(kind));
    reply(StatusCode::OK, media, Answer { body: body.into(), large: Some((connection, place)) })
}

fn reply(status: StatusCode, media: &'static str, answer: Answer) -> Response<Answer> {
    let mut reply = Response::new(answer);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.body.is_empty() {
            return Poll::Ready(None);
        }
        if let Some((connection, _)) = &self.large {
            connection.is_active();
        }
        let length = self.body.len().min(PIECE);
        // A copy: what waits to be sent would keep all of a large answer.
        let piece = Bytes::copy_from_slice(&self.body.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.len() as u64)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((connection, _)) = &self.large {
            connection.sends(None);
        }
    }
}
