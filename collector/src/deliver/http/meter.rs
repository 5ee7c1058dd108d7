//! How much a server may send, measured by the requests that it was sent. A server that sends on and on (interim replies,
//! HTTP/2 frames that ask for nothing, trailers without end) would have the agent parse all of it until the
//! deadline; what is beyond the measure is read slowly instead, so that it costs next to nothing.
//!
//! Only counts and waits. What a reply may be is `client`'s business, and when it is too late too.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// What a server may send without having been sent anything: certificates, settings, a long reply.
const AT_ONCE: f64 = (4 << 20) as f64;
/// Bytes of replies for a byte of requests. Some servers answer for every record of a compressed batch.
const FOR_A_BYTE: u64 = 8;
/// Bytes a second, for nothing.
const A_SECOND: f64 = (256 << 10) as f64;
/// What a read costs besides its bytes: a server may send them one by one.
const A_READ: f64 = 512.0;
/// What requests allow is kept up to here.
const MOST: u64 = 64 << 20;
/// Taken of it beyond what is needed.
const AT_A_TIME: u64 = 64 << 10;

/// A pause is never shorter: not for every few bytes.
const SHORTEST: Duration = Duration::from_millis(50);

/// What the requests of a sink allow its server to send, on whatever connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicU64>);

/// A connection that is read from as its meter allows.
#[derive(Debug)]
pub(super) struct Metered {
    tcp: TcpStream,
    meter: Meter,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Meter {
    /// Bytes that may be read. Below zero: none, for a while.
    left: f64,
    counted: Instant,
    allowance: Allowance,
}

impl Allowance {
    /// A request with a body of so many bytes is sent.
    pub(super) fn asked(&self, bytes: usize) {
        let more = (bytes as u64).saturating_mul(FOR_A_BYTE);
        let add = |there: u64| Some(there.saturating_add(more).min(MOST));
        let _always_added = self.0.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes so much of it, or what there is.
    fn take(&self, bytes: u64) -> u64 {
        let taken =
            self.0.fetch_update(Relaxed, Relaxed, |there| Some(there.saturating_sub(bytes)));
        taken.unwrap_or_else(|there| there).min(bytes)
    }
}

impl Metered {
    pub(super) fn new(tcp: TcpStream, allowance: Allowance) -> Self {
        Self { tcp, meter: Meter::new(allowance, Instant::now()), pause: None }
    }
}

impl Meter {
    fn new(allowance: Allowance, now: Instant) -> Self {
        Self { left: AT_ONCE, counted: now, allowance }
    }

    fn read(&mut self, bytes: usize) {
        self.left -= bytes as f64 + A_READ;
    }

    /// How long nothing may be read.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        if self.left < 0.0 {
            self.left += self.allowance.take(AT_A_TIME + (-self.left) as u64) as f64;
        }
        if self.left >= 0.0 {
            // Time counts only for what is owed.
            self.counted = now;
            return None;
        }
        let earned = A_SECOND * (now - self.counted).as_secs_f64();
        self.left = (self.left + earned).min(AT_ONCE);
        self.counted = now;
        (self.left < 0.0).then(|| Duration::from_secs_f64(-self.left / A_SECOND).max(SHORTEST))
    }
}

impl Connection for Metered {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.meter.pause(Instant::now()) {
                Some(pause) => self.pause = Some(Box::pin(sleep(pause))),
                None => break,
            }
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if read.is_ready() {
            self.meter.read(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long somebody is held up who reads all that in pieces, beginning `at`.
    fn held_up(meter: &mut Meter, at: &mut Instant, bytes: usize, piece: usize) -> Duration {
        let began = *at;
        for _ in 0..bytes / piece {
            while let Some(pause) = meter.pause(*at) {
                *at += pause;
            }
            meter.read(piece);
        }
        *at - began
    }

    #[test]
    fn replies_are_not_held_up_and_floods_are() {
        let (mut now, allowance) = (Instant::now(), Allowance::default());
        let mut meter = Meter::new(allowance.clone(), now);
        for _ in 0..1_000 {
            allowance.asked(100 << 10);
            assert_eq!(held_up(&mut meter, &mut now, 600 << 10, 16 << 10), Duration::ZERO);
        }
        let mut meter = Meter::new(Allowance::default(), now);
        assert_eq!(held_up(&mut meter, &mut now, 3 << 20, 16 << 10), Duration::ZERO);
        let flood = held_up(&mut meter, &mut now, 26 << 20, 16 << 10).as_secs();
        assert!((90..120).contains(&flood), "{flood}");
        let mut meter = Meter::new(Allowance::default(), now);
        let drops = held_up(&mut meter, &mut now, 100 << 10, 1).as_secs();
        assert!((150..200).contains(&drops), "{drops}");
    }

    #[test]
    fn a_quiet_time_earns_no_more_than_is_kept() {
        let (mut now, allowance) = (Instant::now(), Allowance::default());
        let mut meter = Meter::new(allowance.clone(), now);
        held_up(&mut meter, &mut now, 4 << 20, 16 << 10);
        now += Duration::from_secs(3600);
        assert_eq!(meter.pause(now), None);
        allowance.asked(1 << 30);
        let flood = held_up(&mut meter, &mut now, 128 << 20, 16 << 10).as_secs();
        assert!(flood > 200, "{flood}");
    }
}
