//! What a reader keeps while it waits: a sink that is dead for hours must not cost memory.

use std::{fs, os::unix::fs::FileExt, path::Path, sync::atomic::Ordering};

use crossbeam_channel::unbounded;

use super::*;
use crate::{
    batch::{
        Framing,
        alive::Alive,
        budget::{Budget, Freed},
        encoding::Encoding,
        lane::Outlet,
    },
    config::Compression,
    decode::{Decoder, Limits},
    identity,
    read::content::Content,
    source::{Format, Source},
    watch::FileToken,
};

/// A reader with one sink of `budget`, and one tail with a file of some lines.
fn reader(dir: &Path, budget: &Budget) -> Reader {
    let (own_address, inbox) = unbounded();
    let (queue, _batches) = tokio::sync::mpsc::unbounded_channel();
    let encoding = Encoding {
        framing: Framing::Lines,
        compression: Compression::None,
        level: 1,
        max_bytes: 1 << 20,
        max_lines: 1 << 20,
        max_age: Duration::from_secs(1),
        lanes: 1,
        apart: false,
        most: usize::MAX,
    };
    let receipts = unbounded().0;
    let limits = Limits { max_line_bytes: 1 << 20, long_lines: Default::default() };
    let outlet = Outlet {
        sink: 0,
        encoding,
        budget: budget.clone(),
        ages: Default::default(),
        troubles: Default::default(),
        copies: Default::default(),
        queue,
        receipts,
        alive: Alive::new().0,
    };
    let mut reader = Reader::new(Setup {
        inbox,
        own_address,
        number: 0,
        cursor: Box::new(move |slot, source| {
            Cursor::new(slot, 0, Decoder::new(source.format, limits))
        }),
        registrations: unbounded().0,
        feedback: unbounded().0,
        checksums: unbounded().0,
        nudge: Box::new(|| {}),
        metrics: Arc::new(Metrics::new()),
        accounts: Arc::new(Accounts::new(Default::default())),
        quantum: 1 << 20,
        max_line_bytes: 1 << 20,
        unfinished_after: Duration::from_secs(5),
        unfinished_bytes: 1 << 20,
    });
    assert!(reader.handle(Message::AddSink { outlet: Box::new(outlet), new: true }));
    let path = dir.join("0.log");
    fs::write(&path, "2026-11-22T01:02:03Z stdout F a line\n".repeat(10)).unwrap();
    let source = Arc::new(Source::anonymous(path.clone(), Format::Cri));
    let (file, look) = identity::open(&path).unwrap();
    let identity = identity::identify(&file, &look);
    let account = Arc::new(FileAccount::new(identity, 0, Arc::clone(&source), &path, 1));
    account.registered.store(true, Ordering::Release);
    let tail = Tail::new(source);
    assert!(reader.handle(Message::Open(TailId(1), Box::new(tail))));
    let content = Content::Plain(Arc::new(file));
    let file = LogFile { token: FileToken::numbered(1), account, content, live: true, bell: None };
    assert!(reader.handle(Message::Append(TailId(1), file, None)));
    reader
}

fn visit_all(reader: &mut Reader) {
    while let Some(id) = reader.ready.pop_front() {
        reader.visit(id);
    }
}

#[test]
fn hints_behind_a_dead_sink_pile_up_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::new(1 << 20, 1 << 20, Box::new(|_| {}));
    let taken = budget.share(1).try_take(1 << 20).unwrap();
    let mut reader = reader(dir.path(), &budget);
    for _ in 0..1_000 {
        assert!(reader.handle(Message::Wake(vec![(TailId(1), FileToken::numbered(1))])));
        visit_all(&mut reader);
    }
    assert_eq!(*reader.sinks[0].stalled, [[TailId(1)]]);
    drop(taken);
    // Another lane's room is of no use to it.
    assert!(reader.handle(Message::Freed(0, Freed::Lane(1))));
    assert!(reader.ready.is_empty());
    assert!(reader.handle(Message::Freed(0, Freed::All)));
    visit_all(&mut reader);
    assert!(reader.sinks[0].stalled.iter().all(Vec::is_empty));
    let account = reader.tails[&TailId(1)].files().next().unwrap().account.clone();
    assert_eq!(account.sink(0).read.load(Ordering::Acquire), 370);
}

#[test]
fn a_tail_has_one_timer_however_often_it_is_visited() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::new(1 << 30, 1 << 30, Box::new(|_| {}));
    let mut reader = reader(dir.path(), &budget);
    assert!(reader.handle(Message::Gone(TailId(1), FileToken::numbered(1))));
    for _ in 0..1_000 {
        assert!(reader.handle(Message::Wake(vec![(TailId(1), FileToken::numbered(1))])));
        visit_all(&mut reader);
    }
    assert_eq!(reader.timers.len(), 1);
}

#[test]
fn what_is_written_anew_before_it_is_registered_is_another_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let budget = Budget::new(1 << 30, 1 << 30, Box::new(|_| {}));
    let mut reader = reader(dir.path(), &budget);
    let account =
        |reader: &Reader| Arc::clone(&reader.tails[&TailId(1)].files().last().unwrap().account);
    let first = account(&reader);
    first.registered.store(false, Ordering::Release);
    visit_all(&mut reader);
    assert!(first.fingerprint().matches(&fs::read(&path).unwrap()) && first.fingerprint().len > 0);
    // As long as before: only the bytes tell.
    let text = fs::read_to_string(&path).unwrap().replace("a line", "b line");
    fs::write(&path, &text).unwrap();
    first.registered.store(true, Ordering::Release);
    assert!(reader.handle(Message::Registered(vec![TailId(1)])));
    visit_all(&mut reader);
    let second = account(&reader);
    assert_ne!(second.id, first.id, "its first bytes are another's");
    second.registered.store(true, Ordering::Release);
    assert!(reader.handle(Message::Registered(vec![TailId(1)])));
    visit_all(&mut reader);
    let read = |account: &FileAccount| account.sink(0).read.load(Ordering::Acquire);
    assert_eq!((read(&first), read(&second)), (0, text.len() as u64));
    assert!(second.fingerprint().matches(text.as_bytes()));
}

#[test]
fn no_file_is_the_last_while_newer_ones_may_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::new(1 << 30, 1 << 30, Box::new(|_| {}));
    let ended = |which: Option<TailId>| {
        let mut reader = reader(dir.path(), &budget);
        fs::write(dir.path().join("0.log"), "2026-11-22T01:02:03Z stdout P a part \n").unwrap();
        let long = Instant::now() + Duration::from_secs(60);
        assert!(reader.handle(Message::Follow(which, long)));
        assert!(reader.handle(Message::Gone(TailId(1), FileToken::numbered(1))));
        fs::remove_file(dir.path().join("0.log")).unwrap();
        let until = Instant::now() + crate::read::tail::DELETED_GRACE + Duration::from_millis(300);
        while Instant::now() < until {
            assert!(reader.handle(Message::Wake(vec![(TailId(1), FileToken::numbered(1))])));
            visit_all(&mut reader);
            std::thread::sleep(Duration::from_millis(50));
        }
        // A message whose end may still come is not cut off.
        let id = reader.tails[&TailId(1)].files().last().unwrap().account.id;
        reader.setup.accounts.cuts.next(id, 0).is_some()
    };
    assert!(!ended(Some(TailId(1))));
    assert!(!ended(None));
    assert!(ended(Some(TailId(2))), "another's");
}

#[test]
fn zeros_before_data_are_read_again_before_they_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::new(1 << 30, 1 << 30, Box::new(|_| {}));
    let mut reader = reader(dir.path(), &budget);
    let line = "2026-11-22T01:02:03Z stdout F a line\n";
    let read = |reader: &Reader| {
        let account = &reader.tails[&TailId(1)].files().next().unwrap().account;
        account.sink(0).read.load(Ordering::Acquire)
    };
    visit_all(&mut reader);
    let mut end = 370;
    assert_eq!(read(&reader), end);
    let file = fs::File::options().write(true).open(dir.path().join("0.log")).unwrap();
    // Within a line and before one, at a chunk's end, and longer than a chunk.
    for zeros in [20, 600, 5_000, CHUNK - 37 + 20, 2 * CHUNK] {
        let lines = line.repeat(1 + zeros / line.len());
        let (filled, rest) = lines.as_bytes().split_at(zeros);
        file.write_all_at(rest, end + zeros as u64).unwrap();
        assert!(reader.handle(Message::Wake(vec![(TailId(1), FileToken::numbered(1))])));
        for _ in 0..3 {
            visit_all(&mut reader);
            assert_eq!(read(&reader), end, "{zeros} zeros are in doubt");
            assert!(reader.doubts.is_any_open());
            std::thread::sleep(Duration::from_millis(20));
            reader.expire_timers();
        }
        file.write_all_at(filled, end).unwrap();
        // Without a hint: it looks again by itself.
        let until = Instant::now() + Duration::from_secs(2);
        end += lines.len() as u64;
        while read(&reader) < end && Instant::now() < until {
            reader.expire_timers();
            visit_all(&mut reader);
        }
        assert_eq!(read(&reader), end);
        assert!(!reader.doubts.is_any_open());
    }
    // Those that nobody fills are believed, though more is written behind them all the time.
    file.write_all_at(line.as_bytes(), end + 700).unwrap();
    let (mut at, began) = (end + 700 + line.len() as u64, Instant::now());
    while read(&reader) <= end && began.elapsed() < Duration::from_secs(5) {
        file.write_all_at(line.as_bytes(), at).unwrap();
        at += line.len() as u64;
        assert!(reader.handle(Message::Wake(vec![(TailId(1), FileToken::numbered(1))])));
        visit_all(&mut reader);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(read(&reader), at);
}
