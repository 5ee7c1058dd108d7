//! The sink: batches in, receipts out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use tempfile::tempdir;

use super::*;
use crate::{
    archive::{start, write::Position},
    batch::{Batch, Framing, Outcome, Receipt, alive::Alive, troubles::Troubles},
    config::Compression,
    deliver::Context,
    metrics::{Metrics, SinkMetrics},
    source::{Format, Source},
};

fn batch(number: usize, receipts: &Sender<Receipt>) -> Batch {
    let now = jiff::Timestamp::now().as_second();
    let (header, payload) = frame(&[line(number)], "web", now);
    let source = Source {
        attributes: [("k8s.pod.name", "web")].into_iter().collect(),
        ..Source::anonymous("/x", Format::Plain)
    };
    Batch {
        lane: 0,
        payload,
        compression: Compression::Zstd,
        framing: Framing::Lines,
        raw_len: header.raw_len,
        // Tells the receipts apart; 0 would mean that there is nothing to write.
        lines: u32::try_from(number).unwrap() + 1,
        times: header.times,
        sources: vec![Arc::new(source)],
        ranges: Vec::new(),
        runs: Vec::new(),
        sealed_at: Instant::now(),
        begun: None,
        permit: None,
        sink: 3,
        receipts: receipts.clone(),
    }
}

fn context(committed: Option<String>) -> Context {
    let metrics = SinkMetrics::new(Arc::new(Metrics::new()), "archive");
    let (troubles, alive) = (Troubles::default(), Alive::new().0);
    Context { name: "archive".into(), committed, metrics, troubles, alive }
}

fn next(receipts: &Receiver<Receipt>) -> Receipt {
    receipts.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_come_in_order_with_positions_that_cut_back() {
    let dir = tempdir().unwrap();
    let archive = dir.path().join("archive");
    let (sender, receipts) = crossbeam_channel::unbounded();
    let handle = start(&config(300), archive.clone(), context(None)).unwrap();
    for number in 0..50 {
        handle.queue.send(batch(number, &sender)).unwrap();
    }
    drop(handle.queue);
    handle.task.await.unwrap();
    let positions: Vec<String> = (0..50)
        .map(|number| {
            let receipt = next(&receipts);
            assert_eq!((receipt.outcome, receipt.sink), (Outcome::Delivered, 3));
            assert_eq!(receipt.lines, number + 1);
            receipt.position.unwrap()
        })
        .collect();
    assert_eq!(read_all(&archive), ((0..50).map(line).collect(), 0));
    let parse = |text: &String| serde_json::from_str::<Position>(text).unwrap();
    assert!(positions.iter().map(parse).is_sorted_by_key(|at| (at.segment, at.length)));

    let handle = start(&config(300), archive.clone(), context(Some(positions[19].clone())));
    let handle = handle.unwrap();
    assert_eq!(read_all(&archive), ((0..20).map(line).collect(), 0));
    handle.queue.send(batch(20, &sender)).unwrap();
    next(&receipts);
    assert_eq!(read_all(&archive), ((0..=20).map(line).collect(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_tried_until_it_can() {
    let dir = tempdir().unwrap();
    let archive = dir.path().join("archive");
    let (sender, receipts) = crossbeam_channel::unbounded();
    let context = context(None);
    let troubles = context.troubles.clone();
    let handle = start(&config(1 << 20), archive.clone(), context).unwrap();
    handle.queue.send(batch(0, &sender)).unwrap();
    next(&receipts);
    assert!(troubles.failure().is_none());
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    handle.queue.send(batch(1, &sender)).unwrap();
    handle.queue.send(batch(2, &sender)).unwrap();
    assert!(receipts.recv_timeout(Duration::from_millis(700)).is_err(), "nothing may be settled");
    let failure = troubles.failure().unwrap();
    assert!(failure.text.contains("archive") && failure.times > 1, "{failure:?}");
    std::fs::remove_file(&archive).unwrap();
    assert_eq!(next(&receipts).lines, 2);
    assert_eq!(next(&receipts).lines, 3);
    assert!(troubles.failure().is_none());
    assert_eq!(read_all(&archive), (vec![line(1), line(2)], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_removed_is_made_again() {
    let dir = tempdir().unwrap();
    let archive = dir.path().join("archive");
    let (sender, receipts) = crossbeam_channel::unbounded();
    let handle = start(&config(1 << 20), archive.clone(), context(None)).unwrap();
    for removal in 0..2 {
        handle.queue.send(batch(0, &sender)).unwrap();
        next(&receipts);
        match removal {
            0 => std::fs::remove_dir_all(&archive).unwrap(),
            _ => std::fs::rename(&archive, dir.path().join("aside")).unwrap(),
        }
        // Also while nothing is to be written.
        while !archive.join("archive.id").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        handle.queue.send(batch(1, &sender)).unwrap();
        let position = next(&receipts).position.unwrap();
        let id = std::fs::read_to_string(archive.join("archive.id")).unwrap();
        assert!(position.contains(id.trim()), "{position}");
        assert_eq!(read_all(&archive), (vec![line(1)], 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_is_refused_with_advice() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = start(&config(1), dir.path().join("file/archive"), context(None)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("file/archive") && text.contains("to another one"), "{text}");
}
