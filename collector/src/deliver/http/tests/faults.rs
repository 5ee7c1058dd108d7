//! Connections and replies that go wrong. Each fault must end in one delivery and one receipt.

use super::*;

/// Delivers through the faults and gives the times of the attempts.
async fn attempts(server: &Server, more: serde_json::Value) -> Vec<Instant> {
    let outcomes = deliver_one(&config(&server.url(), more), 3).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    let heads = server.heads();
    let ids: Vec<&str> = heads.iter().map(|head| head.header("everyline-batch-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(server.taken().last().unwrap().sequences(), [(0, 0), (0, 1), (0, 2)]);
    heads.into_iter().map(|head| head.at).collect()
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let running =
        Running::start(&config(&format!("http://{address}/"), json!({"compression": "none"})));
    running.send(running.receipts.file(0).batch(1));
    running.failed("connect").await;
    let troubles = running.troubles.clone();
    assert!(troubles.failure().unwrap().text.contains("Cannot deliver to"));
    let listener = std::net::TcpListener::bind(address).unwrap();
    let server = Server::start_on(listener, None, |_| Reply::Status(200));
    assert_eq!(running.finish().await, [Outcome::Delivered]);
    assert_eq!(server.heads().len(), 1);
    assert!(troubles.failure().is_none());
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let server = Server::first(vec![Reply::Blackhole, Reply::Blackhole]);
    let times = attempts(&server, json!({"timeout": "200ms", "compression": "none"})).await;
    assert_eq!(times.len(), 3);
    assert!(times[2] - times[0] >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_host_that_accepts_nothing_is_given_up_in_time() {
    // A full backlog: the handshake of further connections is never answered.
    let listener = full_backlog();
    let url = format!("http://{}/", listener.0.local_addr().unwrap());
    let running = Running::start(&config(&url, json!({"timeout": "200ms"})));
    running.send(running.receipts.file(0).batch(1));
    running.failed("timeout").await;
    running.handle.task.abort();
}

/// A listener whose queue of connections is full.
fn full_backlog() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let patience = Duration::from_millis(50);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
        held.push(stream);
        assert!(held.len() < 10_000, "the backlog has no end");
    }
    (listener, held)
}

#[tokio::test]
async fn a_reset_in_the_middle_of_the_body_is_tried_again() {
    let server = Server::first(vec![Reply::Reset, Reply::Reset]);
    let running_config = config(&server.url(), json!({"compression": "none"}));
    let running = Running::start(&running_config);
    let mut file = running.file(&running_config, 0);
    file.pad = 200_000;
    running.send(file.batch(3));
    assert_eq!(running.finish().await, [Outcome::Delivered]);
    assert_eq!(server.sequences(), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn a_reply_of_a_byte_a_second_meets_the_total_deadline() {
    let server = Server::first(vec![Reply::Drip]);
    let started = Instant::now();
    let times = attempts(&server, json!({"timeout": "1200ms", "compression": "none"})).await;
    assert_eq!(times.len(), 2);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reply_that_ends_early_is_no_acknowledgement() {
    let whole = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let server = Server::first(vec![
        whole("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
        whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
        whole("HTTP/1.1 200 OK\r\nContent-Le"),
        whole(""),
        whole("\x1b[31mnot http at all\r\n\r\n"),
        whole("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ]);
    assert_eq!(attempts(&server, json!({"compression": "none"})).await.len(), 7);
}

#[tokio::test]
async fn a_long_reply_is_read_but_an_endless_one_is_not() {
    let long = Reply::Full(200, String::new(), vec![b'x'; 3 << 20]);
    let server = Server::first(vec![long]);
    assert_eq!(attempts(&server, json!({"compression": "none"})).await.len(), 1);

    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 20 << 20]].concat();
    let headers = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes();
    let server = Server::first(vec![Reply::Raw(endless), Reply::Raw(headers)]);
    assert_eq!(attempts(&server, json!({"compression": "none", "timeout": "5s"})).await.len(), 3);
}

#[tokio::test]
async fn retry_after_is_respected_in_both_forms() {
    let server = Server::first(vec![Reply::Full(429, "Retry-After: 1\r\n".into(), vec![])]);
    let times = attempts(&server, json!({"backoff_max": "5s"})).await;
    assert!(times[1] - times[0] >= Duration::from_secs(1));

    let date = jiff::Timestamp::now() + Duration::from_secs(2);
    let date =
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
    let server = Server::first(vec![Reply::Full(503, format!("Retry-After: {date}\r\n"), vec![])]);
    let times = attempts(&server, json!({"backoff_max": "5s"})).await;
    // Dates have whole seconds.
    assert!(times[1] - times[0] >= Duration::from_millis(900), "{:?}", times[1] - times[0]);
}

#[tokio::test]
async fn an_absurd_retry_after_is_bounded() {
    let absurd = ["1000000000000", "1e12", "-5", "Wed, 06 Nov 2999 08:49:37 GMT"];
    let replies = absurd.map(|text| Reply::Full(429, format!("Retry-After: {text}\r\n"), vec![]));
    let server = Server::first(replies.into());
    let started = Instant::now();
    assert_eq!(attempts(&server, json!({"backoff_max": "100ms"})).await.len(), 5);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_storm_of_server_errors_is_outlived() {
    let statuses = [500, 502, 503, 504, 408, 425, 429];
    let replies = (0..42).map(|n| Reply::Status(statuses[n % statuses.len()])).collect();
    let server = Server::first(replies);
    let more = json!({"backoff_base": "1ms", "backoff_max": "5ms", "on_reject": "drop"});
    assert_eq!(attempts(&server, more).await.len(), 43);
}

#[tokio::test]
async fn aborting_settles_nothing() {
    let server = Server::start(|_| Reply::Blackhole);
    let running = Running::start(&config(&server.url(), json!({})));
    for lane in 0..4 {
        running.send(running.receipts.file(lane).batch(1));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.handle.task.abort();
    assert!(running.handle.task.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(running.receipts.all().is_empty());
    assert_eq!(
        running.metrics.render().unwrap().lines().filter(|l| l.contains("concurrency{")).count(),
        1
    );
}
