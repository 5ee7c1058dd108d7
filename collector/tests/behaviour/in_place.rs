//! Files that are filled in place: what a read sees of a write that it overtakes is no hole.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Over, World, body, in_every_mode};

in_every_mode!(
    zeros_before_what_was_just_written_are_waited_for,
    what_was_skipped_by_nobody_is_read_after_a_kill,
    lines_written_in_place_in_a_tight_loop_arrive_whole,
    lines_of_several_writers_arrive_whole,
    a_hole_is_skipped_while_the_file_is_written_to,
);

/// Long enough to be seen, and much shorter than zeros are doubted.
const MOMENT: Duration = Duration::from_millis(150);

fn bodies(world: &World) -> Vec<String> {
    world.records().iter().map(|record| body(record).to_owned()).collect()
}

/// Nothing is lost, and so many bytes were skipped as holes.
fn assert_audit(world: &World, holes: u64) {
    let (code, audit) = world.audit();
    assert_eq!((code, audit["dropped"]["hole"].as_u64().unwrap_or(0)), (0, holes), "{audit}");
}

/// One line number `n` with a text, as a runtime writes it.
#[derive(Clone, Copy)]
enum Layout {
    Plain,
    Cri,
    Docker,
}

impl Layout {
    fn line(self, text: &str) -> String {
        match self {
            Self::Plain => format!("{text}\n"),
            Self::Cri => format!("2026-11-22T01:02:03.1Z stdout F {text}\n"),
            Self::Docker => {
                let time = "2026-11-22T01:02:03.1Z";
                format!(r#"{{"log":"{text}\n","stream":"stdout","time":"{time}"}}"#) + "\n"
            }
        }
    }

    fn file(self, world: &World) -> PathBuf {
        match self {
            Self::Plain => world.path("plain/app.log"),
            Self::Cri => world.container("a").live(),
            Self::Docker => {
                let id = "c0ffee".repeat(10) + "c0ff";
                let dir = world.path("docker").join(&id);
                fs::create_dir_all(&dir).unwrap();
                dir.join(format!("{id}-json.log"))
            }
        }
    }
}

/// Writes `bytes`, the part from `middle` on first: as a read sees it that is before the writer in one page,
/// and behind it in the next.
fn write_torn(file: &File, bytes: &[u8], at: u64, middle: usize) {
    file.write_all_at(&bytes[middle..], at + middle as u64).unwrap();
    thread::sleep(MOMENT);
    file.write_all_at(&bytes[..middle], at).unwrap();
}

fn zeros_before_what_was_just_written_are_waited_for(world: World) {
    let layouts = [Layout::Plain, Layout::Cri, Layout::Docker];
    let files = layouts.map(|layout| layout.file(&world));
    // Gaps at the file's beginning, within a line and over lines, shorter and longer than a hole must be
    // and than what is read at once.
    let gaps = [40, 1, 3, 30, 100, 511, 512, 1502, 5000, 70_000, 300_000];
    let text = |at: usize, n: usize| format!("{at} {n} {}", "x".repeat(150 * n));
    let agent = world.start();
    thread::scope(|scope| {
        for (number, (path, layout)) in files.iter().zip(layouts).enumerate() {
            scope.spawn(move || {
                let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
                let file = file.unwrap();
                // Room that is allocated ahead, part of it.
                file.set_len(200_000).unwrap();
                let mut at = 0;
                for (n, gap) in gaps.into_iter().enumerate() {
                    let mut bytes = String::new();
                    for line in 0..3 {
                        bytes += &layout.line(&text(number, 3 * n + line));
                    }
                    let last = layout.line(&text(number, 1_000 + n));
                    bytes += &last.repeat(1 + gap / last.len());
                    // Written behind, and some bytes of a line before.
                    let begun = if n == 0 { 0 } else { 50 };
                    file.write_all_at(&bytes.as_bytes()[..begun], at).unwrap();
                    write_torn(&file, &bytes.as_bytes()[begun..], at + begun as u64, gap);
                    at += bytes.len() as u64;
                }
                file.set_len(at).unwrap();
            });
        }
    });
    let wanted: Vec<Vec<String>> = (0..layouts.len())
        .map(|number| {
            let lines = gaps.iter().enumerate().flat_map(|(n, gap)| {
                let last = text(number, 1_000 + n);
                let times = 1 + gap / layouts[number].line(&last).len();
                let lines = (0..3).map(move |line| text(number, 3 * n + line));
                lines.chain(std::iter::repeat_n(last, times))
            });
            lines.collect()
        })
        .collect();
    world.wait_for(wanted.iter().map(Vec::len).sum());
    assert_eq!(agent.stop(), Some(0));
    let all = bodies(&world);
    for (number, wanted) in wanted.iter().enumerate() {
        let got = all.iter().filter(|body| body.starts_with(&format!("{number} ")));
        let got: Vec<_> = got.collect();
        let at = got.iter().zip(wanted).position(|(got, wanted)| *got != wanted);
        assert_eq!((at, got.len()), (None, wanted.len()), "file {number}");
    }
    assert_eq!(all.len(), wanted.iter().map(Vec::len).sum::<usize>());
    assert_audit(&world, 0);
}

fn what_was_skipped_by_nobody_is_read_after_a_kill(world: World) {
    let file = File::create(world.path("plain/app.log")).unwrap();
    file.set_len(1 << 20).unwrap();
    let bytes: String = (0..400).map(|n| format!("line {n} {}\n", "x".repeat(90))).collect();
    let bytes = bytes.as_bytes();
    // Zeros from within a line on, and at the file's beginning too.
    file.write_all_at(&bytes[300..5_000], 300).unwrap();
    file.write_all_at(&bytes[9_000..], 9_000).unwrap();
    let agent = world.start();
    thread::sleep(2 * MOMENT);
    agent.kill();
    let agent = world.start();
    thread::sleep(MOMENT);
    file.write_all_at(&bytes[..300], 0).unwrap();
    world.wait_for(40);
    agent.kill();
    let agent = world.start();
    thread::sleep(MOMENT);
    file.write_all_at(&bytes[5_000..9_000], 5_000).unwrap();
    world.wait_for(400);
    assert_eq!(agent.stop(), Some(0));
    let wanted: Vec<_> = std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    assert!(bodies(&world) == wanted);
    assert_audit(&world, 0);
}

/// Lines of some pages, so that each crosses pages, and none begins where one does.
fn long_line(writer: usize, n: usize) -> String {
    let fill = char::from(b'a' + (n % 26) as u8).to_string();
    format!("{writer} {n} {}\n", fill.repeat(1 + n * 7_919 % 24_000))
}

fn assert_lines(world: &World, writers: usize, count: usize, in_order: bool) {
    let mut got = world
        .wait_for(writers * count)
        .iter()
        .map(|it| body(it).to_owned() + "\n")
        .collect::<Vec<_>>();
    let mut wanted: Vec<_> =
        (0..writers).flat_map(|writer| (0..count).map(move |n| long_line(writer, n))).collect();
    if !in_order {
        got.sort();
        wanted.sort();
    }
    let differs = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted);
    let shown = |lines: &[String], at: usize| lines[at].chars().take(40).collect::<String>();
    let shown = differs.map(|at| (shown(&got, at), shown(&wanted, at)));
    assert_eq!((shown, got.len()), (None, wanted.len()));
}

fn lines_written_in_place_in_a_tight_loop_arrive_whole(world: World) {
    const COUNT: usize = 3_000;
    let file = File::create(world.path("plain/app.log")).unwrap();
    let agent = world.start();
    world.wait_for_first_look();
    let (mut at, mut size) = (0, 0);
    for n in 0..COUNT {
        let line = long_line(0, n);
        if at + line.len() as u64 > size {
            size += 4 << 20;
            file.set_len(size).unwrap();
        }
        file.write_all_at(line.as_bytes(), at).unwrap();
        at += line.len() as u64;
    }
    assert_lines(&world, 1, COUNT, true);
    assert_eq!(agent.stop(), Some(0));
    assert_audit(&world, 0);
}

fn lines_of_several_writers_arrive_whole(world: World) {
    const COUNT: usize = 600;
    const WRITERS: usize = 4;
    let file = File::create(world.path("plain/app.log")).unwrap();
    let end = AtomicU64::new(0);
    let agent = world.start();
    world.wait_for_first_look();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (file, end) = (&file, &end);
            scope.spawn(move || {
                for n in 0..COUNT {
                    let line = long_line(writer, n);
                    let at = end.fetch_add(line.len() as u64, Ordering::Relaxed);
                    if n % 50 == writer {
                        // Its processor was taken away.
                        thread::sleep(Duration::from_millis(20));
                    }
                    file.write_all_at(line.as_bytes(), at).unwrap();
                }
            });
        }
    });
    assert_lines(&world, WRITERS, COUNT, false);
    assert_eq!(agent.stop(), Some(0));
    assert_audit(&world, 0);
}

/// Adds lines until it is over; how many.
fn write_on(path: &Path, over: &AtomicBool) -> usize {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let mut at = file.metadata().unwrap().len();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            return n;
        }
        let line = format!("on {n}\n");
        file.write_all_at(line.as_bytes(), at).unwrap();
        at += line.len() as u64;
        thread::sleep(Duration::from_micros(200));
    }
    0
}

fn a_hole_is_skipped_while_the_file_is_written_to(world: World) {
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    // Long ones, a short one within a line, and what was written as zeros.
    file.write_all_at(b"one\n", 0).unwrap();
    file.write_all_at(b"two\n", 1 << 30).unwrap();
    file.write_all_at(b"th\0\0\0ree\n", (1 << 30) + 4).unwrap();
    file.write_all_at(&[0; 100_000], (1 << 30) + 13).unwrap();
    file.write_all_at(b"four\n", (1 << 30) + 100_013).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&path, &over));
        let over = Over(&over);
        let agent = world.start();
        world.wait_for_first_look();
        let began = Instant::now();
        world.wait_for(5);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        drop(over);
        world.wait_for(4 + writer.join().unwrap());
        assert_eq!(agent.stop(), Some(0));
    });
    assert_eq!(bodies(&world)[..5], ["one", "two", "th\0\0\0ree", "four", "on 0"]);
    assert_audit(&world, (1 << 30) - 4 + 100_000);
}

#[test]
fn a_stop_waits_for_what_is_in_doubt() {
    let world = World::new("auto");
    let path = world.path("plain/app.log");
    fs::write(&path, "one\n").unwrap();
    let agent = world.start();
    world.wait_for(1);
    // Nobody can read it any more once the agent is gone.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"two\nth\0ree\n", 5_000).unwrap();
    thread::sleep(MOMENT);
    fs::remove_file(&path).unwrap();
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), ["one", "two", "th\0ree"]);
    assert_audit(&world, 4_996);
}

#[test]
fn a_file_that_is_read_from_its_end_on_is_read_from_where_its_room_begins() {
    let mut world = World::new("auto");
    world.extra = "read:\n  start: end\n".into();
    let path = world.path("plain/app.log");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"before\n", 0).unwrap();
    file.write_all_at(&[0; 200_000], 7).unwrap();
    file.set_len(32 << 20).unwrap();
    let agent = world.start();
    world.wait_for_first_look();
    file.write_all_at(b"one\ntwo\n", 7).unwrap();
    world.wait_for(2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bodies(&world), ["one", "two"]);
    let (code, audit) = world.audit();
    assert_eq!((code, audit["dropped"]["before_start"].as_u64()), (0, Some(7)), "{audit}");
}
