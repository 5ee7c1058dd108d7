//! Compressed copies and other former files: recognised by what they hold, all of it, as long as they
//! are there.

use std::{
    collections::BTreeMap,
    fs::{self},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use collector::checkpoint::Store;

use crate::harness::{World, append, assert_exactly_once, body, in_every_mode, patience};

in_every_mode!(
    former_copies_with_the_same_beginning_are_all_read,
    former_copies_with_the_same_content_are_all_read,
    compressed_while_down_with_the_same_beginning,
    a_copy_of_a_file_read_in_part_is_read_on_where_the_bytes_before_are_the_same,
    a_copy_that_is_written_in_place_is_waited_for,
    a_copy_that_is_never_finished_is_read_as_far_as_it_goes,
    a_copy_beside_a_file_of_its_name_with_another_content_is_read,
    what_was_rotated_before_anybody_looked_is_read_although_no_pattern_names_it,
    what_was_rotated_until_nothing_known_was_left_is_read,
    what_was_compressed_until_nothing_known_was_left_is_read,
    what_nobody_asked_for_is_left_alone_when_it_is_compressed,
    what_is_waited_for_is_waited_for_after_a_pause,
    a_copy_with_two_names_is_read_once_after_a_start_too,
);

/// Longer than the first bytes that are compared.
const BANNER: &str = "# Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port\n";

fn lines(name: &str, count: u32) -> Vec<String> {
    let banner = std::iter::repeat_n(BANNER.trim_end().to_owned(), 6);
    banner.chain((0..count).map(|n| format!("{name} {n}"))).collect()
}

fn text(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn compress(path: &Path, to: &Path) {
    fs::write(to, packed(&fs::read(path).unwrap())).unwrap();
    fs::remove_file(path).unwrap();
}

/// The world's files and their former ones.
fn with_former(mut world: World) -> World {
    world.files = format!("    - paths: [\"{}/plain/*.log*\"]\n", world.dir.path().display());
    world
}

/// Requires that these lines arrived, each as often as it was written, under ids of their own.
fn assert_collected(world: &World, wanted: &[Vec<String>]) {
    let count = |lines: &mut dyn Iterator<Item = String>| {
        let mut counts = BTreeMap::<String, u32>::new();
        lines.for_each(|line| *counts.entry(line).or_default() += 1);
        counts
    };
    let records = world.records();
    let got = count(&mut records.iter().map(|record| body(record).to_owned()));
    let wanted = count(&mut wanted.iter().flatten().cloned());
    let differ: Vec<_> = wanted
        .iter()
        .filter(|(line, n)| got.get(*line) != Some(n))
        .chain(got.iter().filter(|(line, _)| !wanted.contains_key(*line)))
        .map(|(line, _)| (line, wanted.get(line), got.get(line)))
        .take(5)
        .collect();
    assert!(differ.is_empty(), "wanted and got: {differ:?}\n{}", world.log());
    let uids: std::collections::HashSet<String> =
        records.iter().map(|record| record["log.record.uid"].to_string()).collect();
    assert_eq!(uids.len(), records.len());
}

fn total(wanted: &[Vec<String>]) -> usize {
    wanted.iter().map(Vec::len).sum()
}

fn former_copies_with_the_same_beginning_are_all_read(world: World) {
    let world = with_former(world);
    let wanted: Vec<_> = (0..4).map(|n| lines(&format!("file {n}"), 50 + n)).collect();
    for (n, lines) in wanted.iter().enumerate().take(3) {
        fs::write(world.path(&format!("plain/app.log.{}.gz", 3 - n)), packed(&text(lines)))
            .unwrap();
    }
    fs::write(world.path("plain/app.log"), text(&wanted[3])).unwrap();
    for _ in 0..2 {
        let agent = world.start();
        world.wait_for(total(&wanted));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(agent.stop(), Some(0));
        assert_collected(&world, &wanted);
        // What was known by its name is known under another one.
        for n in (1..4).rev() {
            let name = |n: u32| world.path(&format!("plain/app.log.{n}.gz"));
            let _not_yet = fs::rename(name(n), name(n + 1));
        }
    }
    assert_eq!(world.audit().0, 0);
}

/// Three files may well say the same.
fn former_copies_with_the_same_content_are_all_read(world: World) {
    let world = with_former(world);
    let wanted: Vec<_> = (0..4).map(|_| lines("tick", 20)).collect();
    let live = world.path("plain/app.log");
    let name = |n: usize| world.path(&format!("plain/app.log.{n}.gz"));
    fs::write(name(2), packed(&text(&wanted[0]))).unwrap();
    fs::write(name(1), packed(&text(&wanted[1]))).unwrap();
    let agent = world.start();
    world.wait_for(total(&wanted[..2]));
    // The next ones are compressed while it runs.
    for n in 2..4 {
        append(&live, text(&wanted[n]));
        world.wait_for(total(&wanted[..=n]));
        for at in (1..=n).rev() {
            fs::rename(name(at), name(at + 1)).unwrap();
        }
        fs::rename(&live, world.path("plain/app.log.1")).unwrap();
        append(&live, b"");
        std::thread::sleep(Duration::from_millis(300));
        compress(&world.path("plain/app.log.1"), &name(1));
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    append(&live, b"last\n");
    world.wait_for(total(&wanted) + 1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &[wanted, vec![vec!["last".to_owned()]]].concat());
}

fn compressed_while_down_with_the_same_beginning(world: World) {
    let world = with_former(world);
    let live = world.path("plain/app.log");
    let wanted: Vec<_> = ["a", "b", "c"].map(|name| lines(name, 80)).into();
    append(&live, text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    assert_eq!(agent.stop(), Some(0));
    for (n, lines) in wanted.iter().enumerate().skip(1) {
        compress(&live, &world.path(&format!("plain/app.log.{}.gz", 3 - n)));
        append(&live, text(lines));
    }
    let agent = world.start();
    world.wait_for(total(&wanted));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert_eq!(world.audit().0, 0);
}

/// Two copies begin alike for longer than was read of either; only one goes on as what was read.
fn a_copy_of_a_file_read_in_part_is_read_on_where_the_bytes_before_are_the_same(world: World) {
    let world = with_former(world);
    let live = world.path("plain/app.log");
    let mut wanted: Vec<_> = ["a", "b"].map(|name| lines(name, 40)).into();
    append(&live, text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    agent.kill();
    std::thread::sleep(Duration::from_millis(100));
    let more = ["more", "and more"].map(str::to_owned);
    append(&live, text(&more));
    wanted[0].extend(more);
    // The older one is the stranger.
    fs::write(world.path("plain/app.log.2.gz"), packed(&text(&wanted[1]))).unwrap();
    compress(&live, &world.path("plain/app.log.1.gz"));
    let agent = world.start();
    world.wait_for(total(&wanted));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

/// As Docker and logrotate do: the copy stands under its name from its first byte on.
fn a_copy_that_is_written_in_place_is_waited_for(world: World) {
    let world = with_former(world);
    let (live, plain) = (world.path("plain/app.log"), world.path("plain/app.log.1"));
    let gz = world.path("plain/app.log.1.gz");
    let agent = world.start();
    let mut wanted = Vec::new();
    for round in 0..3 {
        wanted.push(lines(&format!("round {round}"), 3_000));
        append(&live, text(&wanted[round]));
        world.wait_for(total(&wanted));
        for n in (1..4).rev() {
            let name = |n: u32| world.path(&format!("plain/app.log.{n}.gz"));
            let _not_yet = fs::rename(name(n), name(n + 1));
        }
        fs::rename(&live, &plain).unwrap();
        append(&live, b"");
        let whole = packed(&fs::read(&plain).unwrap());
        append(&gz, b"");
        for piece in whole.chunks(whole.len() / 3 + 1) {
            std::thread::sleep(Duration::from_millis(400));
            append(&gz, piece);
            if round == 1 {
                // A compressor that takes the original away too early.
                let _gone = fs::remove_file(&plain);
            }
        }
        let _gone = fs::remove_file(&plain);
        std::thread::sleep(Duration::from_millis(1_500));
    }
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert!(!world.log().contains("is damaged"), "{}", world.log());
    let agent = world.start();
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert_eq!(world.audit().0, 0);
}

fn a_copy_that_is_never_finished_is_read_as_far_as_it_goes(world: World) {
    let world = with_former(world);
    let text = text(&lines("cut", 60_000));
    let whole = packed(&text);
    fs::write(world.path("plain/app.log.1.gz"), &whole[..whole.len() / 2]).unwrap();
    fs::write(world.path("plain/app.log"), "live\n").unwrap();
    let agent = world.start();
    world.wait_for(1);
    world.wait_for_log("is damaged");
    let records = world.wait_for(10_000);
    assert_eq!(agent.stop(), Some(0));
    let former: Vec<&str> = records.iter().map(body).filter(|body| *body != "live").collect();
    assert!(text.starts_with(former[..former.len() - 1].join("\n").as_bytes()));
}

fn a_copy_beside_a_file_of_its_name_with_another_content_is_read(world: World) {
    let world = with_former(world);
    let wanted: Vec<_> = ["packed", "plain", "live"].map(|name| lines(name, 30)).into();
    fs::write(world.path("plain/app.log.1.gz"), packed(&text(&wanted[0]))).unwrap();
    fs::write(world.path("plain/app.log.1"), text(&wanted[1])).unwrap();
    fs::write(world.path("plain/app.log"), text(&wanted[2])).unwrap();
    // A copy of what lies beside it, kept: that is no other file.
    fs::write(world.path("plain/b.log.1"), text(&lines("both", 30))).unwrap();
    fs::write(world.path("plain/b.log.1.gz"), packed(&text(&lines("both", 30)))).unwrap();
    let wanted = [wanted, vec![lines("both", 30)]].concat();
    for _ in 0..2 {
        let agent = world.start();
        world.wait_for(total(&wanted));
        std::thread::sleep(Duration::from_millis(1_000));
        assert_eq!(agent.stop(), Some(0));
        assert_collected(&world, &wanted);
    }
}

fn what_was_rotated_before_anybody_looked_is_read_although_no_pattern_names_it(world: World) {
    let live = world.path("plain/app.log");
    let name = |n: usize| world.path(&format!("plain/app.log.{n}"));
    let gz = |n: usize| world.path(&format!("plain/app.log.{n}.gz"));
    let rotate = || {
        for n in (1..9).rev() {
            let _not_yet = fs::rename(name(n), name(n + 1));
            let _not_yet = fs::rename(gz(n), gz(n + 1));
        }
        fs::rename(&live, name(1)).unwrap();
    };
    // Nobody asked for what was there before.
    fs::write(name(1), "nobody asked\n").unwrap();
    fs::write(gz(2), packed(b"nobody asked\n")).unwrap();
    let wanted: Vec<_> = (0..6).map(|n| lines(&format!("file {n}"), 20)).collect();
    append(&live, text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    assert_eq!(agent.stop(), Some(0));
    // The second is written and rotated while no agent looks, and so is the third, compressed.
    for lines in &wanted[1..3] {
        rotate();
        append(&live, text(lines));
    }
    rotate();
    compress(&name(1), &gz(1));
    append(&live, text(&wanted[3]));
    let agent = world.start();
    world.wait_for(total(&wanted[..4]));
    // And the fourth between two looks.
    agent.signal(rustix::process::Signal::STOP);
    for lines in &wanted[4..] {
        rotate();
        append(&live, text(lines));
    }
    agent.signal(rustix::process::Signal::CONT);
    world.wait_for(total(&wanted));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert_eq!(world.audit().0, 0);
}

/// Rotates so often between two looks that nothing is left of what is known.
fn rotated_out_of_sight(world: &World, compressed: bool) {
    let live = world.path("plain/app.log");
    let name = |n: usize| world.path(&format!("plain/app.log.{n}"));
    let gz = |n: usize| world.path(&format!("plain/app.log.{n}.gz"));
    let wanted: Vec<_> = (0..5).map(|n| lines(&format!("file {n}"), 20)).collect();
    append(&live, text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    agent.signal(rustix::process::Signal::STOP);
    for lines in &wanted[1..] {
        for n in (1..=3).rev() {
            for (name, next) in [(name(n), name(n + 1)), (gz(n), gz(n + 1))] {
                let _not_yet = if n == 3 { fs::remove_file(name) } else { fs::rename(name, next) };
            }
        }
        fs::rename(&live, name(1)).unwrap();
        if compressed {
            compress(&name(1), &gz(1));
        }
        append(&live, text(lines));
    }
    agent.signal(rustix::process::Signal::CONT);
    world.wait_for(total(&wanted));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(world, &wanted);
    assert_eq!(world.audit().0, 0, "{:?}", world.audit());
}

fn what_was_rotated_until_nothing_known_was_left_is_read(world: World) {
    rotated_out_of_sight(&world, false);
}

fn what_was_compressed_until_nothing_known_was_left_is_read(world: World) {
    rotated_out_of_sight(&world, true);
}

/// The agent is paused for longer than it waits for a file that is still being written.
fn what_is_waited_for_is_waited_for_after_a_pause(mut world: World) {
    world.files = format!("    - paths: [\"{}/*.log*\"]\n", world.path("plain").display());
    let name = |ending: &str| world.path(&format!("plain/app.log{ending}"));
    let wanted: Vec<_> = (0..3).map(|n| lines(&format!("file {n}"), 2_000)).collect();
    append(&name(""), text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    agent.signal(rustix::process::Signal::STOP);
    fs::rename(name(""), name(".2")).unwrap();
    let whole = packed(&text(&wanted[1]));
    let (first, rest) = whole.split_at(whole.len() / 2);
    append(&name(".1.gz"), first);
    append(&name(""), text(&wanted[2]));
    agent.signal(rustix::process::Signal::CONT);
    std::thread::sleep(Duration::from_millis(500));
    agent.signal(rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_secs(8));
    agent.signal(rustix::process::Signal::CONT);
    std::thread::sleep(Duration::from_millis(700));
    append(&name(".1.gz"), rest);
    world.wait_for(total(&wanted));
    assert_eq!(agent.stop(), Some(0));
    let got: Vec<String> = world.records().iter().map(|it| body(it).to_owned()).collect();
    assert!(got == wanted.concat(), "out of order\n{}", world.log());
}

fn what_nobody_asked_for_is_left_alone_when_it_is_compressed(world: World) {
    let name = |ending: &str| world.path(&format!("plain/app.log{ending}"));
    append(&name(".1"), "nobody asked\n");
    let wanted = [lines("asked", 20), lines("asked again", 20)];
    append(&name(""), text(&wanted[0]));
    let agent = world.start();
    world.wait_for(total(&wanted[..1]));
    compress(&name(".1"), &name(".2.gz"));
    fs::rename(name(""), name(".1")).unwrap();
    append(&name(""), text(&wanted[1]));
    world.wait_for(total(&wanted));
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(agent.stop(), Some(0));
    assert_collected(&world, &wanted);
    assert_eq!(world.audit().0, 0, "{:?}", world.audit());
}

/// Names of the files that the checkpoint knows.
/// As one that is renamed while a look lasts: the look finds it by both names.
fn a_copy_with_two_names_is_read_once_after_a_start_too(world: World) {
    let world = with_former(world);
    let at = |name: &str| world.path("plain").join(name);
    let former = lines("former", 50);
    fs::write(at("app.log.1.gz"), packed(&text(&former))).unwrap();
    append(&at("app.log"), "live\n");
    let agent = world.start();
    world.wait_for(former.len() + 1);
    assert_eq!(agent.stop(), Some(0));
    fs::hard_link(at("app.log.1.gz"), at("app.log.2.gz")).unwrap();
    let agent = world.start();
    append(&at("app.log"), "and more\n");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(world.wait_for(former.len() + 2).len(), former.len() + 2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.audit().0, 0, "{}", world.audit().1);
}

fn known(world: &World) -> Vec<String> {
    let copy = world.path("state.copy");
    fs::create_dir_all(&copy).unwrap();
    fs::copy(world.path("state/checkpoint"), copy.join("checkpoint")).unwrap();
    let (_, recovered) = Store::open(&copy).unwrap();
    let mut names: Vec<String> =
        recovered.entries.iter().map(|entry| entry.name.to_string()).collect();
    names.sort();
    names
}

fn wait_until_known(world: &World, names: &[&str]) {
    let deadline = Instant::now() + patience();
    while known(world) != names {
        assert!(Instant::now() < deadline, "{:?} {names:?}", known(world));
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Longer than any time after which something was forgotten.
#[test]
fn a_quiet_copy_is_known_as_long_as_it_is_there() {
    let world = World::new("inotify");
    let mut container = world.container("a");
    let agent = world.start();
    container.write(50);
    let rotated = container.rotate();
    container.write(50);
    world.wait_for(100);
    let name = rotated.file_name().unwrap().to_str().unwrap().to_owned();
    let gz = container.compress(&rotated);
    let packed = format!("{name}.gz");
    wait_until_known(&world, &["0.log", &packed]);
    // Known under every name that it gets.
    fs::rename(&gz, container.dir.join("0.log.20261122-999999.gz")).unwrap();
    wait_until_known(&world, &["0.log", "0.log.20261122-999999.gz"]);
    std::thread::sleep(Duration::from_secs(170));
    assert_eq!(known(&world), ["0.log", "0.log.20261122-999999.gz"]);
    assert_eq!(agent.stop(), Some(0));
    let agent = world.start();
    container.write(10);
    world.wait_for(110);
    std::thread::sleep(Duration::from_secs(1));
    assert_exactly_once(&world.records(), &container);
    // Once it is gone, so is what was known of it.
    fs::remove_file(container.dir.join("0.log.20261122-999999.gz")).unwrap();
    wait_until_known(&world, &["0.log"]);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}

#[test]
fn a_file_renamed_out_of_the_pattern_and_back_is_not_collected_again() {
    let world = World::new("inotify");
    let mut container = world.container("a");
    let agent = world.start();
    container.write(50);
    let rotated = container.rotate();
    container.write(50);
    world.wait_for(100);
    let name = rotated.file_name().unwrap().to_str().unwrap();
    let hidden = container.dir.join("kept");
    // Let go, and then out of sight for longer than two looks take.
    std::thread::sleep(Duration::from_secs(12));
    fs::rename(&rotated, &hidden).unwrap();
    std::thread::sleep(Duration::from_secs(45));
    assert_eq!(known(&world), ["0.log", name]);
    fs::rename(&hidden, &rotated).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_exactly_once(&world.records(), &container);
    fs::remove_file(&rotated).unwrap();
    wait_until_known(&world, &["0.log"]);
    assert_eq!(agent.stop(), Some(0));
    assert_exactly_once(&world.records(), &container);
    assert_eq!(world.audit().0, 0);
}
