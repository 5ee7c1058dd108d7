//! A server that answers whatever it is told to, and what the sink's client makes of that: for the fuzz
//! targets. Everything but the bytes is real: sockets, the connection pool, the deadline.

use std::{io, time::Duration};

use bytes::Bytes;
use hyper::HeaderMap;
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
};

use super::{Client, Fault, attempt, client::Exchange, proxy::Route, retry_after, tls};
use crate::config;

/// A loopback server and a client of it.
pub struct Replies {
    runtime: Runtime,
    listener: TcpListener,
    client: Client,
}

/// What the client made of a reply.
#[derive(Debug)]
pub struct Answer {
    /// It acknowledges the batch.
    pub delivered: bool,
    /// Bytes of its body that are kept.
    pub kept: usize,
    /// How long it asks to wait.
    pub wait: Option<Duration>,
    /// What the operator reads of it, or of the failure.
    pub said: String,
    /// The failure's class in the metrics; None: there was a reply.
    pub class: Option<&'static str>,
}

impl Replies {
    /// The longest wait that a reply may ask for.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
    /// The client gives up after so long.
    pub const DEADLINE: Duration = Duration::from_secs(5);

    /// A server on a port of the loopback.
    ///
    /// # Errors
    /// There is no loopback, or no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let url = format!("http://{}/logs?token=hidden", listener.local_addr()?);
        let settings = serde_json::json!({ "url": url, "timeout": config::Span(Self::DEADLINE) });
        let config: config::Http = serde_json::from_value(settings)?;
        let fault = Fault { sink: "fuzzed" };
        let tls = tls::Files::read(&config.tls, false, fault).map_err(io::Error::other)?;
        let client = Client::new(config.url.uri().clone(), Route::Direct, tls, &config);
        Ok(Self { runtime, listener, client })
    }

    /// Answers one request with these pieces of a reply, each written by itself, and closes the connection.
    ///
    /// # Errors
    /// The machine's, none that the reply could cause.
    pub fn answer(&self, pieces: &[&[u8]]) -> io::Result<Answer> {
        self.client.reconnect();
        let body = Bytes::from_static(b"{}\n");
        let (exchange, served) = self.runtime.block_on(async {
            let served = async { serve(&self.listener, pieces).await };
            // Whoever is first keeps the connection until the other one is done with it.
            tokio::join!(self.client.post(HeaderMap::new(), body), served)
        });
        drop(served?);
        Ok(judge(&self.client, exchange))
    }
}

async fn serve(listener: &TcpListener, pieces: &[&[u8]]) -> io::Result<TcpStream> {
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    // No port is left waiting: there are thousands of these a second.
    stream.set_zero_linger()?;
    let mut request = [0; 4096];
    let _request_bytes = stream.read(&mut request).await?;
    for piece in pieces {
        // The client may have heard enough.
        if stream.write_all(piece).await.is_err() {
            return Ok(stream);
        }
        tokio::task::yield_now().await;
    }
    // An error: it has closed the connection already.
    stream.shutdown().await.ok();
    Ok(stream)
}

fn judge(client: &Client, exchange: Exchange) -> Answer {
    match exchange.result {
        Ok(reply) => Answer {
            delivered: reply.status.is_success(),
            kept: reply.body.len(),
            wait: retry_after::parse(&reply.headers, Timestamp::now(), Replies::LONGEST_WAIT),
            said: attempt::describe(client.shown(), &reply),
            class: None,
        },
        Err(failure) => Answer {
            delivered: false,
            kept: 0,
            wait: None,
            said: failure.to_string(),
            class: Some(failure.class()),
        },
    }
}
