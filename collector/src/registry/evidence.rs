//! Whether a content can be what an entry's file held. First bytes alone prove nothing.

use std::{fs::File, sync::Arc};

use crate::{
    checkpoint::{FileEntry, Offset},
    identity::{Fingerprint, checksum::Checksum, guard::Guard, prefix::PrefixGuards},
    read::gzip::Survey,
};

/// The hash of the file's first bytes.
pub(super) fn fingerprint(entry: &FileEntry) -> Fingerprint {
    Fingerprint { hash: entry.fingerprint, len: entry.fingerprint_len.into() }
}

/// Whether a content that begins with `head` is worth a closer look. One that is shorter than the first
/// bytes that are known, only marks can tell; no copy is shorter (`renamed`) where logs are rotated by renaming.
pub(super) fn may_begin_with(entry: &FileEntry, head: &[u8], renamed: bool) -> bool {
    let fingerprint = fingerprint(entry);
    let is_short = !renamed && !head.is_empty() && head.len() < fingerprint.len as usize;
    fingerprint.len > 0 && (is_short || fingerprint.matches(head))
}

/// Whether a plain file that begins with `head` still holds what was read of it. What cannot be read now
/// is not held against it.
pub(super) fn goes_on_in(entry: &FileEntry, file: &File, head: &[u8]) -> bool {
    let holds = |offset: &Offset| {
        let long_enough = file.metadata().map_or(true, |about| about.len() >= offset.settled);
        long_enough && offset.guard.holds_in_file(file, offset.settled).unwrap_or(true)
    };
    fingerprint(entry).matches(head) && entry.sinks.values().all(holds)
}

/// Whether the file is finished and had this checksum, surely or, with a state of a version that kept
/// neither checksums nor guards, by its name, length and first bytes.
pub(super) fn has_checksum(
    entry: &FileEntry,
    sum: Checksum,
    stem: &str,
    head: &[u8],
) -> Option<bool> {
    if entry.size as u32 != sum.length {
        return None;
    }
    if entry.crc != 0 {
        return (entry.crc == sum.crc).then_some(true);
    }
    let former = entry.sinks.values().all(|offset| offset.guard.is_none());
    (former && *entry.name == *stem && may_begin_with(entry, head, false)).then_some(false)
}

/// Takes back what was lost when the file was truncated: those bytes were not read.
pub(super) fn without_lost(entry: &mut FileEntry) {
    let sinks = entry.sinks.iter().map(|(sink, offset)| {
        let settled = offset.settled - offset.lost.min(offset.settled);
        let resume = offset.resume.min(settled);
        (Arc::clone(sink), Offset { settled, resume, ..*offset })
    });
    entry.sinks = sinks.collect();
}

/// Whether a content that was unpacked may be a copy of the entry's file, as far as its first lines tell.
pub(super) fn may_be(entry: &FileEntry, marks: Option<&PrefixGuards>, survey: &Survey) -> bool {
    let is_short = u64::from(entry.fingerprint_len) > survey.length;
    let ends_line = survey.before(survey.length).is_some_and(|last| last.ends_with(b"\n"));
    let content = Checksum { crc: survey.crc, length: survey.length as u32 };
    !is_short || !ends_line || marks.is_none_or(|marks| marks.may_begin_with(content))
}

/// How many bytes of a content were read, if it holds these: the bytes before each sink's offset are
/// there, or, where it ends before that, `marks` tell that it is the beginning of what was read. Of a
/// finished file nothing but all of it will do. `head`: the content's first bytes.
pub(super) fn is_held_by(
    entry: &FileEntry,
    marks: Option<&PrefixGuards>,
    (head, survey): (&[u8], &Survey),
) -> Option<u64> {
    let finished = entry.crc != 0 && entry.size == survey.length;
    if finished && entry.crc != survey.crc {
        return None;
    }
    let holds = |at: u64, guard: Guard| {
        let before = survey.before(at);
        let before = before.and_then(|bytes| bytes.get(bytes.len().checked_sub(guard.length())?..));
        before.is_some_and(|bytes| !guard.is_none() && guard.matches(bytes))
    };
    // A sink that skipped what was there has no guard: what another one has read will do, or marks.
    let others = |at: u64| {
        let mut others = entry.sinks.values().filter(|other| other.settled > 0);
        others.any(|other| holds(other.settled, other.guard))
            || marks.is_some_and(|marks| marks.tell(at, holds))
    };
    let mut offsets = entry.sinks.values().filter(|offset| offset.settled > 0);
    let mut is_short = u64::from(entry.fingerprint_len) > survey.length;
    let is_held = offsets.all(|offset| {
        if offset.guard.is_none() {
            return others(offset.settled.min(survey.length));
        }
        let ends_before = offset.settled > survey.length;
        is_short |= ends_before;
        ends_before || holds(offset.settled, offset.guard)
    });
    let is_beginning = |marks: &PrefixGuards| {
        if survey.length <= head.len() as u64 {
            return marks.begins_with(head);
        }
        let content = Checksum { crc: survey.crc, length: survey.length as u32 };
        marks.is_beginning(content) || marks.tell(survey.length, holds)
    };
    let is_held = is_held && (!is_short || marks.is_some_and(is_beginning));
    let read = entry.sinks.values().map(|offset| offset.settled.min(survey.length)).max();
    read.filter(|_| is_held)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::Path};

    use flate2::Crc;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        identity::{
            FINGERPRINT_BYTES, FileId,
            guard::{AtHand, GUARD_BYTES, Guard},
        },
        read::{content::gzip_bytes, gzip},
    };

    fn crc(content: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(content);
        crc.sum()
    }

    /// The entry of a file of which `settled` bytes of `content` were read.
    fn entry(content: &[u8], settled: &[usize], guarded: bool, finished: bool) -> FileEntry {
        let head = Fingerprint::of(content);
        let offset = |settled: usize| Offset {
            settled: settled as u64,
            resume: settled as u64,
            guard: if guarded { Guard::of(&content[..settled]) } else { Guard::NONE },
            ..Offset::default()
        };
        let sinks = settled.iter().enumerate();
        FileEntry {
            id: FileId(1),
            source: Path::new("/logs/a.log").into(),
            name: "a.log.1".into(),
            device: 1,
            inode: 2,
            born_ns: 3,
            handle: None,
            epoch: 0,
            fingerprint: head.hash,
            fingerprint_len: head.len as u16,
            crc: if finished { crc(content) } else { 0 },
            truncated: 0,
            size: content.len() as u64,
            ended: finished,
            sinks: sinks.map(|(n, at)| (format!("{n}").into(), offset(*at))).collect(),
        }
    }

    fn held(entry: &FileEntry, content: &[u8]) -> Option<u64> {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(&gzip_bytes(content)).unwrap();
        let offsets = entry.sinks.values().map(|offset| offset.settled);
        let head = &content[..content.len().min(FINGERPRINT_BYTES)];
        is_held_by(entry, None, (head, &gzip::survey(file, offsets, u64::MAX)))
    }

    fn content(changed: Option<usize>) -> Vec<u8> {
        let mut content: Vec<u8> = (0..2_000_u32).flat_map(|n| (n as u16).to_le_bytes()).collect();
        if let Some(at) = changed {
            content[at] ^= 0x80;
        }
        content
    }

    #[test]
    fn a_content_is_the_files_if_it_is_long_enough_and_the_bytes_before_each_offset_are_there() {
        let known = entry(&content(None), &[1_000, 3_000], true, false);
        assert_eq!(held(&known, &content(None)), Some(3_000));
        assert_eq!(held(&known, &content(None)[..3_000]), Some(3_000));
        assert_eq!(held(&known, &content(None)[..2_999]), None, "it is shorter than what was read");
        for at in [940, 999, 2_940, 2_999] {
            assert_eq!(held(&known, &content(Some(at))), None, "byte {at} is another");
        }
        let unguarded = entry(&content(None), &[1_000], false, false);
        assert_eq!(held(&unguarded, &content(None)), None, "in doubt it is read again");
        let nothing_read = entry(&content(None), &[0], false, false);
        assert_eq!(held(&nothing_read, &content(None)), Some(0));
    }

    #[test]
    fn a_sink_that_skipped_what_was_there_says_nothing_against_a_content() {
        let mut known = entry(&content(None), &[1_000, 3_000], true, false);
        known.sinks = known
            .sinks
            .iter()
            .map(|(name, at)| {
                let guard = if at.settled == 3_000 { Guard::NONE } else { at.guard };
                (Arc::clone(name), Offset { guard, ..*at })
            })
            .collect();
        assert_eq!(held(&known, &content(None)[..3_000]), Some(3_000));
        assert_eq!(held(&known, &content(None)[..2_000]), Some(2_000), "it skipped more than that");
        assert_eq!(held(&known, &content(Some(900))[..3_000]), None, "what was read is not there");
        assert_eq!(held(&known, &content(None)[..999]), None, "nothing tells");
    }

    #[test]
    fn a_content_that_ends_before_what_was_read_is_told_by_its_marks() {
        let whole = content(None);
        let known = entry(&whole, &[3_000, 1_000], true, false);
        let mut marks = PrefixGuards::default();
        marks.note((0, 3_000), AtHand::before(&whole[..3_000], 3_000));
        let held = |content: &[u8], marks: Option<&PrefixGuards>| {
            let mut file: File = tempfile::tempfile().unwrap();
            file.write_all(&gzip_bytes(content)).unwrap();
            let offsets = known.sinks.values().map(|offset| offset.settled);
            let offsets = offsets.chain(marks.iter().flat_map(|it| it.all().map(|(at, _)| at)));
            let head = &content[..content.len().min(FINGERPRINT_BYTES)];
            is_held_by(&known, marks, (head, &gzip::survey(file, offsets, u64::MAX)))
        };
        assert_eq!(held(&whole[..2_500], Some(&marks)), Some(2_500));
        assert_eq!(held(&whole[..2_500], None), None, "nothing tells");
        assert_eq!(held(&whole[..1_200], Some(&marks)), None, "nothing tells");
        assert_eq!(held(&content(Some(2_240))[..2_500], Some(&marks)), None, "another's");
        assert_eq!(held(&content(Some(990))[..2_500], Some(&marks)), None, "another's");
        assert_eq!(held(&whole, Some(&marks)), Some(3_000));
    }

    #[test]
    fn of_a_finished_file_all_must_be_the_same_unless_it_grew() {
        let whole = content(None);
        let known = entry(&whole, &[whole.len()], true, true);
        assert_eq!(held(&known, &whole), Some(whole.len() as u64));
        assert_eq!(held(&known, &content(Some(1_500))), None);
        assert_eq!(held(&known, &[&whole[..], b"last words"].concat()), Some(whole.len() as u64));
    }

    #[test]
    fn without_checksum_and_guard_a_name_with_length_and_beginning_will_do() {
        let whole = content(None);
        let sum = Checksum { crc: crc(&whole), length: whole.len() as u32 };
        let finished = entry(&whole, &[whole.len()], true, true);
        assert_eq!(has_checksum(&finished, sum, "any", &whole), Some(true));
        let other = Checksum { crc: sum.crc ^ 1, ..sum };
        assert_eq!(has_checksum(&finished, other, "a.log.1", &whole), None);
        let former = entry(&whole, &[whole.len()], false, false);
        assert_eq!(has_checksum(&former, sum, "a.log.1", &whole), Some(false));
        assert_eq!(has_checksum(&former, sum, "a.log.2", &whole), None);
        let longer = Checksum { length: sum.length + 1, ..sum };
        assert_eq!(has_checksum(&former, longer, "a.log.1", &whole), None);
        let guarded = entry(&whole, &[whole.len()], true, false);
        assert_eq!(has_checksum(&guarded, sum, "a.log.1", &whole), None, "it can be looked into");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// No stranger's offset: whatever is taken for the file holds its bytes before the offset. What is
        /// shorter than the file's first bytes is not told.
        #[test]
        fn what_is_taken_for_the_file_holds_what_was_read(
            settled in 0_usize..4_000,
            cut in 0_usize..4_000,
            changed in prop::option::of(0_usize..4_000),
        ) {
            let known = entry(&content(None), &[settled], true, false);
            let other = &content(changed)[..cut];
            let near = settled.saturating_sub(GUARD_BYTES)..settled;
            let same = settled.max(FINGERPRINT_BYTES) <= cut && changed.is_none_or(|at| !near.contains(&at));
            prop_assert_eq!(held(&known, other).is_some(), same);
        }
    }
}
