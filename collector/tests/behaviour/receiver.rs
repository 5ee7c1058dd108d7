//! A small HTTP server that takes NDJSON batches, with faults on demand.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::harness::patience;

/// What the receiver does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 503, not taken.
    Unavailable,
    /// Taken, and the connection is closed without a reply.
    ReplyLost,
    /// The connection is closed in the middle of the request; not taken.
    Reset,
    /// Not taken, and never answered.
    Silent,
}

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: Vec<Value>,
    text: String,
    requests: usize,
    faults: Vec<(usize, Fault)>,
    every: Vec<Fault>,
    refuse: Option<Refuse>,
    refused: usize,
    connections: usize,
    /// The only `Authorization` (lower case) that is taken, and the status for all others.
    welcome: Option<(String, u16)>,
}

/// Decides by the certificate that a client shows: the status to refuse it with.
pub(crate) type Admit = Arc<dyn Fn(Option<&[u8]>) -> Option<u16> + Send + Sync>;

/// The status to refuse a body with; None: it is taken.
type Refuse = Box<dyn Fn(&str) -> Option<u16> + Send>;

impl Receiver {
    /// A receiver; every `period`-th request meets the faults in turn (0: none do).
    pub(crate) fn start(faults: &[(usize, Fault)]) -> Self {
        let receiver = Self::start_at(("127.0.0.1", 0), None);
        receiver.state.lock().unwrap().faults = faults.to_vec();
        receiver
    }

    /// A receiver at this address, with TLS if that is given.
    pub(crate) fn start_at(address: (&str, u16), tls: Option<(Arc<ServerConfig>, Admit)>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, state: Arc::default() };
        let served = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, tls) = (served.clone(), tls.clone());
                served.state.lock().unwrap().connections += 1;
                std::thread::spawn(move || match tls {
                    None => served.serve(stream, |_| None),
                    Some((config, admit)) => {
                        let tls = ServerConnection::new(config).unwrap();
                        served.serve(StreamOwned::new(tls, stream), |stream| {
                            let shown = stream.conn.peer_certificates();
                            admit(shown.and_then(|chain| chain.first()).map(|it| it.as_ref()))
                        });
                    }
                });
            }
        });
        receiver
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Requests so far, of all kinds.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let deadline = Instant::now() + patience();
        while self.requests() < count {
            assert!(Instant::now() < deadline, "{} requests came", self.requests());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A sink that sends here.
    pub(crate) fn sink(&self) -> String {
        format!(
            "  out:\n    type: http\n    url: http://127.0.0.1:{}/\n    backoff_base: 10ms\n    backoff_max: 100ms\n    timeout: 5s\n",
            self.port
        )
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.state.lock().unwrap().records.clone()
    }

    /// The bodies, as they came.
    pub(crate) fn text(&self) -> String {
        self.state.lock().unwrap().text.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().records.len()
    }

    pub(crate) fn wait_until(&self, what: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + patience();
        loop {
            let records = self.records();
            if done(&records) {
                return records;
            }
            assert!(Instant::now() < deadline, "{what}: {} records arrived", records.len());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn serve<S: Read + Write>(&self, stream: S, admit: impl Fn(&S) -> Option<u16>) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut length, mut encoding, mut authorization) = (0, String::new(), String::new());
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            loop {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                let lower = line.trim().to_ascii_lowercase();
                if lower.is_empty() {
                    break;
                }
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if let Some(value) = lower.strip_prefix("authorization:") {
                    value.trim().clone_into(&mut authorization);
                }
                if let Some(value) = lower.strip_prefix("content-encoding:") {
                    value.trim().clone_into(&mut encoding);
                }
            }
            let fault = self.next_fault();
            if fault == Some(Fault::Reset) {
                return;
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            if fault == Some(Fault::Silent) {
                std::thread::sleep(Duration::from_secs(600));
                return;
            }
            if fault == Some(Fault::Unavailable) {
                let reply = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
                let _gone = reader.get_mut().write_all(reply.as_bytes());
                continue;
            }
            let text = unpacked(&body, &encoding);
            let unwelcome = admit(reader.get_ref()).or_else(|| self.is_unwelcome(&authorization));
            if let Some(status) = unwelcome.or_else(|| self.judge(&text)) {
                let reply =
                    format!("HTTP/1.1 {status} Refused\r\nContent-Length: 4\r\n\r\nno\u{1b}:");
                let _gone = reader.get_mut().write_all(reply.as_bytes());
                continue;
            }
            self.take(&text);
            if fault == Some(Fault::ReplyLost) {
                return;
            }
            let taken = reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            if taken.and_then(|()| reader.get_mut().flush()).is_err() {
                return;
            }
        }
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let number = state.requests;
        state.requests += 1;
        state.every.first().copied().or_else(|| {
            state
                .faults
                .iter()
                .find(|(period, _)| *period > 0 && number % period == period - 1)
                .map(|(_, fault)| *fault)
        })
    }

    /// From now on every request meets this fault (or none).
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.state.lock().unwrap().every = fault.into_iter().collect();
    }

    /// From now on a request that holds this text is refused.
    pub(crate) fn refuse(&self, text: &str) {
        let text = text.to_owned();
        self.refuse_by(move |body| body.contains(&text).then_some(400));
    }

    /// From now on bodies are refused as this says.
    pub(crate) fn refuse_by(&self, refuse: impl Fn(&str) -> Option<u16> + Send + 'static) {
        self.state.lock().unwrap().refuse = Some(Box::new(refuse));
    }

    /// From now on requests with any other `Authorization` (lower case) are answered with `status`.
    pub(crate) fn accept_only(&self, authorization: &str, status: u16) {
        self.state.lock().unwrap().welcome = Some((authorization.to_owned(), status));
    }

    fn is_unwelcome(&self, authorization: &str) -> Option<u16> {
        let state = self.state.lock().unwrap();
        state.welcome.as_ref().filter(|(only, _)| only != authorization).map(|(_, status)| *status)
    }

    /// How many requests were refused that way.
    pub(crate) fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }

    fn judge(&self, text: &str) -> Option<u16> {
        let mut state = self.state.lock().unwrap();
        let status = state.refuse.as_ref().and_then(|refuse| refuse(text));
        state.refused += usize::from(status.is_some());
        status
    }

    fn take(&self, text: &str) {
        let records = text.lines().map(|line| serde_json::from_str(line).expect(line));
        let records: Vec<Value> = records.collect();
        let mut state = self.state.lock().unwrap();
        state.records.extend(records);
        state.text += text;
    }
}

fn unpacked(body: &[u8], encoding: &str) -> String {
    let text = match encoding {
        "zstd" => zstd::decode_all(body).unwrap(),
        "gzip" => {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(body).read_to_end(&mut text).unwrap();
            text
        }
        _ => body.to_vec(),
    };
    String::from_utf8(text).unwrap()
}
