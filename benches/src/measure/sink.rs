//! Sinks for measuring: one that counts and answers at once, one that accepts and never answers.

use std::{
    convert::Infallible,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::CONTENT_ENCODING,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;

/// Takes everything in, counting lines and bytes after decompression.
#[derive(Debug)]
pub struct CountingSink {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Counts {
    lines: AtomicU64,
    bytes: AtomicU64,
    capture: Mutex<Option<File>>,
}

impl CountingSink {
    /// Listens on a free loopback port. With `capture`, decompressed bodies are also written there.
    pub fn start(capture: Option<&Path>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()?;
        let counts = Arc::new(Counts {
            capture: Mutex::new(capture.map(File::create).transpose()?),
            ..Counts::default()
        });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&counts);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| take(request, Arc::clone(&counts)));
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Ok(Self { address, counts, _runtime: runtime })
    }

    /// What to configure.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Lines taken in so far.
    pub fn lines(&self) -> u64 {
        self.counts.lines.load(Ordering::Acquire)
    }

    /// Bytes taken in so far, after decompression.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Acquire)
    }
}

async fn take(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let zstd = request.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "zstd");
    let mut reply = Response::new(Full::default());
    // An agent that is killed while it sends is no event here.
    if let Ok(body) = request.into_body().collect().await
        && count(&body.to_bytes(), zstd, &counts).is_err()
    {
        *reply.status_mut() = hyper::StatusCode::BAD_REQUEST;
    }
    Ok(reply)
}

fn count(body: &[u8], zstd: bool, counts: &Counts) -> std::io::Result<()> {
    let mut text = Vec::new();
    let text = if zstd {
        zstd::Decoder::new(body)?.read_to_end(&mut text)?;
        &text
    } else {
        body
    };
    if let Some(file) = counts.capture.lock().expect("a sink's task panicked").as_mut() {
        file.write_all(text)?;
    }
    counts.bytes.fetch_add(text.len() as u64, Ordering::AcqRel);
    let lines = memchr::memchr_iter(b'\n', text).count();
    counts.lines.fetch_add(lines as u64, Ordering::AcqRel);
    Ok(())
}

/// Accepts connections (the kernel does) and never reads nor answers.
#[derive(Debug)]
pub struct StalledSink {
    _listener: TcpListener,
}

impl StalledSink {
    /// Listens on `address`.
    pub fn start(address: SocketAddr) -> Result<Self> {
        Ok(Self { _listener: TcpListener::bind(address)? })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn counts_what_it_takes_in() {
        let dir = tempfile::tempdir().unwrap();
        let capture = dir.path().join("capture");
        let sink = CountingSink::start(Some(&capture)).unwrap();
        let body = zstd::encode_all(&b"{}\n{}\n"[..], 1).unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        let length = body.len();
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\n").unwrap();
        write!(stream, "Connection: close\r\nContent-Length: {length}\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert_eq!((sink.lines(), sink.bytes()), (2, 6));
        assert_eq!(std::fs::read(capture).unwrap(), b"{}\n{}\n");
    }
}
