//! When something arrives: an HTTP receiver that notes the moment a request is there, and a bare
//! client that posts to it. Plain blocking threads and sockets, so that little is measured but the
//! way here.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// A request that arrived.
#[derive(Debug)]
pub struct Arrival {
    /// When its last byte was read.
    pub at: Instant,
    body: Vec<u8>,
    zstd: bool,
}

impl Arrival {
    /// The body, decompressed.
    pub fn text(self) -> Result<Vec<u8>> {
        if !self.zstd {
            return Ok(self.body);
        }
        zstd::decode_all(&self.body[..]).context("A body is not zstd")
    }
}

/// A running receiver.
#[derive(Debug)]
pub struct Arrivals {
    address: SocketAddr,
    queue: mpsc::Receiver<Arrival>,
}

impl Arrivals {
    /// Listens on a free loopback port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (arrived, queue) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let arrived = arrived.clone();
                // A client that goes away is no event here.
                std::thread::spawn(move || serve(&stream, &arrived).ok());
            }
        });
        Ok(Self { address, queue })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request, if one arrives in time.
    pub fn next(&self, patience: Duration) -> Option<Arrival> {
        self.queue.recv_timeout(patience).ok()
    }
}

fn serve(stream: &TcpStream, arrived: &mpsc::Sender<Arrival>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::with_capacity(64 << 10, stream), stream);
    let mut line = String::new();
    loop {
        let (mut length, mut zstd) = (0, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            line.make_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else {
                // The request's first line, or the empty one at the end of the headers.
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match (name, value.trim()) {
                ("content-length", value) => length = value.parse().map_err(io::Error::other)?,
                ("content-encoding", value) => zstd = value == "zstd",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let arrival = Arrival { at: Instant::now(), body, zstd };
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        if arrived.send(arrival).is_err() {
            return Ok(());
        }
    }
}

/// A bare HTTP client: one connection, one write a request.
#[derive(Debug)]
pub struct Poster {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Poster {
    /// Connects to a receiver.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), request: Vec::new() })
    }

    /// Posts a body and waits for the reply; when it was sent.
    pub fn post(&mut self, body: &[u8]) -> Result<Instant> {
        self.request.clear();
        write!(self.request, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ")?;
        write!(self.request, "{}\r\n\r\n", body.len())?;
        self.request.extend_from_slice(body);
        let sent = Instant::now();
        self.stream.get_mut().write_all(&self.request)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            anyhow::ensure!(self.stream.read_line(&mut line)? > 0, "the receiver went away");
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_arrives_after_it_was_sent() {
        let arrivals = Arrivals::start().unwrap();
        let mut poster = Poster::connect(arrivals.address()).unwrap();
        for body in ["one", "two: 2\r\n\r\n"] {
            let sent = poster.post(body.as_bytes()).unwrap();
            let arrival = arrivals.next(Duration::from_secs(10)).unwrap();
            assert!(arrival.at >= sent);
            assert_eq!(arrival.text().unwrap(), body.as_bytes());
        }
        assert!(arrivals.next(Duration::ZERO).is_none());
    }
}
