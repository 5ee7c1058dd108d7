//! Records that the server refuses: they are found, and nothing else waits for them.

use super::*;
use crate::{batch::Receipt, reason::Reason};

/// An uncompressed configuration.
fn plain(server: &Server, more: serde_json::Value) -> config::Http {
    let mut all = json!({"compression": "none"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config(&server.url(), all)
}

/// Closes the queue, waits for the end and gives every receipt.
async fn settled(running: Running) -> Vec<Receipt> {
    drop(running.handle.queue);
    let ended = tokio::time::timeout(Duration::from_secs(30), running.handle.task).await;
    ended.expect("the sink must end with its queue").unwrap();
    running.receipts.all()
}

/// Lines and bytes of a file under an outcome.
fn sums(receipts: &[Receipt], file: &TestFile, of: impl Fn(Outcome) -> bool) -> (u32, u64) {
    let ranges = receipts.iter().filter(|it| of(it.outcome)).flat_map(|it| &it.ranges);
    let its = ranges.filter(|range| Arc::ptr_eq(&range.file, &file.account));
    its.fold((0, 0), |sum, range| (sum.0 + range.lines, sum.1 + range.bytes))
}

/// Three sources in one lane, of which file 1 has a record that is refused at `bad` of its 20.
fn batch(running: &Running, config: &config::Http, bad: u32) -> ([TestFile; 3], Batch) {
    let mut files = [0, 1, 2].map(|n| running.file(config, n));
    let mut parts = Vec::new();
    for n in 0..20 {
        for (at, file) in files.iter_mut().enumerate() {
            file.pad = if at == 1 && n == bad { 777 } else { 20 };
            parts.push(file.batch(1));
        }
    }
    let mut joined = join(parts);
    joined.lane = 0;
    (files, joined)
}

/// Only a bad record has so much filler.
const BAD: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn delivered(outcome: Outcome) -> bool {
    outcome == Outcome::Delivered
}

#[tokio::test]
async fn a_refused_record_is_found_wherever_it_stands_and_is_all_that_is_dropped() {
    for bad in [0, 7, 19] {
        for (status, reason) in
            [(400, Reason::Rejected), (422, Reason::Rejected), (413, Reason::TooLarge)]
        {
            let server = Server::start(move |_| Reply::Refuse(status, BAD));
            let config = plain(&server, json!({"on_reject": "drop"}));
            let running = Running::start(&config);
            let (files, batch) = batch(&running, &config, bad);
            running.send(batch);
            let receipts = settled(running).await;
            let dropped = |outcome| outcome == Outcome::Dropped(reason);
            assert_eq!(sums(&receipts, &files[1], dropped), (1, 100), "{status} at {bad}");
            assert_eq!(sums(&receipts, &files[1], delivered), (19, 1900));
            for other in [&files[0], &files[2]] {
                assert_eq!(sums(&receipts, other, delivered), (20, 2000));
            }
            let mut arrived = server.sequences();
            assert_eq!(arrived.len(), 59, "each once");
            arrived.retain(|(file, _)| *file == 1);
            let expected = (0..20).filter(|&n| n != u64::from(bad)).map(|n| (1, n));
            assert_eq!(arrived, expected.collect::<Vec<_>>(), "in order");
            assert!(server.heads().len() < 24, "{} requests", server.heads().len());
        }
    }
}

#[tokio::test]
async fn without_leave_the_source_waits_and_the_others_go_on() {
    for bad in [0, 7, 19] {
        let server = Server::start(|_| Reply::Refuse(400, BAD));
        let config = plain(&server, json!({}));
        let running = Running::start(&config);
        let (mut files, batch) = batch(&running, &config, bad);
        running.send(batch);
        // What was read before the source was parked is left out, the others' is not.
        let mut later = join(vec![files[1].batch(2), files[0].batch(2), files[1].batch(1)]);
        later.lane = 0;
        running.send(later);
        let troubles = running.troubles.clone();
        let receipts = settled(running).await;
        let parked = |outcome| matches!(outcome, Outcome::Parked(_));
        assert_eq!(sums(&receipts, &files[1], parked).0, bad, "delivered before it");
        assert_eq!(sums(&receipts, &files[1], delivered), (0, 0), "its offset stays");
        assert_eq!(sums(&receipts, &files[0], delivered), (22, 2200));
        assert_eq!(sums(&receipts, &files[2], delivered), (20, 2000));
        let mut arrived = server.sequences();
        arrived.retain(|(file, _)| *file == 1);
        assert_eq!(arrived, (0..u64::from(bad)).map(|n| (1, n)).collect::<Vec<_>>());
        assert_eq!(troubles.parked(), 1);
        assert!(troubles.failure().unwrap().text.contains("400 Bad Request"));
    }
}

#[tokio::test]
async fn a_parked_source_goes_on_when_its_record_is_taken() {
    let server = Server::start(|head| match head.number {
        0..3 => Reply::Refuse(400, ":0:"),
        _ => Reply::Status(200),
    });
    let config = plain(&server, json!({}));
    let running = Running::start(&config);
    let mut file = running.file(&config, 0);
    // Refused whole, then by itself.
    running.send(file.batch(2));
    // As the reader sends it again; what came in between was read too early.
    running.send(file.batch(5));
    let mut again = running.file(&config, 0);
    again.account = Arc::clone(&file.account);
    again.again = true;
    let mut probes = running.file(&config, 0);
    (probes.account, probes.again) = (Arc::clone(&file.account), true);
    running.send(probes.batch(1));
    running.send(again.batch(1));
    again.again = false;
    running.send(again.batch(6));
    let troubles = running.troubles.clone();
    let receipts = settled(running).await;
    let outcomes: Vec<_> = receipts.iter().map(|receipt| receipt.outcome).collect();
    assert!(
        matches!(
            outcomes[..],
            [Outcome::Parked(_), Outcome::Parked(_), Outcome::Delivered, Outcome::Delivered]
        ),
        "{outcomes:?}"
    );
    assert!(receipts[2].ranges[0].again && !receipts[3].ranges[0].again);
    assert_eq!(server.sequences(), (0..7).map(|n| (0, n)).collect::<Vec<_>>());
    assert_eq!((troubles.parked(), troubles.failure().is_none()), (0, true));
}

#[tokio::test]
async fn what_is_the_operators_to_mend_is_neither_narrowed_nor_dropped() {
    for status in [401, 403, 404, 405, 407, 410, 415] {
        let server = Server::first((0..6).map(|_| Reply::Status(status)).collect());
        let config = plain(&server, json!({"on_reject": "drop"}));
        let running = Running::start(&config);
        running.send(running.file(&config, 0).batch(500));
        assert_eq!(running.finish().await, [Outcome::Delivered], "{status}");
        assert_eq!(server.heads().len(), 7, "{status}: whole every time");
    }
}

#[tokio::test]
async fn a_server_that_refuses_everything_is_asked_a_few_times_only() {
    let server = Server::always(400);
    let config = plain(&server, json!({"on_reject": "drop"}));
    let running = Running::start(&config);
    let mut file = running.file(&config, 0);
    running.send(file.batch(2_000));
    let receipts = settled(running).await;
    let dropped = |outcome| outcome == Outcome::Dropped(Reason::Rejected);
    assert_eq!(sums(&receipts, &file, dropped), (2_000, 200_000));
    assert!(server.heads().len() < 60, "{} requests", server.heads().len());

    // Without leave: each source's first record is looked for, no more.
    let server = Server::always(400);
    let config = plain(&server, json!({}));
    let running = Running::start(&config);
    let (files, batch) = batch(&running, &config, 3);
    running.send(batch);
    let receipts = settled(running).await;
    assert!(receipts.iter().all(|receipt| matches!(receipt.outcome, Outcome::Parked(_))));
    assert_eq!(receipts.len(), files.len());
    assert!(server.heads().len() < 40, "{} requests", server.heads().len());
}

#[tokio::test]
async fn a_source_that_is_all_bad_costs_the_others_of_its_batch_nothing() {
    let server = Server::start(|_| Reply::Refuse(400, BAD));
    let config = plain(&server, json!({"on_reject": "drop"}));
    let running = Running::start(&config);
    let (mut bad, mut good) = (running.file(&config, 0), running.file(&config, 1));
    bad.pad = 777;
    let mut batch = join(vec![bad.batch(300), good.batch(10)]);
    batch.lane = 0;
    running.send(batch);
    let receipts = settled(running).await;
    assert_eq!(sums(&receipts, &good, delivered), (10, 1000));
    let dropped = |outcome| outcome == Outcome::Dropped(Reason::Rejected);
    assert_eq!(sums(&receipts, &bad, dropped), (300, 30_000));
    assert!(server.heads().len() < 80, "{} requests", server.heads().len());
}
