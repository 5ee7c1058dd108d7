//! The oracle must notice everything that can go wrong, and nothing else.

use super::*;
use crate::{framing::Format, loadgen::Messages};

/// `count` records of writer 3's standard output, as the agent encodes them.
fn records(count: u64) -> Vec<String> {
    let mut messages = Messages::new(Writer(3), 1);
    let mut message = Vec::new();
    (0..count)
        .map(|number| {
            messages.next(Stream::Stdout, &mut message);
            record(&message, &format!("{:016x}-{:x}", 7, number * 100))
        })
        .collect()
}

fn record(message: &[u8], uid: &str) -> String {
    let value = serde_json::json!({
        "timestamp": "2026-11-22T02:09:05Z",
        "log.record.uid": uid,
        "body": String::from_utf8_lossy(message),
        "log.iostream": "stdout",
        "k8s.namespace.name": "team-3",
        "k8s.pod.name": "app-3",
        "k8s.container.name": "main0",
    });
    format!("{value}\n")
}

fn manifest(count: u64) -> Manifest {
    Manifest::of(Format::Cri, [(Writer(3), [count, 0, 0])])
}

fn judge(records: &[String], count: u64) -> Report {
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(records.concat().as_bytes(), false);
    oracle.report(Some(&manifest(count)))
}

#[test]
fn complete_and_in_order_is_ok() {
    let report = judge(&records(100), 100);
    assert!(report.ok, "{report:?}");
    assert_eq!((report.received, report.distinct_uids), (100, Some(100)));
}

#[test]
fn a_json_array_is_as_good_as_lines() {
    let records: Vec<_> = records(5).iter().map(|record| record.trim().to_owned()).collect();
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(format!("[{}]", records.join(",")).as_bytes(), false);
    assert!(oracle.report(Some(&manifest(5))).ok);
}

#[test]
fn a_missing_line_is_lost_with_and_without_a_manifest() {
    let mut all = records(100);
    all.remove(40);
    let report = judge(&all, 100);
    assert!(!report.ok);
    assert_eq!((report.lost, report.doubled, report.reordered), (1, 0, 0));
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(all.concat().as_bytes(), false);
    assert_eq!(oracle.report(None).lost, 1);
}

#[test]
fn a_missing_end_and_a_missing_writer_are_lost() {
    assert_eq!(judge(&records(100), 103).lost, 3);
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(records(5).concat().as_bytes(), false);
    let both = [(Writer(3), [5, 0, 0]), (Writer(4), [0, 9, 0])];
    assert_eq!(oracle.report(Some(&Manifest::of(Format::Cri, both))).lost, 9);
}

#[test]
fn each_writer_has_its_own_account() {
    let mut all = records(20);
    all.remove(7);
    all.push(all[3].clone());
    let other_uid = all[4].replace("-190", "-191");
    assert_ne!(other_uid, all[4]);
    all.push(other_uid);
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(all.concat().as_bytes(), false);
    let both = [(Writer(3), [22, 0, 0]), (Writer(4), [0, 9, 0])];
    let each = oracle.each(&Manifest::of(Format::Cri, both));
    assert_eq!(each[0].missing, [vec![7..8, 20..22], Vec::new(), Vec::new()]);
    assert_eq!((each[0].doubled, each[0].doubled_same_uid), (2, 1));
    assert_eq!(each[1].missing, [Vec::new(), std::iter::once(0..9).collect(), Vec::new()]);
}

#[test]
fn a_doubled_line_is_unexplained() {
    let mut all = records(100);
    all.insert(50, all[49].clone());
    let report = judge(&all, 100);
    assert!(!report.ok);
    assert_eq!((report.doubled, report.doubled_unexplained, report.lost), (1, 1, 0));
    assert_eq!((report.records, report.distinct_uids), (101, Some(100)));
}

#[test]
fn a_reordered_line_is_noticed() {
    let mut all = records(100);
    all.swap(10, 11);
    let report = judge(&all, 100);
    assert!(!report.ok);
    assert_eq!((report.reordered, report.lost, report.doubled), (1, 0, 0));
}

#[test]
fn a_damaged_payload_is_noticed() {
    let mut all = records(100);
    let mut messages = Messages::new(Writer(3), 1);
    let mut message = Vec::new();
    messages.next(Stream::Stdout, &mut message);
    message[0] = b'#';
    all[0] = record(&message, "0000000000000007-0");
    let report = judge(&all, 100);
    assert!(!report.ok);
    assert_eq!((report.damaged, report.lost), (1, 0));
}

#[test]
fn wrong_metadata_is_noticed() {
    for (right, wrong) in [
        ("app-3", "app-4"),
        ("team-3", "team-2"),
        ("main0", "main1"),
        (r#""stdout""#, r#""stderr""#),
        (r#""timestamp""#, r#""everyline.unparsed":true,"timestamp""#),
        ("log.record.uid", "no.uid"),
    ] {
        let mut all = records(10);
        all[9] = all[9].replace(right, wrong);
        let report = judge(&all, 10);
        assert!(!report.ok, "{right} to {wrong}");
        assert_eq!(report.wrong_metadata, 1, "{right} to {wrong}");
    }
}

#[test]
fn a_line_that_nobody_wrote_is_invented() {
    let report = judge(&records(100), 99);
    assert!(!report.ok);
    assert_eq!((report.invented, report.lost), (1, 0));
    let mut all = records(5);
    all.push(record(b"no tag at all", "0000000000000007-fff"));
    assert_eq!(judge(&all, 5).invented, 1);
}

#[test]
fn uids_must_stay_and_grow() {
    let mut all = records(10);
    all.push(all[3].replace("-12c", "-12d"));
    let report = judge(&all, 10);
    assert_eq!((report.uid_changed, report.doubled), (1, 1));
    let mut all = records(10);
    all[5] = all[5].replace("-1f4", "-190");
    let report = judge(&all, 10);
    assert!(!report.ok);
    assert_eq!((report.uid_disorder, report.distinct_uids), (1, Some(9)));
}

#[test]
fn lost_replies_and_kills_explain_doubles_of_their_time_only() {
    let all = records(100);
    let mut oracle = Oracle::new(Limits::default());
    oracle.accept(all[..50].concat().as_bytes(), false);
    oracle.accept(all[50..60].concat().as_bytes(), true);
    oracle.accept(all[50..100].concat().as_bytes(), false);
    let report = oracle.report(Some(&manifest(100)));
    assert!(report.ok, "{report:?}");
    assert_eq!((report.doubled, report.records), (10, 110));
    oracle.killed();
    oracle.accept(all[90..].concat().as_bytes(), false);
    let report = oracle.report(Some(&manifest(100)));
    assert!(report.ok, "{report:?}");
    assert_eq!((report.doubled, report.kills), (20, 1));

    let mut oracle = Oracle::new(Limits { kill_window: Duration::ZERO, ..Limits::default() });
    oracle.accept(all.concat().as_bytes(), false);
    std::thread::sleep(Duration::from_millis(1100));
    oracle.killed();
    oracle.accept(all[..1].concat().as_bytes(), false);
    assert_eq!(oracle.report(None).doubled_unexplained, 1);
}

#[test]
fn split_messages_are_put_together() {
    let mut messages = Messages::new(Writer(3), 1);
    let mut message = Vec::new();
    messages.next(Stream::Stdout, &mut message);
    let (first, last) = message.split_at(20);
    let pieces = [
        record(first, "0000000000000007-0").replacen('{', r#"{"everyline.split":1,"#, 1),
        record(last, "0000000000000007-14").replacen(
            '{',
            r#"{"everyline.split":2,"everyline.split_last":true,"#,
            1,
        ),
    ];
    let report = judge(&pieces, 1);
    assert!(report.ok, "{report:?}");
    assert_eq!((report.received, report.records_distinct), (1, 2));
    let again = [pieces[0].clone(), pieces[1].clone(), pieces[1].clone()];
    assert_eq!(judge(&again, 1).doubled, 1);
    assert!(!judge(&pieces[1..], 1).ok);
}

#[test]
fn bytes_that_are_not_utf8_come_as_base64() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut message = b"\xff\xfe not text".to_vec();
    let tag = Tag { writer: Writer(3), stream: Stream::Stdout, number: 0 };
    crate::tag::seal(&mut message, 0, 2, tag);
    let field = format!(r#"{{"everyline.body_base64":"{}","#, STANDARD.encode(&message));
    let lossy = record(&message, "0000000000000007-0");
    assert_eq!(judge(std::slice::from_ref(&lossy), 1).damaged, 1);
    assert!(judge(&[lossy.replacen('{', &field, 1)], 1).ok);
}

#[test]
fn garbage_is_unreadable() {
    assert_eq!(judge(&["{\"body\":\n".to_owned()], 0).unreadable, 1);
}
