//! logrotate's `copytruncate` with `compress`: a copy is made, the file truncated, the copy compressed
//! and removed within moments. Only the compressed copy is left to tell what it is.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Agent, World, body, in_every_mode, patience, settled_audit},
    receiver::{Fault, Receiver},
};

in_every_mode!(
    compressed_at_once_nothing_is_read_again,
    compressed_while_down_the_copy_is_read_on,
    compressed_around_a_kill_nothing_is_lost_or_doubled,
    compressed_while_the_clock_is_wrong,
    a_copy_that_ends_before_what_was_read_is_not_read_again,
    a_plain_copy_that_ends_before_what_was_read_is_not_read_again,
    a_sink_that_is_down_gets_a_plain_copys_lines_once,
    a_sink_that_is_down_gets_a_compressed_copys_lines_once,
    a_sink_that_is_down_gets_what_a_plain_copy_has_not_once,
    a_sink_that_is_down_gets_what_a_compressed_copy_has_not_once,
    a_record_that_is_refused_costs_no_line_of_a_copy,
    after_a_kill_at_once_a_copy_is_read,
    a_log_that_was_truncated_before_it_was_found_has_its_next_copies_told,
    a_log_that_was_truncated_before_it_was_found_has_its_compressed_copies_told,
);

/// Longer than a copy is looked at after it was told.
pub(crate) const REST: Duration = Duration::from_secs(3);
/// Kept former copies.
const KEEP: usize = 9;

pub(crate) struct Log {
    pub(crate) live: PathBuf,
    pub(crate) written: usize,
}

impl Log {
    pub(crate) fn new(world: &World) -> Self {
        Self { live: world.path("plain/app.log"), written: 0 }
    }

    pub(crate) fn write(&mut self, lines: usize) {
        let text: String = (self.written..self.written + lines)
            .map(|n| format!("line {n} of a log that copytruncate rotates\n"))
            .collect();
        let mut file = File::options().create(true).append(true).open(&self.live).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self.written += lines;
    }

    pub(crate) fn former(&self, number: usize, ending: &str) -> PathBuf {
        format!("{}.{number}{ending}", self.live.display()).into()
    }

    pub(crate) fn move_up(&self) {
        for number in (1..KEEP).rev() {
            for ending in ["", ".gz"] {
                let _not_there =
                    fs::rename(self.former(number, ending), self.former(number + 1, ending));
            }
        }
    }

    pub(crate) fn copy(&self) {
        self.move_up();
        fs::copy(&self.live, self.former(1, "")).unwrap();
    }

    pub(crate) fn truncate(&self) {
        File::options().write(true).open(&self.live).unwrap().set_len(0).unwrap();
    }

    pub(crate) fn compress(&self) {
        compress(&self.former(1, ""), &self.former(1, ".gz"));
    }

    fn rotate(&self) {
        self.copy();
        self.truncate();
        self.compress();
    }

    /// Copies, truncates and goes on; what is written before that stands in nothing but the copy.
    pub(crate) fn rotate_unseen(&mut self, compressed: bool) {
        self.write(5);
        self.copy();
        self.truncate();
        if compressed {
            self.compress();
        }
        self.write(3);
    }

    /// Requires that every line arrived once and that nothing is said to be dropped, after a rest in which a line that
    /// comes twice comes.
    pub(crate) fn assert_done(&self, world: &World) {
        std::thread::sleep(REST);
        self.assert_collected(world);
        let audit = settled_audit(world);
        let dropped = audit["dropped"].as_object().unwrap();
        assert!(dropped.values().all(|bytes| bytes == 0), "{audit}");
    }

    /// Requires that every line arrived once. What only a copy holds may come after what follows it.
    pub(crate) fn assert_collected(&self, world: &World) {
        let mut counts = vec![0; self.written];
        let end = Instant::now() + patience();
        while Instant::now() < end && counts.contains(&0) {
            std::thread::sleep(Duration::from_millis(500));
            counts.fill(0);
            for record in world.records() {
                counts[body(&record).split(' ').nth(1).unwrap().parse::<usize>().unwrap()] += 1;
            }
        }
        let of = |wanted: fn(u32) -> bool| {
            let numbers = counts.iter().enumerate().filter(|(_, n)| wanted(**n));
            numbers.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let (lost, doubled) = (of(|n| n == 0), of(|n| n > 1));
        let right = lost.is_empty() && doubled.is_empty();
        let first = doubled.first().map(|number| format!("line {number} "));
        let again: Vec<_> = world
            .records()
            .into_iter()
            .filter(|record| first.as_ref().is_some_and(|first| body(record).starts_with(first)))
            .collect();
        let log = world.log();
        assert!(right, "lost {lost:?}, doubled {doubled:?}, the first {again:?}\n{log}");
    }
}

/// Wakes an agent that was stopped by a signal, or kills it and starts the next one.
pub(crate) fn go_on(world: &World, agent: Agent, killed: bool) -> Agent {
    if killed {
        agent.kill();
        return world.start();
    }
    agent.signal(Signal::CONT);
    agent
}

/// Which line a record is.
pub(crate) fn number(record: &Value) -> usize {
    body(record).split(' ').nth(1).unwrap().parse().unwrap()
}

/// `gzip from`
pub(crate) fn compress(from: &Path, to: &Path) {
    pack(from, to);
    fs::remove_file(from).unwrap();
}

/// `gzip -c from > to`
pub(crate) fn pack(from: &Path, to: &Path) {
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(to).unwrap(), flate2::Compression::fast());
    encoder.write_all(&fs::read(from).unwrap()).unwrap();
    encoder.finish().unwrap();
}

fn compressed_at_once_nothing_is_read_again(world: World) {
    let mut log = Log::new(&world);
    log.write(10);
    let agent = world.start();
    world.wait_for(10);
    for round in 0..8 {
        log.write(40);
        std::thread::sleep(Duration::from_millis([0, 5, 60, 400][round % 4]));
        log.rotate();
    }
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    // Nor after a start, whatever their names are by then.
    log.move_up();
    let agent = world.start();
    log.write(5);
    log.assert_collected(&world);
    log.rotate();
    log.write(5);
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn compressed_while_down_the_copy_is_read_on(world: World) {
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    assert_eq!(agent.stop(), Some(0));
    for _ in 0..3 {
        log.write(20);
        log.rotate();
        log.write(30);
        let agent = world.start();
        log.assert_collected(&world);
        assert_eq!(agent.stop(), Some(0));
        // Nothing is new.
        let agent = world.start();
        log.assert_collected(&world);
        assert_eq!(agent.stop(), Some(0));
    }
    let (code, audit) = world.audit();
    assert_eq!(code, 0, "{audit}");
}

fn compressed_around_a_kill_nothing_is_lost_or_doubled(world: World) {
    let mut log = Log::new(&world);
    log.write(10);
    let mut agent = world.start();
    world.wait_for(10);
    for round in 0..6 {
        log.write(50);
        std::thread::sleep(Duration::from_millis([5, 300, 0][round % 3]));
        log.copy();
        log.truncate();
        std::thread::sleep(Duration::from_millis([0, 100][round % 2]));
        agent.kill();
        log.compress();
        agent = world.start();
        log.assert_collected(&world);
    }
    assert_eq!(agent.stop(), Some(0));
}

/// A file that was written a moment ago looks as if it were old, or yet to be written.
fn compressed_while_the_clock_is_wrong(world: World) {
    let mut log = Log::new(&world);
    log.write(10);
    let agent = world.start();
    world.wait_for(10);
    for (round, hours) in [-2_i64, 2, -48, 48].into_iter().enumerate() {
        log.write(40);
        std::thread::sleep(Duration::from_millis([0, 300][round % 2]));
        agent.signal(Signal::STOP);
        log.rotate();
        let now = std::time::SystemTime::now();
        let off = Duration::from_secs(hours.unsigned_abs() * 3_600);
        let time = if hours < 0 { now - off } else { now + off };
        File::open(log.former(1, ".gz")).unwrap().set_modified(time).unwrap();
        agent.signal(Signal::CONT);
        log.assert_collected(&world);
    }
    assert_eq!(agent.stop(), Some(0));
}

/// What is written between the copy and the truncation is read from the original.
fn ends_before_what_was_read(world: World, compressed: bool) {
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    for _ in 0..3 {
        for _ in 0..4 {
            log.write(20);
            world.wait_for(log.written);
        }
        agent.signal(Signal::STOP);
        log.copy();
        agent.signal(Signal::CONT);
        log.write(7);
        world.wait_for(log.written);
        agent.signal(Signal::STOP);
        log.truncate();
        if compressed {
            log.compress();
        }
        log.write(3);
        agent.signal(Signal::CONT);
        log.assert_collected(&world);
    }
    std::thread::sleep(Duration::from_secs(4));
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    log.write(3);
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_copy_that_ends_before_what_was_read_is_not_read_again(world: World) {
    ends_before_what_was_read(world, true);
}

fn a_plain_copy_that_ends_before_what_was_read_is_not_read_again(world: World) {
    ends_before_what_was_read(world, false);
}

/// What was sent to a sink that does not answer is on its way still when the copy is told: the sink gets it from there or
/// from the copy, not from both.
fn into_a_sink_that_is_down(mut world: World, compressed: bool, read_on: bool) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    receiver.wait_for_requests(1);
    if read_on {
        log.copy();
        log.write(7);
        world.wait_for(log.written);
        agent.signal(Signal::STOP);
        log.truncate();
        if compressed {
            log.compress();
        }
        log.write(3);
    } else {
        agent.signal(Signal::STOP);
        log.rotate_unseen(compressed);
    }
    agent.signal(Signal::CONT);
    world.wait_for(log.written);
    // Longer than a copy is waited for.
    std::thread::sleep(Duration::from_secs(13));
    receiver.always(None);
    let all = |records: &[Value]| records.iter().map(number).collect::<BTreeSet<_>>().len();
    receiver.wait_until("all lines", |records| all(records) == log.written);
    std::thread::sleep(Duration::from_secs(2));
    let sent = receiver.count();
    assert_eq!(sent, log.written, "{}", world.log());
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{:?}", world.audit());
}

fn a_sink_that_is_down_gets_a_plain_copys_lines_once(world: World) {
    into_a_sink_that_is_down(world, false, false);
}

fn a_sink_that_is_down_gets_a_compressed_copys_lines_once(world: World) {
    into_a_sink_that_is_down(world, true, false);
}

fn a_sink_that_is_down_gets_what_a_plain_copy_has_not_once(world: World) {
    into_a_sink_that_is_down(world, false, true);
}

fn a_sink_that_is_down_gets_what_a_compressed_copy_has_not_once(world: World) {
    into_a_sink_that_is_down(world, true, true);
}

/// A refused record takes back what was in batches behind it: the copy has that.
fn a_record_that_is_refused_costs_no_line_of_a_copy(mut world: World) {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    world.sinks += &receiver.sink().replace("  out:", "  web:");
    world.sinks += "    on_reject: retry\n";
    let mut log = Log::new(&world);
    log.write(100);
    let agent = world.start();
    world.wait_for(100);
    receiver.wait_for_requests(1);
    agent.signal(Signal::STOP);
    log.rotate_unseen(false);
    agent.signal(Signal::CONT);
    world.wait_for(log.written);
    // Longer than a copy is waited for.
    std::thread::sleep(Duration::from_secs(13));
    receiver.refuse("line 50 ");
    receiver.always(None);
    let deadline = Instant::now() + patience();
    while receiver.refused() < 3 {
        assert!(Instant::now() < deadline, "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    receiver.refuse_by(|_| None);
    let all = |records: &[Value]| records.iter().map(number).collect::<BTreeSet<_>>().len();
    receiver.wait_until("all lines", |records| all(records) == log.written);
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}

/// Nothing was durable of a life that a truncation ended, and no pattern names the copy.
fn after_a_kill_at_once_a_copy_is_read(world: World) {
    let lines = |file: &str| {
        let records = world.records();
        let of = |record: &&Value| record["log.file.path"].as_str().unwrap().contains(file);
        records.iter().filter(of).map(number).collect::<Vec<_>>()
    };
    for compressed in [false, true] {
        let mut log = Log::new(&world);
        log.live = world.path(&format!("plain/{compressed}.log"));
        log.write(100);
        let agent = world.start();
        let deadline = Instant::now() + patience();
        while lines(&format!("{compressed}.log")).is_empty() {
            assert!(Instant::now() < deadline, "{}", world.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        agent.signal(Signal::STOP);
        log.rotate_unseen(compressed);
        agent.kill();
    }
    let agent = world.start();
    world.wait_for(2 * 108);
    for file in ["false.log", "true.log"] {
        let mut numbers = lines(file);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..108).collect::<Vec<_>>(), "{}", world.log());
    }
    assert_eq!(agent.stop(), Some(0));
}

/// The kernel counts what a truncation took away before the agent had found the file: that life was over
/// before it was read, and what is there begins as the next one.
fn truncated_before_it_was_found(world: World, compressed: bool) {
    let mut log = Log::new(&world);
    fs::create_dir_all(world.path("plain")).unwrap();
    let agent = world.start();
    std::thread::sleep(Duration::from_millis(1500));
    agent.signal(Signal::STOP);
    // What was over before a log was found is not collected.
    fs::write(&log.live, "before it was found\n".repeat(20)).unwrap();
    log.copy();
    log.truncate();
    log.compress();
    log.write(30);
    agent.signal(Signal::CONT);
    world.wait_for(log.written);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        agent.signal(Signal::STOP);
        log.copy();
        log.truncate();
        if compressed {
            log.compress();
        }
        log.write(5);
        agent.signal(Signal::CONT);
        log.write(5);
        log.assert_collected(&world);
    }
    std::thread::sleep(Duration::from_secs(3));
    log.assert_collected(&world);
    assert_eq!(agent.stop(), Some(0));
}

fn a_log_that_was_truncated_before_it_was_found_has_its_next_copies_told(world: World) {
    truncated_before_it_was_found(world, false);
}

fn a_log_that_was_truncated_before_it_was_found_has_its_compressed_copies_told(world: World) {
    truncated_before_it_was_found(world, true);
}
