//! An HTTP/1.1 server on blocking threads that can do everything wrong.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{
    batch::Framing,
    config::Compression,
    deliver::{payload, testing::sequences},
};

/// What the server does with a request.
pub(super) enum Reply {
    /// Takes the body and answers.
    Status(u16),
    /// The same with header lines and a body.
    Full(u16, String, Vec<u8>),
    /// Answers without reading the body, and closes.
    Early(u16),
    /// The same, but does not even wait for the client to have read the answer.
    Rude(u16),
    /// Takes the body, writes these bytes, and closes.
    Raw(Vec<u8>),
    /// Takes the body, then writes a good answer, a byte a second.
    Drip,
    /// Takes the body and never answers.
    Blackhole,
    /// Reads a part of the body and resets the connection.
    Reset,
    /// Takes the body and answers 200, or with this status where the body has this text.
    Refuse(u16, &'static str),
    /// Takes the body, waits, and answers 200.
    Slow(Duration),
}

/// A request's first part.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Counts all requests of the server, from 0.
    pub(super) number: usize,
    pub(super) line: String,
    headers: Vec<(String, String)>,
    /// The certificate that the client showed when it connected.
    pub(super) shown: Option<Vec<u8>>,
    pub(super) at: Instant,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn length(&self) -> usize {
        self.header("content-length").parse().unwrap_or(0)
    }
}

/// A request that was answered with 2xx, or would have been.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Taken {
    pub(super) fn raw(&self) -> Vec<u8> {
        let compression = match self.head.header("content-encoding") {
            "" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            other => panic!("{other}"),
        };
        payload::decompress(&self.body, compression).unwrap().into_owned()
    }

    pub(super) fn sequences(&self) -> Vec<(u32, u64)> {
        let framing = match self.head.header("content-type") {
            "application/x-ndjson" => Framing::Lines,
            "application/json" => Framing::Array,
            other => panic!("{other}"),
        };
        sequences(&self.raw(), framing)
    }
}

type Handler = dyn Fn(&Head) -> Reply + Send + Sync;

#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    handler: Box<Handler>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stopped: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    taken: Mutex<Vec<Taken>>,
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Head) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), None, handler)
    }

    pub(super) fn start_on(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Head) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let server = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            handler: Box::new(handler),
            tls,
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            heads: Mutex::default(),
            taken: Mutex::default(),
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }));
        let inner = server.0.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inner.stopped.load(SeqCst) {
                    return;
                }
                let inner = inner.clone();
                // A connection that fails is the client's to notice.
                std::thread::spawn(move || stream.and_then(|stream| inner.serve(stream)));
            }
        });
        server
    }

    /// Answers everything with one status.
    pub(super) fn always(status: u16) -> Self {
        Self::start(move |_| Reply::Status(status))
    }

    /// Misbehaves on the first requests, then takes everything.
    pub(super) fn first(replies: Vec<Reply>) -> Self {
        let replies = Mutex::new(replies.into_iter());
        Self::start(move |_| replies.lock().unwrap().next().unwrap_or(Reply::Status(200)))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/ingest?key=hush", self.0.address)
    }

    /// Every request whose head was read.
    pub(super) fn heads(&self) -> Vec<Head> {
        self.0.heads.lock().unwrap().clone()
    }

    /// Every request that was taken whole with a good answer, also if that was lost on the way.
    pub(super) fn taken(&self) -> Vec<Taken> {
        self.0.taken.lock().unwrap().clone()
    }

    /// The records of all of those.
    pub(super) fn sequences(&self) -> Vec<(u32, u64)> {
        self.taken().iter().flat_map(Taken::sequences).collect()
    }

    /// Connections that a request came through.
    pub(super) fn connections(&self) -> usize {
        self.0.connections.load(SeqCst)
    }

    /// Most requests under way at once.
    pub(super) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The acceptor and this.
        if Arc::strong_count(&self.0) <= 2 {
            self.0.stopped.store(true, SeqCst);
            let _woken = TcpStream::connect(self.0.address);
        }
    }
}

trait Duplex: Read + Write {
    /// The certificate that the client showed.
    fn shown(&self) -> Option<Vec<u8>> {
        None
    }
}

impl Duplex for TcpStream {}

impl Duplex for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn shown(&self) -> Option<Vec<u8>> {
        Some(self.conn.peer_certificates()?.first()?.to_vec())
    }
}

impl Inner {
    fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let tls = rustls::ServerConnection::new(config.clone()).unwrap();
                Box::new(rustls::StreamOwned::new(tls, tcp))
            }
        };
        let (mut buffer, mut used) = (Vec::new(), false);
        while !self.stopped.load(SeqCst) {
            let Some(head) = self.read_head(&mut *stream, &mut buffer)? else { return Ok(()) };
            if !std::mem::replace(&mut used, true) {
                self.connections.fetch_add(1, SeqCst);
            }
            let now = self.now.fetch_add(1, SeqCst) + 1;
            self.peak.fetch_max(now, SeqCst);
            let result = self.reply(&head, &mut *stream, &mut buffer);
            self.now.fetch_sub(1, SeqCst);
            if !result? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// True: the connection stays open.
    fn reply(
        &self,
        head: &Head,
        stream: &mut dyn Duplex,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let reply = (self.handler)(head);
        if let Reply::Early(status) = reply {
            stream.write_all(&answer(status, "Connection: close\r\n", b""))?;
            stream.flush()?;
            // Lingering close: what the client still sends is not answered with a reset.
            let _gone = read_body(head.length(), stream, buffer);
            return Ok(false);
        }
        if let Reply::Rude(status) = reply {
            return stream.write_all(&answer(status, "Connection: close\r\n", b"")).map(|()| false);
        }
        if let Reply::Reset = reply {
            // Closing with unread bytes in the socket resets the connection.
            return read_body(head.length() / 2, stream, buffer).map(|_part| false);
        }
        let body = read_body(head.length(), stream, buffer)?;
        let take = |body| self.taken.lock().unwrap().push(Taken { head: head.clone(), body });
        let bytes = match reply {
            Reply::Status(status) => {
                if (200..300).contains(&status) {
                    take(body);
                }
                answer(status, "", b"ok")
            }
            Reply::Full(status, headers, text) => {
                if (200..300).contains(&status) {
                    take(body);
                }
                answer(status, &headers, &text)
            }
            Reply::Refuse(status, text) => {
                let taken = Taken { head: head.clone(), body };
                let refused = memchr::memmem::find(&taken.raw(), text.as_bytes()).is_some();
                if !refused {
                    take(taken.body);
                }
                answer(if refused { status } else { 200 }, "", b"")
            }
            Reply::Slow(pause) => {
                std::thread::sleep(pause);
                take(body);
                answer(200, "", b"")
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes)?;
                stream.flush()?;
                return Ok(false);
            }
            Reply::Drip => {
                for byte in answer(200, "", b"ok") {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    self.wait(Duration::from_secs(1));
                }
                return Ok(false);
            }
            Reply::Blackhole => {
                self.wait(Duration::from_secs(60));
                return Ok(false);
            }
            Reply::Early(_) | Reply::Rude(_) | Reply::Reset => return Ok(false),
        };
        stream.write_all(&bytes)?;
        stream.flush()?;
        Ok(true)
    }

    fn wait(&self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until && !self.stopped.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn read_head(&self, stream: &mut dyn Duplex, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
                break end;
            }
            if fill(stream, buffer)? == 0 {
                return Ok(None);
            }
        };
        let text = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = text.trim_end().lines();
        let line = lines.next().unwrap().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let number = self.requests.fetch_add(1, SeqCst);
        let head = Head { number, line, headers, shown: stream.shown(), at: Instant::now() };
        self.heads.lock().unwrap().push(head.clone());
        Ok(Some(head))
    }
}

fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn read_body(length: usize, stream: &mut dyn Duplex, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if fill(stream, buffer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

fn fill(stream: &mut dyn Duplex, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..read]);
    Ok(read)
}
