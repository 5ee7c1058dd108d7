//! What a well-behaved server gets, and what a server may refuse.

use super::*;
use crate::reason::Reason;

#[tokio::test]
async fn a_batch_arrives_with_everything_a_server_needs_to_know() {
    let server = Server::always(204);
    for compression in ["zstd", "gzip", "none"] {
        for body in ["ndjson", "json"] {
            let more = json!({
                "compression": compression, "body": body, "headers": {"X-Tenant": "shop"},
            });
            let config = config(&server.url(), more);
            assert_eq!(deliver_one(&config, 3).await, [Outcome::Delivered]);
            let taken = server.taken().pop().unwrap();
            assert_eq!(taken.head.line, "POST /ingest?key=hush HTTP/1.1");
            assert_eq!(
                taken.head.header("content-type"),
                match body {
                    "json" => "application/json",
                    _ => "application/x-ndjson",
                }
            );
            let encoding = if compression == "none" { "" } else { compression };
            assert_eq!(taken.head.header("content-encoding"), encoding);
            assert_eq!(taken.head.header("x-tenant"), "shop");
            assert!(taken.head.header("user-agent").starts_with("everyline/"));
            assert_eq!(taken.head.header("everyline-batch-id").len(), 32);
            assert_eq!(taken.sequences(), [(0, 0), (0, 1), (0, 2)]);
        }
    }
    // The same records have the same id, whatever the encoding.
    let ids: Vec<String> =
        server.heads().iter().map(|head| head.header("everyline-batch-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_batch_too_large_is_split_until_the_server_takes_it() {
    for (body, compression) in [("ndjson", "none"), ("json", "none"), ("ndjson", "zstd")] {
        let bound = if compression == "zstd" { 250 } else { 700 };
        let server = Server::start(move |head| match head.length() {
            length if length > bound => Reply::Early(413),
            _ => Reply::Status(200),
        });
        let config = config(&server.url(), json!({"body": body, "compression": compression}));
        let running = Running::start(&config);
        let mut file = running.file(&config, 0);
        running.send(file.batch(40));
        running.send(file.batch(1));
        assert_eq!(running.finish().await, [Outcome::Delivered; 2]);
        let expected: Vec<(u32, u64)> = (0..41).map(|n| (0, n)).collect();
        assert_eq!(server.sequences(), expected, "each once, in order");
        let mut ids: Vec<String> = server
            .taken()
            .iter()
            .map(|taken| taken.head.header("everyline-batch-id").to_owned())
            .collect();
        let pieces = ids.len();
        ids.dedup();
        assert!(pieces > 2 && ids.len() == pieces, "{ids:?}");
    }
}

#[tokio::test]
async fn a_refusal_without_reading_the_body_is_understood() {
    for rude in [false, true] {
        let server = Server::start(move |head| match head.length() {
            length if length <= 700_000 => Reply::Status(200),
            _ if rude => Reply::Rude(413),
            _ => Reply::Early(413),
        });
        let config = config(&server.url(), json!({"compression": "none"}));
        let running = Running::start(&config);
        let mut file = running.file(&config, 0);
        file.pad = 300_000;
        running.send(file.batch(8));
        assert_eq!(running.finish().await, [Outcome::Delivered]);
        assert_eq!(server.sequences(), (0..8).map(|n| (0, n)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_record_too_large_by_itself_is_dropped_only_with_leave() {
    let big = |head: &server::Head| head.length() > 400;
    let server = Server::start(move |head| Reply::Status(if big(head) { 413 } else { 200 }));
    let config_drop = config(&server.url(), json!({"on_reject": "drop", "compression": "none"}));
    let running = Running::start(&config_drop);
    let mut file = running.file(&config_drop, 0);
    file.pad = 500;
    let mut small = running.file(&config_drop, 0);
    // A batch of which only the middle record is too large.
    let first = small.batch(1);
    small.batch(1);
    file.batch(1);
    let batch = join(vec![first, file.batch(1), small.batch(1)]);
    running.send(batch);
    assert_eq!(
        running.finish().await,
        [Outcome::Dropped(Reason::TooLarge), Outcome::Delivered],
        "one receipt for the line given up, one for the rest"
    );
    assert_eq!(server.sequences(), [(0, 0), (0, 2)]);

    // Without leave it is given back, to be tried until somebody raises the server's limit.
    let server = Server::start(move |head| Reply::Status(if big(head) { 413 } else { 200 }));
    let config = config(&server.url(), json!({"compression": "none"}));
    let running = Running::start(&config);
    let mut file = running.file(&config, 0);
    file.pad = 500;
    running.send(file.batch(1));
    assert!(matches!(running.finish().await[..], [Outcome::Parked(_)]));
}

#[tokio::test]
async fn a_refused_batch_is_dropped_only_with_leave() {
    let server = Server::always(400);
    let drop_it = config(&server.url(), json!({"on_reject": "drop"}));
    let dropped = Outcome::Dropped(Reason::Rejected);
    assert_eq!(deliver_one(&drop_it, 2).await, [dropped, Outcome::Delivered]);
    assert_eq!(server.heads().len(), 3, "whole, then each record by itself");

    let server = Server::always(400);
    let outcomes = deliver_one(&config(&server.url(), json!({})), 2).await;
    assert!(matches!(outcomes[..], [Outcome::Parked(_)]), "{outcomes:?}");
}

#[tokio::test]
async fn refused_credentials_never_cost_a_batch_and_are_read_again() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "old\n").unwrap();
    let server = Server::start(|head| {
        Reply::Status(if head.header("authorization") == "Bearer new" { 200 } else { 401 })
    });
    let more = json!({"auth": {"bearer_token_file": token.path()}, "on_reject": "drop"});
    let running = Running::start(&config(&server.url(), more));
    running.send(running.receipts.file(0).batch(1));
    running.failed("4xx").await;
    assert!(running.receipts.all().is_empty());
    std::fs::write(token.path(), "new\n").unwrap();
    assert_eq!(running.finish().await, [Outcome::Delivered]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::always(200);
    let location = format!("Location: {}\r\n", elsewhere.url());
    let replies = [301, 302, 307, 308].map(|s| Reply::Full(s, location.clone(), vec![]));
    let server = Server::first(replies.into());
    let config = config(&server.url(), json!({"on_reject": "drop"}));
    assert_eq!(deliver_one(&config, 1).await, [Outcome::Delivered]);
    assert_eq!(server.heads().len(), 5);
    assert!(elsewhere.heads().is_empty());
}

#[tokio::test]
async fn what_the_operator_reads_is_safe_and_without_secrets() {
    let server = Server::always(200);
    let config = config(&server.url(), json!({"headers": {"X-Key": "hunter2"}}));
    let fault = Fault { sink: "h" };
    let url = config.url.uri().clone();
    let files = super::super::tls::Files::read(&config.tls, false, fault).unwrap();
    let client = Client::new(url, proxy::Route::Direct, files, &config);
    assert_eq!(client.shown(), format!("http://{}/ingest", server.address()));
    assert!(!format!("{:?}", request_headers(&config)).contains("hunter2"));
}
