//! The sink over real sockets, with a client of a few lines.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    loadgen::Messages,
    oracle::Limits,
    tag::{Stream, Writer},
};

async fn start(faults: Faults) -> (std::net::SocketAddr, Arc<Server>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(Oracle::new(Limits::default()), faults, None);
    tokio::spawn(serve(listener, Arc::clone(&server)));
    (address, server)
}

/// The reply's head and body, or nothing if the connection was dropped.
async fn send(to: std::net::SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let length = body.len();
    let head = format!("{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    let head = match head.split_once(" + ") {
        Some((line, header)) => {
            let (header, rest) = header.split_once(" HTTP/1.1\r\n").unwrap();
            format!("{line} HTTP/1.1\r\n{header}\r\n{rest}")
        }
        None => head,
    };
    let head = format!("{head}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok();
    stream.write_all(body).await.ok();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.ok();
    String::from_utf8_lossy(&reply).into_owned()
}

fn body(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let (mut messages, mut message) = (Messages::new(Writer(0), 1), Vec::new());
    let mut body = String::new();
    for number in 0..numbers.end {
        messages.next(Stream::Stdout, &mut message);
        if number >= numbers.start {
            let value = serde_json::json!({
                "log.record.uid": format!("1-{number:x}"),
                "body": String::from_utf8_lossy(&message),
                "log.iostream": "stdout",
                "container.id": Writer(0).container_id(),
            });
            body += &format!("{value}\n");
        }
    }
    body.into_bytes()
}

#[tokio::test]
async fn takes_every_encoding_and_reports() {
    let (to, _) = start(Faults::none()).await;
    assert!(send(to, "POST /x", &body(0..10)).await.starts_with("HTTP/1.1 200"));
    let zstd = zstd::encode_all(&body(10..20)[..], 1).unwrap();
    let reply = send(to, "POST /x + Content-Encoding: zstd", &zstd).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &body(20..30)).unwrap();
    let reply = send(to, "POST /x + Content-Encoding: gzip", &gzip.finish().unwrap()).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let reply = send(to, "POST /x + Content-Encoding: gzip", b"junk").await;
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");

    let reply = send(to, "GET /report", b"").await;
    let report: Report = serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.received, 30);
}

#[tokio::test]
async fn refusals_take_nothing_in() {
    for (faults, status) in [
        (Faults { unavailable: 1.0, ..Faults::none() }, "HTTP/1.1 503"),
        (Faults { throttle: 1.0, retry_after: 7, ..Faults::none() }, "HTTP/1.1 429"),
        (Faults { reset: 1.0, ..Faults::none() }, ""),
    ] {
        let (to, server) = start(faults).await;
        let reply = send(to, "POST /x", &body(0..10)).await;
        assert!(reply.starts_with(status) && reply.is_empty() == status.is_empty(), "{reply}");
        assert_eq!(reply.contains("retry-after: 7"), faults.throttle > 0.0);
        assert_eq!(server.report().records, 0);
        send(to, "POST /calm", b"").await;
        assert!(send(to, "POST /x", &body(0..10)).await.starts_with("HTTP/1.1 200"));
        assert!(server.report().ok);
    }
}

#[tokio::test]
async fn a_lost_reply_explains_its_doubles() {
    let (to, server) = start(Faults { lose_reply: 1.0, ..Faults::none() }).await;
    assert_eq!(send(to, "POST /x", &body(0..10)).await, "");
    assert_eq!(server.report().received, 10);
    send(to, "POST /calm", b"").await;
    send(to, "POST /x", &body(0..10)).await;
    let report = server.report();
    assert!(report.ok && report.doubled == 10, "{report:?}");
    send(to, "POST /x", &body(10..20)).await;
    send(to, "POST /x", &body(10..20)).await;
    assert_eq!(server.report().doubled_unexplained, 10);
    send(to, "POST /x", &body(20..30)).await;
    send(to, "POST /killed", b"").await;
    send(to, "POST /x", &body(20..30)).await;
    assert_eq!(server.report().doubled_unexplained, 10);
}

#[tokio::test]
async fn a_stall_is_answered_late() {
    let (to, server) = start(Faults { stall: 1.0, stall_ms: 300, ..Faults::none() }).await;
    let begun = std::time::Instant::now();
    assert!(send(to, "POST /x", &body(0..3)).await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(server.report().ok);
}
