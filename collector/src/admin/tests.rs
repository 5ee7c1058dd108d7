//! The port over real sockets: what it serves, what it refuses, what it bounds.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    admin::{answer::PER_ADDRESS, connections::MOST},
    ledger::report::FileReport,
};

struct Port {
    address: SocketAddr,
    health: Arc<Health>,
    stop: watch::Sender<bool>,
    task: task::JoinHandle<()>,
}

async fn port() -> Port {
    port_with(Vec::new()).await
}

/// A port whose report has these files.
async fn port_with(files: Vec<FileReport>) -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new());
    let gauge = Arc::clone(&metrics);
    let state = State {
        metrics,
        health: Arc::clone(&health),
        report: Box::new(move || {
            let (node, files) = ("n1".to_owned(), files.clone());
            Report { node, files, ..Report::default() }
        }),
        refresh: Box::new(move || _ = gauge.open_files.set(42)),
        hosts: Hosts::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(listener, state, stopped));
    Port { address, health, stop, task }
}

impl Port {
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        let read = time::timeout(Duration::from_secs(10), stream.read_to_end(&mut reply)).await;
        // A server that closes with unread input resets the connection.
        drop(read.expect("a reply in time"));
        String::from_utf8(reply).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await
    }
}

#[tokio::test]
async fn every_path_is_served() {
    let port = port().await;
    let metrics = port.get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(metrics.contains("\neveryline_open_files 42\n"), "refreshed first: {metrics}");
    assert!(metrics.ends_with("# EOF\n"));

    let status = port.get("/status?x=y").await;
    let body = status.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<Report>(body).unwrap().node, "n1");

    assert!(port.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(port.get("/readyz").await.starts_with("HTTP/1.1 503"));
    port.health.set_ready(true);
    assert!(port.get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(port.get("/etc/passwd").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn nothing_but_get_is_served() {
    let port = port().await;
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH"] {
        let head =
            format!("{method} /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let reply = port.send(&head).await;
        assert!(reply.starts_with("HTTP/1.1 405") && reply.contains("allow: GET"), "{reply}");
    }
}

#[tokio::test]
async fn large_heads_and_garbage_are_refused() {
    let port = port().await;
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD * 4));
    let reply = port.send(&large).await;
    assert!(!reply.contains(" 200 "), "{reply}");
    let garbage = port.send("\u{0}\u{1}\r\n\r\n").await;
    assert!(!garbage.contains(" 200 "), "{garbage}");
    assert!(port.get("/").await.contains(" 200 "), "it goes on");
}

#[tokio::test]
async fn silent_connections_keep_nobody_waiting() {
    let port = port().await;
    let mut silent = Vec::new();
    for _ in 0..MOST * 3 {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    let began = Instant::now();
    assert!(port.get("/healthz").await.contains(" 200 "));
    assert!(began.elapsed() < HEAD_TIMEOUT / 2, "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn heads_that_come_byte_by_byte_keep_nobody_waiting() {
    let port = port().await;
    for _ in 0..MOST * 2 {
        let mut slow = TcpStream::connect(port.address).await.unwrap();
        tokio::spawn(async move {
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n".iter().cycle() {
                if slow.write_all(&[*byte]).await.is_err() {
                    return;
                }
                time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    for _ in 0..20 {
        let began = Instant::now();
        assert!(port.get("/healthz").await.contains(" 200 "));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

/// They send requests without end and read no answer.
#[tokio::test]
async fn pipelined_requests_keep_nobody_waiting() {
    let port = port().await;
    for _ in 0..MOST * 2 {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        tokio::spawn(async move {
            let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
            while stream.write_all(&requests).await.is_ok() {}
        });
    }
    for _ in 0..20 {
        let began = Instant::now();
        assert!(port.get("/readyz").await.contains(" 503 "));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

/// Files enough that the answer does not fit into any socket's buffers.
fn many_files() -> Vec<FileReport> {
    let file = FileReport { path: "x".repeat(2_000), ..FileReport::default() };
    vec![file; 10_000]
}

#[tokio::test]
async fn who_reads_a_large_answer_slowly_gives_way() {
    let port = port_with(many_files()).await;
    let mut slow = Vec::new();
    for _ in 0..PER_ADDRESS {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // The answer has begun, and is read no further.
        slow.push(stream);
    }
    time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    assert!(port.get("/healthz").await.contains(" 200 "));
    assert!(began.elapsed() < Duration::from_secs(1), "a probe needs no place");
    let status = loop {
        let status = port.get("/status").await;
        if status.starts_with("HTTP/1.1 200") {
            break status;
        }
        // As many of this address as may wait do so.
        assert!(
            status.starts_with("HTTP/1.1 503") && status.contains("retry-after: 1"),
            "{status}"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
        time::sleep(Duration::from_millis(200)).await;
    };
    let body = status.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<Report>(body).unwrap().files.len(), 10_000, "whole");
}

#[tokio::test]
async fn names_of_others_are_refused() {
    let port = port().await;
    for path in ["/status", "/metrics", "/healthz", "/"] {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let reply = port.send(&head).await;
        assert!(reply.starts_with("HTTP/1.1 421 ") && reply.contains("admin.hosts"), "{reply}");
        assert!(!reply.contains("evil"), "{reply}");
    }
    let both =
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(port.send(both).await.starts_with("HTTP/1.1 421 "));
    assert!(port.send("GET /status HTTP/1.0\r\n\r\n").await.contains(" 200 "));
}

#[tokio::test]
async fn it_stops_when_told_to() {
    let port = port().await;
    let _open = TcpStream::connect(port.address).await.unwrap();
    port.stop.send(true).unwrap();
    time::timeout(Duration::from_secs(5), port.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(port.address).await.is_err());
}

#[test]
fn an_agent_that_does_not_tick_is_stuck() {
    let mut health = Health::new();
    assert!(health.is_alive());
    health.began = Instant::now().checked_sub(STUCK_AFTER * 2).unwrap();
    assert!(!health.is_alive());
    health.tick();
    assert!(health.is_alive());
}
