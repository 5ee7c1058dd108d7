//! Crashes, damage, restarts, retention.

use std::{fs, os::unix::fs::FileExt, time::Duration};

use proptest::prelude::*;
use tempfile::tempdir;

use super::{super::clock::Reading, *};
use crate::config::Span;

const FRAMES: usize = 4;

/// A segment of a few frames of one line each, and where each frame ends.
fn small_segment(dir: &Path) -> (std::path::PathBuf, Vec<u64>) {
    let mut writer = open(dir, 1 << 20, None);
    let frames: Vec<_> = (0..FRAMES).map(|number| frame(&[line(number)], "web", 5)).collect();
    let ends = writer.append(&frames).unwrap().iter().map(|at| at.length).collect();
    (read::segments(dir).unwrap()[0].path.clone(), ends)
}

#[test]
fn a_segment_cut_anywhere_yields_exactly_its_whole_frames() {
    let dir = tempdir().unwrap();
    let (path, ends) = small_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let expected = ends.iter().filter(|end| **end <= cut as u64).count();
        let (lines, damaged) = read_all(dir.path());
        assert_eq!(lines, (0..expected).map(line).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(damaged, 0, "a torn end is not damage; cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_costs_its_frame_and_no_other() {
    let dir = tempdir().unwrap();
    let (path, ends) = small_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let hit = ends.iter().position(|end| (at as u64) < *end).unwrap();
        let expected: Vec<_> = (0..FRAMES).filter(|number| *number != hit).map(line).collect();
        assert_eq!(read_all(dir.path()).0, expected, "byte {at}");
    }
}

#[test]
fn zstd_tools_read_a_segment_as_it_is() {
    let dir = tempdir().unwrap();
    let (path, _) = small_segment(dir.path());
    let text = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let expected: String = (0..FRAMES).map(|number| line(number) + "\n").collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn a_writer_removes_what_was_not_committed() {
    // Segments of one frame and of several; a crash after every write, the commit lagging behind by
    // any number of writes, the last write torn anywhere in steps.
    for segment_bytes in [1, 250, 1 << 20] {
        for written in 0..6 {
            for committed in 0..=written {
                let dir = tempdir().unwrap();
                let mut writer = open(dir.path(), segment_bytes, None);
                let mut positions = vec![writer.position().encode()];
                for number in 0..written {
                    let at = writer.append(&[frame(&[line(number)], "web", 5)]).unwrap();
                    positions.push(at[0].encode());
                }
                drop(writer);
                let mut writer = open(dir.path(), segment_bytes, Some(&positions[committed]));
                let expected: Vec<_> = (0..committed).map(line).collect();
                assert_eq!(read_all(dir.path()).0, expected);
                // Sent again: each once. And a crash before anything is committed, once more.
                for _ in 0..2 {
                    for number in committed..6 {
                        writer.append(&[frame(&[line(number)], "web", 5)]).unwrap();
                    }
                    assert_eq!(read_all(dir.path()).0, (0..6).map(line).collect::<Vec<_>>());
                    drop(writer);
                    writer = open(dir.path(), segment_bytes, Some(&positions[committed]));
                    assert_eq!(read_all(dir.path()).0, expected);
                }
            }
        }
    }
}

#[test]
fn a_torn_end_is_cut_off_and_written_over() {
    let (_, ends) = small_segment(tempdir().unwrap().path());
    for cut in (0..*ends.last().unwrap()).step_by(7) {
        let dir = tempdir().unwrap();
        let (path, _) = small_segment(dir.path());
        let mut whole = fs::read(&path).unwrap();
        whole.truncate(usize::try_from(cut).unwrap());
        fs::write(&path, &whole).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut).count();
        let mut writer = open(dir.path(), 1 << 20, None);
        writer.append(&[frame(&[line(77)], "web", 5)]).unwrap();
        let expected: Vec<_> = (0..kept).chain([77]).map(line).collect();
        assert_eq!(read_all(dir.path()), (expected, 0), "cut at {cut}");
    }
}

#[test]
fn an_initial_position_makes_the_first_start_exactly_once() {
    let dir = tempdir().unwrap();
    let position = crate::archive::position(dir.path()).unwrap();
    for _ in 0..2 {
        let mut writer = open(dir.path(), 1 << 20, Some(&position));
        writer.append(&[frame(&[line(0)], "web", 5)]).unwrap();
    }
    assert_eq!(read_all(dir.path()).0, [line(0)]);
}

#[test]
fn a_strangers_position_removes_nothing() {
    let (mine, other) = (tempdir().unwrap(), tempdir().unwrap());
    small_segment(mine.path());
    for position in [open(other.path(), 1, None).position().encode(), "nonsense".into()] {
        drop(open(mine.path(), 1, Some(&position)));
        assert_eq!(read_all(mine.path()).0.len(), FRAMES);
    }
}

#[test]
fn a_committed_segment_that_retention_removed_does_not_come_again() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1 << 20, None);
    let committed = writer.append(&[frame(&[line(0)], "web", 5)]).unwrap()[0].encode();
    drop(writer);
    fs::remove_file(&read::segments(dir.path()).unwrap()[0].path).unwrap();
    for _ in 0..2 {
        let mut writer = open(dir.path(), 1 << 20, Some(&committed));
        assert_eq!(read_all(dir.path()).0, Vec::<String>::new());
        writer.append(&[frame(&[line(1), line(2)], "web", 5)]).unwrap();
        assert_eq!(read_all(dir.path()).0, [line(1), line(2)]);
    }
}

#[test]
fn a_failed_append_leaves_the_archive_as_it_was() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1 << 20, None);
    writer.append(&[frame(&[line(0)], "web", 5)]).unwrap();
    let path = &read::segments(dir.path()).unwrap()[0].path;
    let writable = writer.replace_file(fs::File::open(path).unwrap());
    let before = writer.position();
    assert!(writer.append(&[frame(&[line(1)], "web", 5)]).is_err());
    assert_eq!((writer.position(), read_all(dir.path()).0.len()), (before.clone(), 1));
    // What a failed write tore stays harmless even where it could not be cut off.
    writable.write_all_at(b"torn", before.length).unwrap();
    assert_eq!(read_all(dir.path()), (vec![line(0)], 0));
    writer.replace_file(writable);
    writer.append(&[frame(&[line(1)], "web", 5)]).unwrap();
    assert_eq!(read_all(dir.path()), (vec![line(0), line(1)], 0));
}

#[test]
fn a_removed_segment_is_not_written_on() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1 << 20, None);
    writer.append(&[frame(&[line(0)], "web", 5)]).unwrap();
    fs::remove_file(&read::segments(dir.path()).unwrap()[0].path).unwrap();
    writer.append(&[frame(&[line(1)], "web", 5)]).unwrap();
    assert_eq!(read_all(dir.path()).0, [line(1)]);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempdir().unwrap();
    let _writer = open(dir.path(), 1, None);
    let error = Writer::open(dir.path(), &config(1), None).unwrap_err().to_string();
    assert!(error.contains("another process writes to the archive"), "{error}");
}

#[test]
fn retention_removes_the_oldest_whole_segments() {
    let dir = tempdir().unwrap();
    let now = jiff::Timestamp::now().as_second();
    let size = {
        let mut writer = open(&dir.path().join("probe"), 1, None);
        writer.append(&[frame(&[line(0)], "web", now)]).unwrap()[0].length
    };
    let config = config::Archive {
        max_bytes: ByteSize(size * 4 + 20),
        max_age: Span(Duration::from_secs(3_600)),
        segment_bytes: ByteSize(1),
        ..config::Archive::default()
    };
    let dir = dir.path().join("archive");
    let mut writer = Writer::open(&dir, &config, None).unwrap();
    for number in 0..9 {
        writer.append(&[frame(&[line(number)], "web", now)]).unwrap();
    }
    // Room is made before something is written, so nothing is left to do.
    assert_eq!(writer.maintain(), 0, "the open one is closed and counts");
    assert_eq!(read_all(&dir).0, (5..9).map(line).collect::<Vec<_>>());
}

#[test]
fn the_bound_of_bytes_holds_at_every_moment() {
    let dir = tempdir().unwrap();
    let max = 4_000;
    let config = config::Archive { max_bytes: ByteSize(max), ..config(700) };
    let mut writer = Writer::open(dir.path(), &config, None).unwrap();
    let there = || -> u64 {
        let segments = read::segments(dir.path()).unwrap();
        segments.iter().map(|segment| fs::metadata(&segment.path).unwrap().len()).sum()
    };
    for round in 0..40_usize {
        let lines: Vec<String> =
            (0..1 + round % 7 * 30).map(|n| line(round * 1_000 + n * 7_919)).collect();
        let frames: Vec<_> = lines.chunks(9).map(|lines| frame(lines, "web", 5)).collect();
        let size: usize =
            frames.iter().map(|(header, payload)| header.encode(0).len() + payload.len()).sum();
        match writer.append(&frames) {
            Ok(_) => assert!(read_all(dir.path()).0.ends_with(&lines), "what is new is there"),
            Err(error) => {
                assert!(size as u64 > max, "{error}");
                assert!(error.to_string().contains("max_bytes"), "{error}");
            }
        }
        assert!(there() <= max, "{} bytes in round {round}", there());
    }
}

/// Readings of the clocks a while after now.
fn later(running: u64, ahead: u64) -> Reading {
    let now = Reading::now();
    let [running, ahead] = [running, ahead].map(Duration::from_secs);
    Reading { wall: now.wall + running + ahead, running: now.running + running }
}

#[test]
fn age_counts_from_when_a_line_was_stored() {
    let dir = tempdir().unwrap();
    let now = jiff::Timestamp::now().as_second();
    let config = config::Archive { max_age: Span(Duration::from_secs(3_600)), ..config(1) };
    let mut writer = Writer::open(dir.path(), &config, None).unwrap();
    // A backlog, and a line that claims to come from the future.
    writer.append(&[frame(&[line(0)], "web", now - 800_000)]).unwrap();
    writer.append(&[frame(&[line(1)], "web", now + 800_000)]).unwrap();
    assert_eq!(writer.maintain_at(later(3_000, 0)), 0);
    let position = writer.position().encode();
    drop(writer);
    // Also after a restart.
    let mut writer = Writer::open(dir.path(), &config, Some(&position)).unwrap();
    assert_eq!(writer.maintain_at(later(3_000, 0)), 0);
    assert_eq!(writer.maintain_at(later(3_700, 0)), 1, "a share at a time");
    assert_eq!(writer.maintain_at(later(3_701, 0)), 0);
    assert_eq!(writer.maintain_at(later(3_800, 0)), 1);
    assert_eq!(read_all(dir.path()).0, Vec::<String>::new());
}

#[test]
fn a_clock_that_is_ahead_for_a_moment_removes_nothing() {
    let dir = tempdir().unwrap();
    let mut writer = open(dir.path(), 1, None);
    for number in 0..30 {
        writer.append(&[frame(&[line(number)], "web", 5)]).unwrap();
    }
    let (hour, month) = (3_600, 30 * 86_400);
    for (running, ahead) in [(2, 0), (3, month), (4, month), (7, 0), (2 * hour, 0)] {
        assert_eq!(writer.maintain_at(later(running, ahead)), 0, "{running} s, {ahead} s ahead");
    }
    // And one that is ahead from the start on, corrected before it was believed.
    drop(writer);
    let mut writer = open(dir.path(), 1, None);
    assert_eq!(writer.maintain_at(later(3, month)), 0);
    assert_eq!(writer.maintain_at(later(hour / 2, month)), 0);
    assert_eq!(writer.maintain_at(later(hour / 2 + 1, 0)), 0);
    assert_eq!(read_all(dir.path()).0.len(), 30);
}

#[test]
fn a_reader_beside_the_writer_sees_whole_frames_in_order() {
    let dir = tempdir().unwrap();
    let path = dir.path();
    const LAST: usize = 600;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = open(path, 4_000, None);
            for number in (0..LAST).step_by(3) {
                let frames: Vec<_> =
                    (number..number + 3).map(|number| frame(&[line(number)], "web", 5)).collect();
                writer.append(&frames).unwrap();
            }
        });
        loop {
            if !path.join("archive.id").exists() {
                continue;
            }
            let (lines, damaged) = read_all(path);
            assert_eq!(damaged, 0);
            assert_eq!(lines, (0..lines.len()).map(line).collect::<Vec<_>>());
            if lines.len() == LAST {
                return;
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened to the files, reading neither panics nor makes lines up.
    #[test]
    fn arbitrary_damage_makes_no_line_up(edits: Vec<(prop::sample::Index, u8)>, cut: prop::sample::Index, shift in 0_usize..3) {
        let dir = tempdir().unwrap();
        let (path, _) = small_segment(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        bytes.splice(0..0, std::iter::repeat_n(0x5E, shift));
        fs::write(&path, &bytes).unwrap();
        let (lines, _) = read_all(dir.path());
        let mut numbers = (0..FRAMES).map(line);
        prop_assert!(lines.iter().all(|found| numbers.any(|line| line == *found)), "{lines:?}");
        // And the writer goes on after it.
        let before = lines.len();
        open(dir.path(), 1 << 20, None).append(&[frame(&[line(99)], "web", 5)]).unwrap();
        prop_assert_eq!(read_all(dir.path()).0.len(), before + 1);
    }
}
