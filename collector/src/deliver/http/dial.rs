//! Connections: TCP to the server or its proxy, TLS on top, all within a deadline.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    addresses::Addresses,
    meter::{Allowance, Metered},
    proxy::Route,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects, TLS included, or fails in time. hyper finishes a connection in the background when
/// another one became free meanwhile, beyond the attempt's own deadline: hence one here.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(https: HttpsConnector<Dial>, timeout: Duration) -> Self {
        Self { https, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let connecting = self.https.call(server);
        let timeout = self.timeout;
        Box::pin(async move {
            let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
            tokio::time::timeout(timeout, connecting).await.map_err(late)?
        })
    }
}

/// Opens the TCP connection, through the proxy if there is one.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector<Addresses>,
    route: Route,
    allowance: Allowance,
}

impl Dial {
    pub(super) fn new(
        route: Route,
        addresses: Addresses,
        allowance: Allowance,
        timeout: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(addresses);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // A peer that is gone without a word is noticed within a minute, also where nothing is sent.
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(timeout.max(Duration::from_secs(1))));
        tcp.set_connect_timeout(Some(timeout));
        Self { tcp, route, allowance }
    }
}

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (mut tcp, allowance) = (self.tcp.clone(), self.allowance.clone());
        match &self.route {
            Route::Direct => {
                let connecting = tcp.call(server);
                Box::pin(async move { Ok(Stream::new(connecting.await?, false, allowance)) })
            }
            Route::Forward(proxy) => {
                let connecting = tcp.call(proxy.uri.clone());
                Box::pin(async move {
                    let tcp = connecting.await.map_err(ProxyFailed::boxed)?;
                    Ok(Stream::new(tcp, true, allowance))
                })
            }
            Route::Tunnel(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), tcp);
                if let Some(auth) = &proxy.auth {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let connecting = tunnel.call(server);
                Box::pin(async move {
                    let tcp = connecting.await.map_err(ProxyFailed::boxed)?;
                    Ok(Stream::new(tcp, false, allowance))
                })
            }
        }
    }
}

/// The connection failed at the proxy or on the way to it.
#[derive(Debug, thiserror::Error)]
#[error("the proxy does not connect")]
pub(super) struct ProxyFailed {
    source: BoxError,
}

impl ProxyFailed {
    fn boxed(source: impl Into<BoxError>) -> BoxError {
        Box::new(Self { source: source.into() })
    }
}

/// A TCP stream that knows whether requests must be in absolute form, and that no flood gets through.
pub(super) struct Stream {
    tcp: TokioIo<Metered>,
    forwarded: bool,
}

impl Stream {
    fn new(tcp: TokioIo<TcpStream>, forwarded: bool, allowance: Allowance) -> Self {
        Self { tcp: TokioIo::new(Metered::new(tcp.into_inner(), allowance)), forwarded }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }
}
