//! Many lanes at once: order within each, no waiting for each other.

use std::collections::BTreeMap;

use super::{server::Head, *};

const LANES: u32 = 8;
const BATCHES: usize = 12;

/// A fault by request number, the same at every run. A record by itself is never called too large: it
/// would be parked, for a reader to send it again, and there is none here.
fn fault(head: &Head) -> Reply {
    let mixed = (head.number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    let is_single = head.header("everyline-batch-id").ends_with("+1");
    match mixed {
        4 if is_single => Reply::Status(503),
        0 => Reply::Status(503),
        1 => Reply::Status(429),
        2 => Reply::Reset,
        3 => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()),
        4 => Reply::Early(413),
        5 => Reply::Slow(Duration::from_millis(20)),
        _ => Reply::Status(200),
    }
}

#[tokio::test]
async fn order_is_kept_within_a_lane_through_faults_and_concurrency() {
    let server = Server::start(fault);
    let config = config(
        &server.url(),
        json!({"compression": "none", "concurrency": 6, "backoff_base": "1ms", "backoff_max": "10ms"}),
    );
    let running = Running::start(&config);
    let mut files: Vec<_> = (0..LANES).map(|lane| running.file(&config, lane)).collect();
    for _ in 0..BATCHES {
        for file in &mut files {
            running.send(file.batch(4));
        }
    }
    let outcomes = running.finish().await;
    assert_eq!(outcomes.len(), LANES as usize * BATCHES);
    let mut lanes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (lane, sequence) in server.sequences() {
        lanes.entry(lane).or_default().push(sequence);
    }
    let expected: Vec<u64> = (0..BATCHES as u64 * 4).collect();
    for lane in 0..LANES {
        // Whatever the server said 200 to is not sent again in this run: its answers all arrive.
        assert_eq!(lanes[&lane], expected, "lane {lane}");
    }
    assert!(server.peak() <= 6, "{} at once", server.peak());
}

#[tokio::test]
async fn lanes_are_on_the_way_side_by_side_and_one_is_not() {
    let server = Server::start(|_| Reply::Slow(Duration::from_millis(30)));
    let config = config(&server.url(), json!({"concurrency": 4}));
    let running = Running::start(&config);
    for lane in 0..8 {
        let mut file = running.file(&config, lane);
        (0..5).for_each(|_| running.send(file.batch(1)));
    }
    running.finish().await;
    assert_eq!(server.peak(), 4);

    let server = Server::start(|_| Reply::Slow(Duration::from_millis(5)));
    let config = super::config(&server.url(), json!({"concurrency": 4}));
    let running = Running::start(&config);
    let mut file = running.file(&config, 0);
    (0..10).for_each(|_| running.send(file.batch(1)));
    running.finish().await;
    assert_eq!(server.peak(), 1);
}

#[tokio::test]
async fn a_lane_that_is_refused_does_not_hold_up_the_others() {
    let server = Server::start(|head| {
        let refused = head.header("everyline-batch-id") == REFUSED.get().map_or("", |id| id);
        Reply::Status(if refused { 404 } else { 200 })
    });
    static REFUSED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let config = config(&server.url(), json!({"concurrency": 1}));
    let running = Running::start(&config);
    // Learn the id that the first batch of lane 0 has.
    let probe = Server::always(200);
    deliver_one(&super::config(&probe.url(), json!({})), 1).await;
    REFUSED.set(probe.heads()[0].header("everyline-batch-id").to_owned()).unwrap();
    running.send(running.file(&config, 0).batch(1));
    let mut other = running.file(&config, 1);
    (0..10).for_each(|_| running.send(other.batch(1)));
    let mut settled = Vec::new();
    while settled.len() < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        settled.extend(running.receipts.all());
    }
    let other = other.account.id;
    assert!(settled.iter().all(|receipt| receipt.ranges[0].file.id == other));
    running.handle.task.abort();
}
