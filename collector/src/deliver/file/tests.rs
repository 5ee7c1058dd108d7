//! The file sink against crashes, full disks and other people's hands.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use proptest::prelude::*;

use super::{family::Place, owned::Owned, *};
use crate::{
    config::{ByteSize, Compression},
    deliver::testing::{Receipts, TestFile, context, sequences},
};

struct Setup {
    dir: tempfile::TempDir,
    config: config::FileSink,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        let config = config::FileSink {
            path: dir.path().join("out/log.ndjson"),
            rotate_size: ByteSize(0),
            keep: 0,
            compression: Compression::None,
            level: 1,
        };
        Self { dir, config }
    }

    fn output(&self, committed: Option<&str>) -> Output {
        let known = Known::parse("f", committed);
        Output::new("f", &self.config, &self.dir.path().join("state"), known)
    }

    fn start(&self, committed: Option<&str>) -> Handle {
        let runtime = runtime::Handle::current();
        let state = self.dir.path().join("state");
        start(&self.config, &state, context("f", committed), &runtime).unwrap()
    }

    fn rotated(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.config.path.display()))
    }

    /// All records in rotation order, live file last.
    fn records(&self) -> Vec<u64> {
        let mut members = family::members(&self.config.written()).unwrap();
        members.sort_by_key(|member| match member.place {
            Place::Former(number) => number,
            Place::Live | Place::Beside => u64::MAX,
        });
        members.iter().flat_map(|member| read(&member.path, held(&member.path))).collect()
    }
}

/// How a file's content is compressed.
fn held(path: &Path) -> Compression {
    match family::fitting_ending(path) {
        ".zst" => Compression::Zstd,
        ".gz" => Compression::Gzip,
        _ => Compression::None,
    }
}

fn read(path: &Path, compression: Compression) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let raw = crate::deliver::payload::decompress(&bytes, compression).unwrap();
    sequences(&raw, crate::batch::Framing::Lines).into_iter().map(|(_, n)| n).collect()
}

fn batches(file: &mut TestFile, count: usize) -> VecDeque<Batch> {
    (0..count).map(|_| file.batch(2)).collect()
}

/// Appends all of them and gives the last position.
fn append_all(output: &mut Output, mut batches: VecDeque<Batch>) -> String {
    let mut last = None;
    while !batches.is_empty() {
        let positions = output.append(&batches).unwrap();
        batches.drain(..positions.len());
        last = positions.into_iter().last();
    }
    last.unwrap().to_string()
}

#[tokio::test]
async fn a_group_is_settled_in_write_order_with_growing_positions() {
    let setup = Setup::new();
    let sink = setup.start(None);
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    for batch in batches(&mut file, 20) {
        sink.queue.send(batch).unwrap();
    }
    drop(sink.queue);
    sink.task.await.unwrap();
    let receipts = receipts.all();
    assert_eq!(receipts.len(), 20);
    let lengths: Vec<u64> = receipts
        .iter()
        .map(|receipt| match Known::parse("f", receipt.position.as_deref()) {
            Known::At(position) => position.length,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
    assert_eq!(*lengths.last().unwrap(), fs::metadata(&setup.config.path).unwrap().len());
    assert_eq!(setup.records(), (0..40).collect::<Vec<_>>());
}

#[test]
fn an_uncommitted_tail_is_cut_off_after_a_crash() {
    let setup = Setup::new();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let mut output = setup.output(None);
    let committed = append_all(&mut output, batches(&mut file, 3));
    append_all(&mut output, batches(&mut file, 2));
    // Torn in the middle of a record as well.
    fs::OpenOptions::new()
        .append(true)
        .open(&setup.config.path)
        .unwrap()
        .write_all(b"{\"body\":\"0:9")
        .unwrap();
    drop(output);

    let mut replay = receipts.file(0);
    batches(&mut replay, 3);
    let mut output = setup.output(Some(&committed));
    append_all(&mut output, batches(&mut replay, 4));
    assert_eq!(setup.records(), (0..14).collect::<Vec<_>>());
}

#[test]
fn rotation_keeps_the_newest_and_only_removes_its_own() {
    let mut setup = Setup::new();
    setup.config.rotate_size = ByteSize(300);
    setup.config.keep = 2;
    fs::write(setup.rotated(1), b"a stranger's\n").unwrap();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    append_all(&mut setup.output(None), batches(&mut file, 12));
    assert_eq!(fs::read(setup.rotated(1)).unwrap(), b"a stranger's\n");
    fs::remove_file(setup.rotated(1)).unwrap();
    assert_eq!(family::members(&setup.config.path).unwrap().len(), 3);
    let records = setup.records();
    assert_eq!(*records.last().unwrap(), 23);
    assert!(records.is_sorted() && records[0] > 0, "{records:?}");
}

#[test]
fn a_crash_between_rename_and_create_goes_on_in_a_new_file() {
    let setup = Setup::new();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let committed = append_all(&mut setup.output(None), batches(&mut file, 2));
    fs::rename(&setup.config.path, setup.rotated(1)).unwrap();
    append_all(&mut setup.output(Some(&committed)), batches(&mut file, 2));
    assert_eq!(read(&setup.rotated(1), Compression::None), [0, 1, 2, 3]);
    assert_eq!(read(&setup.config.path, Compression::None), [4, 5, 6, 7]);
}

#[test]
fn a_crash_after_several_uncommitted_rotations_takes_all_of_them_back() {
    let mut setup = Setup::new();
    setup.config.rotate_size = ByteSize(300);
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let mut output = setup.output(None);
    let committed = append_all(&mut output, batches(&mut file, 1));
    append_all(&mut output, batches(&mut file, 8));
    assert!(setup.rotated(3).exists());
    drop(output);

    let mut replay = receipts.file(0);
    replay.batch(2);
    append_all(&mut setup.output(Some(&committed)), batches(&mut replay, 8));
    assert_eq!(setup.records(), (0..18).collect::<Vec<_>>());
}

#[test]
fn a_first_run_without_a_checkpoint_is_taken_back_only_if_that_is_certain() {
    let setup = Setup::new();
    let receipts = Receipts::new();
    append_all(&mut setup.output(Some("")), batches(&mut receipts.file(0), 2));
    // Sound checkpoint, no position: nothing of it counts.
    append_all(&mut setup.output(Some("")), batches(&mut receipts.file(0), 3));
    assert_eq!(setup.records(), [0, 1, 2, 3, 4, 5]);
    // Lost checkpoint: it may all have counted.
    append_all(&mut setup.output(None), batches(&mut receipts.file(0), 1));
    assert_eq!(read(&setup.rotated(1), Compression::None), [0, 1, 2, 3, 4, 5]);
    assert_eq!(read(&setup.config.path, Compression::None), [0, 1]);
}

#[test]
fn a_file_that_is_not_ours_is_moved_aside_whole() {
    let setup = Setup::new();
    fs::write(&setup.config.path, b"precious").unwrap();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let committed = append_all(&mut setup.output(None), batches(&mut file, 1));
    assert_eq!(fs::read(setup.rotated(1)).unwrap(), b"precious");
    // Replaced while the agent was down: the committed length says nothing about this file.
    fs::remove_file(&setup.config.path).unwrap();
    fs::write(&setup.config.path, "x".repeat(10_000)).unwrap();
    append_all(&mut setup.output(Some(&committed)), batches(&mut file, 1));
    assert_eq!(fs::metadata(setup.rotated(2)).unwrap().len(), 10_000);
    assert_eq!(read(&setup.config.path, Compression::None), [2, 3]);
}

#[test]
fn a_changed_path_still_takes_back_what_does_not_count() {
    let mut setup = Setup::new();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let old = setup.config.path.clone();
    let mut output = setup.output(Some(""));
    let committed = append_all(&mut output, batches(&mut file, 2));
    append_all(&mut output, batches(&mut file, 1));
    setup.config.path = setup.dir.path().join("out/other.ndjson");
    for _crash in 0..2 {
        let mut replay = receipts.file(0);
        batches(&mut replay, 2);
        append_all(&mut setup.output(Some(&committed)), batches(&mut replay, 2));
        assert_eq!(read(&old, Compression::None), [0, 1, 2, 3]);
        assert_eq!(setup.records(), [4, 5, 6, 7]);
    }
    // The old directory need not be there any more.
    setup.config.path = setup.dir.path().join("new/other.ndjson");
    fs::create_dir(setup.dir.path().join("new")).unwrap();
    fs::remove_dir_all(setup.dir.path().join("out")).unwrap();
    append_all(&mut setup.output(Some(&committed)), batches(&mut receipts.file(0), 1));
    assert_eq!(setup.records(), [0, 1]);
}

#[test]
fn a_committed_file_that_was_pruned_meanwhile_is_no_obstacle() {
    let mut setup = Setup::new();
    setup.config.rotate_size = ByteSize(300);
    setup.config.keep = 1;
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let mut output = setup.output(Some(""));
    let committed = append_all(&mut output, batches(&mut file, 1));
    append_all(&mut output, batches(&mut file, 8));
    let mut replay = receipts.file(0);
    replay.batch(2);
    append_all(&mut setup.output(Some(&committed)), batches(&mut replay, 1));
    assert_eq!(setup.records(), [2, 3]);
}

#[test]
fn a_file_truncated_by_others_is_continued_at_its_end() {
    let setup = Setup::new();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let mut output = setup.output(None);
    let committed = append_all(&mut output, batches(&mut file, 2));
    let truncate = || fs::OpenOptions::new().write(true).truncate(true).open(&setup.config.path);
    // While running: no hole of zeros.
    truncate().unwrap();
    append_all(&mut output, batches(&mut file, 1));
    assert_eq!(setup.records(), [4, 5]);
    // While down.
    truncate().unwrap();
    append_all(&mut setup.output(Some(&committed)), batches(&mut file, 1));
    assert_eq!(setup.records(), [6, 7]);
}

#[test]
fn a_file_moved_by_others_while_running_is_begun_anew() {
    let setup = Setup::new();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let mut output = setup.output(None);
    append_all(&mut output, batches(&mut file, 1));
    let elsewhere = setup.dir.path().join("moved");
    fs::rename(&setup.config.path, &elsewhere).unwrap();
    append_all(&mut output, batches(&mut file, 1));
    assert_eq!(read(&elsewhere, Compression::None), [0, 1]);
    assert_eq!(setup.records(), [2, 3]);
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let setup = Setup::new();
    let target = setup.dir.path().join("target");
    fs::write(&target, b"safe").unwrap();
    std::os::unix::fs::symlink(&target, &setup.config.path).unwrap();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    let refused = setup.output(None).append(&batches(&mut file, 1)).unwrap_err().to_string();
    assert!(refused.contains("no regular file. Choose a path"), "{refused}");
    assert_eq!(fs::read(&target).unwrap(), b"safe");
    fs::remove_file(&setup.config.path).unwrap();
    fs::create_dir(&setup.config.path).unwrap();
    assert!(setup.output(None).append(&batches(&mut file, 1)).is_err());
    assert!(setup.config.path.is_dir() && !setup.rotated(1).exists());
}

#[tokio::test]
async fn a_missing_directory_is_said_and_waited_for() {
    let setup = Setup::new();
    fs::remove_dir(setup.dir.path().join("out")).unwrap();
    let failure = setup.output(None).append(&batches(&mut Receipts::new().file(0), 1));
    let said = failure.unwrap_err().to_string();
    assert!(said.contains("No such file or directory") && said.contains("Create the directory."));

    let sink = setup.start(None);
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    sink.queue.send(file.batch(2)).unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(receipts.all().is_empty());
    fs::create_dir(setup.dir.path().join("out")).unwrap();
    drop(sink.queue);
    sink.task.await.unwrap();
    assert_eq!(receipts.all().len(), 1);
    assert_eq!(setup.records(), [0, 1]);
}

#[tokio::test]
async fn aborting_a_failing_sink_settles_nothing() {
    let setup = Setup::new();
    fs::remove_dir(setup.dir.path().join("out")).unwrap();
    let sink = setup.start(None);
    let receipts = Receipts::new();
    sink.queue.send(receipts.file(0).batch(2)).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    sink.task.abort();
    assert!(sink.task.await.unwrap_err().is_cancelled());
    fs::create_dir(setup.dir.path().join("out")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(receipts.all().is_empty());
}

#[test]
fn frames_and_members_make_one_readable_file() {
    for compression in [Compression::Zstd, Compression::Gzip] {
        let mut setup = Setup::new();
        setup.config.compression = compression;
        let receipts = Receipts::new();
        let mut file = receipts.file(0);
        file.compression = compression;
        let mut output = setup.output(None);
        let committed = append_all(&mut output, batches(&mut file, 5));
        append_all(&mut output, batches(&mut file, 1));
        append_all(&mut setup.output(Some(&committed)), batches(&mut file, 1));
        assert_eq!(setup.records(), (0..10).chain(12..14).collect::<Vec<_>>());
    }
}

/// The names in the output's directory.
fn names(setup: &Setup) -> Vec<String> {
    let entries = fs::read_dir(setup.config.path.parent().unwrap()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn compressed_files_end_so_that_tools_know_them() {
    for (compression, path, live, former) in [
        (Compression::Zstd, "out/log.ndjson", "log.ndjson.zst", "log.ndjson.1.zst"),
        (Compression::Gzip, "out/log.ndjson", "log.ndjson.gz", "log.ndjson.1.gz"),
        (Compression::Zstd, "out/log.zst", "log.zst", "log.1.zst"),
        (Compression::Gzip, "out/log.zst", "log.zst.gz", "log.zst.1.gz"),
        (Compression::None, "out/log.ndjson", "log.ndjson", "log.ndjson.1"),
    ] {
        let mut setup = Setup::new();
        setup.config.path = setup.dir.path().join(path);
        (setup.config.compression, setup.config.rotate_size) = (compression, ByteSize(1));
        let mut file = Receipts::new().file(0);
        file.compression = compression;
        append_all(&mut setup.output(None), batches(&mut file, 2));
        let mut expected = [former, live];
        expected.sort_unstable();
        assert_eq!(names(&setup), expected);
        assert_eq!(setup.records(), [0, 1, 2, 3]);
    }
}

/// What a version without endings left: `rotated` former files and a live one, of two batches each, the last
/// of them not committed, and the position.
fn written_without_endings(setup: &Setup, file: &mut TestFile, rotated: u64) -> String {
    let mut ownership = owned::Ownership::load(&setup.dir.path().join("state"), "f");
    let mut position = None;
    for serial in 1..=rotated + 1 {
        let path = match serial {
            live if live > rotated => setup.config.path.clone(),
            former => setup.rotated(former as u32),
        };
        let (counts, torn) = (file.batch(2), file.batch(2));
        let both = [&counts.payload[..], &torn.payload[..]].concat();
        fs::write(&path, &both).unwrap();
        let identity = family::Identity::of(&fs::metadata(&path).unwrap());
        ownership.add(Owned { identity, serial }).unwrap();
        let length = match serial > rotated {
            true => counts.payload.len(),
            false => both.len(),
        };
        let path = setup.config.path.clone();
        position = Some(position::Position { path, identity, serial, length: length as u64 });
    }
    position.unwrap().to_string()
}

#[test]
fn files_and_position_of_a_version_without_endings_are_taken_over_without_doubles() {
    for (compression, ending) in [(Compression::Zstd, "zst"), (Compression::Gzip, "gz")] {
        let mut setup = Setup::new();
        (setup.config.compression, setup.config.keep) = (compression, 3);
        let receipts = Receipts::new();
        let mut file = receipts.file(0);
        file.compression = compression;
        let committed = written_without_endings(&setup, &mut file, 2);
        // Crashes before and after the next commit change nothing.
        for _crash in 0..2 {
            let mut replay = receipts.file(0);
            replay.compression = compression;
            batches(&mut replay, 5);
            append_all(&mut setup.output(Some(&committed)), batches(&mut replay, 2));
            assert_eq!(setup.records(), (0..14).collect::<Vec<_>>());
        }
        let expected = [
            "log.ndjson.1",
            "log.ndjson.2",
            &format!("log.ndjson.3.{ending}"),
            &format!("log.ndjson.{ending}"),
        ];
        assert_eq!(names(&setup), expected);
        // `keep` counts them.
        setup.config.rotate_size = ByteSize(1);
        let mut output = setup.output(Some(&committed));
        let mut replay = receipts.file(0);
        replay.compression = compression;
        batches(&mut replay, 5);
        append_all(&mut output, batches(&mut replay, 2));
        assert!(!setup.rotated(1).exists(), "{:?}", names(&setup));
        assert_eq!(setup.records(), (4..14).collect::<Vec<_>>());
    }
}

#[test]
fn another_compression_begins_another_file_and_nothing_is_mixed_or_doubled() {
    let mut setup = Setup::new();
    let receipts = Receipts::new();
    let mut committed = String::new();
    let mut batches_before = 0;
    for compression in [
        Compression::None,
        Compression::Zstd,
        Compression::Gzip,
        Compression::None,
        Compression::Zstd,
    ] {
        setup.config.compression = compression;
        let replay = |count: usize| {
            let mut file = receipts.file(0);
            batches(&mut file, count);
            file.compression = compression;
            file
        };
        let mut output = setup.output(Some(&committed));
        committed = append_all(&mut output, batches(&mut replay(batches_before), 2));
        batches_before += 2;
        // Not committed, so taken back whatever comes next.
        append_all(&mut output, batches(&mut replay(batches_before), 1));
    }
    append_all(&mut setup.output(Some(&committed)), {
        let mut file = receipts.file(0);
        batches(&mut file, batches_before);
        file.compression = Compression::Zstd;
        batches(&mut file, 1)
    });
    assert_eq!(setup.records(), (0..22).collect::<Vec<_>>());
    assert_eq!(
        names(&setup),
        ["log.ndjson.1", "log.ndjson.2.zst", "log.ndjson.3.gz", "log.ndjson.4", "log.ndjson.zst"]
    );
}

#[test]
fn what_others_keep_under_an_ending_of_the_outputs_is_left_alone() {
    let mut setup = Setup::new();
    fs::write(&setup.config.path, b"theirs").unwrap();
    fs::write(setup.dir.path().join("out/log.ndjson.gz"), b"theirs too").unwrap();
    setup.config.compression = Compression::Zstd;
    let mut file = Receipts::new().file(0);
    file.compression = Compression::Zstd;
    append_all(&mut setup.output(Some("")), batches(&mut file, 1));
    assert_eq!(names(&setup), ["log.ndjson", "log.ndjson.gz", "log.ndjson.zst"]);
    assert_eq!(fs::read(&setup.config.path).unwrap(), b"theirs");
}

/// A tmpfs of 64 KiB, unmounted when dropped.
struct TinyDisk(PathBuf);

impl TinyDisk {
    fn mount(at: &Path) -> io::Result<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(at)
            .stderr(std::process::Stdio::null())
            .status()?;
        if status.success() { Ok(Self(at.to_owned())) } else { Err(io::Error::other("refused")) }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_torn() {
    let setup = Setup::new();
    let disk = match TinyDisk::mount(&setup.dir.path().join("out")) {
        Ok(disk) => disk,
        Err(error) => {
            println!("skipped: mounting a tmpfs needs root ({error}).");
            return;
        }
    };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 40 << 10]).unwrap();
    let context = context("f", None);
    let troubles = context.troubles.clone();
    let state = setup.dir.path().join("state");
    let sink = start(&setup.config, &state, context, &runtime::Handle::current()).unwrap();
    let receipts = Receipts::new();
    let mut file = receipts.file(0);
    file.pad = 2000;
    for batch in batches(&mut file, 10) {
        sink.queue.send(batch).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let whole = receipts.all().len();
    assert!(whole < 10, "the disk was not full");
    assert!(troubles.failure().is_some_and(|failure| failure.text.contains("No space left")));
    fs::remove_file(&filler).unwrap();
    drop(sink.queue);
    sink.task.await.unwrap();
    assert_eq!(whole + receipts.all().len(), 10);
    assert!(troubles.failure().is_none());
    assert_eq!(setup.records(), (0..20).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is committed when, and wherever it crashes: after the replay every record is there
    /// exactly once.
    #[test]
    fn exactly_once_over_any_number_of_crashes(
        runs in proptest::collection::vec((1_usize..6, 0_usize..7, 0_usize..40), 1..6),
        rotate in prop_oneof![Just(0_u64), Just(250), Just(900)],
    ) {
        let mut setup = Setup::new();
        setup.config.rotate_size = ByteSize(rotate);
        let receipts = Receipts::new();
        let mut committed = (String::new(), 0_usize);
        for (written, commit, torn) in runs {
            let mut file = receipts.file(0);
            for _ in 0..committed.1 {
                file.batch(1);
            }
            let mut output = setup.output(Some(&committed.0));
            let before = committed.1;
            for step in 1..=written {
                let position = append_all(&mut output, VecDeque::from([file.batch(1)]));
                if step <= commit {
                    committed = (position, before + step);
                }
            }
            drop(output);
            let mut live = fs::OpenOptions::new().append(true).open(&setup.config.path).unwrap();
            live.write_all(&vec![b'x'; torn]).unwrap();
        }
        let mut file = receipts.file(0);
        for _ in 0..committed.1 {
            file.batch(1);
        }
        append_all(&mut setup.output(Some(&committed.0)), VecDeque::from([file.batch(1)]));
        prop_assert_eq!(setup.records(), (0..=committed.1 as u64).collect::<Vec<_>>());
    }
}
