//! Failures that come of something out of date, and what is renewed then.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{tls::Authority, *};

/// A pace that a test can wait for.
const QUICK: Pace = Pace { every: Duration::from_millis(300), at_last: Duration::from_secs(600) };

/// Whatever the status, a secret that changed is used at once.
#[tokio::test]
async fn any_status_makes_a_renewed_secret_be_used() {
    for status in [400, 401, 403, 404, 407, 413, 422, 500, 503] {
        let server = Server::start(move |head| match head.header("authorization") {
            "Bearer new" => Reply::Status(200),
            _ => Reply::Status(status),
        });
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "old").unwrap();
        let more = json!({"auth": {"bearer_token_file": token.path()}, "on_reject": "drop"});
        let running = Running::start(&config(&server.url(), more));
        std::fs::write(token.path(), "new").unwrap();
        running.send(running.receipts.file(0).batch(3));
        assert_eq!(running.finish().await, [Outcome::Delivered], "{status}");
        assert_eq!(server.heads().len(), 2, "{status}: at once");
    }
}

/// A certificate of a client's and its key, in files.
struct Client {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Client {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() }
    }

    fn issue(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        self.authority.issue(&["agent"], false)
    }

    fn put(&self, name: &str, pem: &str) {
        std::fs::write(self.dir.path().join("new"), pem).unwrap();
        std::fs::rename(self.dir.path().join("new"), self.dir.path().join(name)).unwrap();
    }

    /// A server that answers `status` to whoever does not show `wanted`, and how to reach it.
    fn server(&self, wanted: &rcgen::Certificate, status: u16) -> (Server, config::Http) {
        let (ca, wanted) = (Authority::new(), wanted.der().to_vec());
        let certificate = ca.issue(&["localhost"], false);
        let server = ca.server_with(certificate, Some(&self.authority), move |head| {
            Reply::Status(if head.shown.as_ref() == Some(&wanted) { 200 } else { status })
        });
        let path = |name| self.dir.path().join(name);
        self.put("ca", &std::fs::read_to_string(ca.file()).unwrap());
        let tls =
            json!({"ca_file": path("ca"), "cert_file": path("cert"), "key_file": path("key")});
        let url = format!("https://localhost:{}/", server.address().port());
        let config = config(&url, json!({"tls": tls, "on_reject": "drop"}));
        (server, config)
    }
}

#[tokio::test]
async fn any_status_makes_a_renewed_client_certificate_be_shown() {
    // Nginx says 400 and 495 to an expired certificate, others 403.
    for status in [400, 403, 495, 503] {
        let client = Client::new();
        let (old, new) = (client.issue(), client.issue());
        let (server, config) = client.server(&new.0, status);
        client.put("cert", &old.0.pem());
        client.put("key", &old.1.serialize_pem());
        let running = Running::start(&config);
        client.put("cert", &new.0.pem());
        client.put("key", &new.1.serialize_pem());
        running.send(running.receipts.file(0).batch(2));
        assert_eq!(running.finish().await, [Outcome::Delivered], "{status}");
        assert_eq!(server.heads().len(), 2, "{status}: at once");
    }
}

#[tokio::test]
async fn a_key_that_is_not_renewed_yet_keeps_the_old_certificate() {
    let client = Client::new();
    let (old, new) = (client.issue(), client.issue());
    let (server, config) = client.server(&new.0, 503);
    client.put("cert", &old.0.pem());
    client.put("key", &old.1.serialize_pem());
    let running = Running::start_at(&config, QUICK);
    client.put("cert", &new.0.pem());
    running.send(running.receipts.file(0).batch(2));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(server.heads().iter().all(|head| head.shown == Some(old.0.der().to_vec())));
    assert!(server.connections() > 1, "connections are made anew all the same");
    client.put("key", &new.1.serialize_pem());
    assert_eq!(running.finish().await, [Outcome::Delivered]);
}

/// All connections go to a server that answers, but not as it should.
#[tokio::test]
async fn connections_are_made_anew_at_a_bounded_rate_while_deliveries_fail() {
    let healthy = Arc::new(AtomicBool::new(false));
    let answer = healthy.clone();
    let server = Server::start(move |_| match answer.load(SeqCst) {
        true => Reply::Status(200),
        false => Reply::Status(503),
    });
    let more = json!({"backoff_base": "1ms", "backoff_max": "4ms"});
    let running = Running::start_at(&config(&server.url(), more), QUICK);
    running.send(running.receipts.file(0).batch(1));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let (requests, connections) = (server.heads().len(), server.connections());
    healthy.store(true, SeqCst);
    assert_eq!(running.finish().await, [Outcome::Delivered]);
    assert!(requests > 30, "{requests}");
    assert!((2..=5).contains(&connections), "{connections} for {requests} requests");
}

#[tokio::test]
async fn a_connection_that_works_is_made_anew_now_and_then() {
    let server = Server::always(200);
    let pace = |at_last| Pace { every: Duration::from_secs(60), at_last };
    for (at_last, expected) in [(Duration::from_secs(60), 1), (Duration::from_millis(100), 3)] {
        let before = server.connections();
        let running = Running::start_at(&config(&server.url(), json!({})), pace(at_last));
        let mut file = running.receipts.file(0);
        for _ in 0..5 {
            running.send(file.batch(1));
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(running.finish().await, [Outcome::Delivered; 5]);
        let made = server.connections() - before;
        assert!(made >= expected && made <= 2 * expected, "{made} connections");
    }
}

/// Records that are refused among others that are taken are no reason to begin anew.
#[tokio::test]
async fn a_refused_record_among_others_costs_no_connection() {
    let server = Server::start(|_| Reply::Refuse(400, "0:7:"));
    let pace = Pace { every: Duration::ZERO, ..QUICK };
    let more = json!({"compression": "none", "on_reject": "drop"});
    let running = Running::start_at(&config(&server.url(), more.clone()), pace);
    let mut file = running.file(&config(&server.url(), more), 0);
    for _ in 0..3 {
        running.send(file.batch(5));
    }
    assert_eq!(running.finish().await.len(), 4, "three batches, and what was dropped");
    assert_eq!(server.connections(), 1);
}
