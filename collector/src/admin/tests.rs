//! The port over real sockets: what it serves, what it refuses, what it bounds.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Port {
    address: SocketAddr,
    health: Arc<Health>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn port() -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new());
    let gauge = Arc::clone(&metrics);
    let state = State {
        metrics,
        health: Arc::clone(&health),
        report: Box::new(|| Report { node: "n1".to_owned(), ..Report::default() }),
        refresh: Box::new(move || _ = gauge.open_files.set(42)),
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(listener, Arc::new(state), stopped));
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
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
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
        let head = format!("{method} /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
async fn silent_connections_wait_for_nobody() {
    let port = port().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    // Each slot is free again when its head did not arrive in time.
    assert!(port.get("/healthz").await.contains(" 200 "));
    drop(silent);
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
