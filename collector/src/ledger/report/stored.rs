//! The report while no agent runs: what the checkpoint holds, and what the files have grown to.
//!
//! Reads sizes only, and of a log file's contents no more than tells whether it ends in a hole.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use super::{FileReport, Report, SinkFileReport, SinkReport, Totals};
use crate::{
    checkpoint::FileEntry,
    identity::{self, InodeKey, holes, sys},
};

/// The report of a stopped agent from its checkpoint. What was in flight when it stopped counts as
/// unread: it will be read again.
pub fn from_checkpoint(entries: &[FileEntry], totals: &BTreeMap<String, u64>) -> Report {
    let totals = Totals::from_named(totals);
    let known = entries.iter().flat_map(|entry| entry.sinks.keys().map(|name| &**name));
    let names: BTreeSet<&str> = known.chain(totals.finished.keys().map(String::as_str)).collect();
    let sinks =
        names.into_iter().map(|name| SinkReport { name: name.to_owned(), ..Default::default() });
    let latest = latest_lives(entries);
    let file = |entry| file(entry, latest.get(&inode(entry)) == Some(&entry.epoch));
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sinks: sinks.collect(),
        files: entries.iter().map(file).collect(),
        totals,
        ..Report::default()
    }
}

/// An inode: without a birth time, its number may have been another's, and the handle tells.
type Inode<'a> = (InodeKey, Option<&'a sys::Handle>);

fn inode(entry: &FileEntry) -> Inode<'_> {
    let FileEntry { device, inode, born_ns, .. } = *entry;
    let handle = entry.handle.as_ref().filter(|_| born_ns == 0);
    (InodeKey { device, inode, born_ns }, handle)
}

/// The number of each inode's latest life. What the inode holds now is that one's: of a life that a
/// truncation ended, no byte can come any more.
fn latest_lives(entries: &[FileEntry]) -> HashMap<Inode<'_>, u32> {
    let mut latest = HashMap::with_capacity(entries.len());
    for entry in entries {
        let epoch = latest.entry(inode(entry)).or_insert(entry.epoch);
        *epoch = entry.epoch.max(*epoch);
    }
    latest
}

fn file(entry: &FileEntry, latest: bool) -> FileReport {
    let path = entry.source.with_file_name(&*entry.name);
    let grown = if latest { size_now(entry, &path) } else { None };
    let seen = entry.size.max(grown.unwrap_or(0));
    let sinks = entry.sinks.iter().map(|(name, offset)| {
        let mut sink = SinkFileReport::new(seen, offset.settled, *offset);
        sink.account = sink.account.stopped();
        (name.to_string(), sink)
    });
    let (namespace, pod, container) = kubernetes(&entry.source);
    FileReport {
        path: path.to_string_lossy().into_owned(),
        source: entry.source.to_string_lossy().into_owned(),
        namespace,
        pod,
        container,
        device: entry.device,
        inode: entry.inode,
        // Of an earlier life no byte can come any more, whether or not its end is written down.
        ended: entry.ended || !latest,
        seen,
        sinks: sinks.collect(),
        ..FileReport::default()
    }
}

/// What the file has grown to, if it is still the same. One that was read to its end and left behind
/// may have been written to since. A compressed copy does not grow, and its size is another measure.
fn size_now(entry: &FileEntry, path: &Path) -> Option<u64> {
    if entry.name.ends_with(".gz") {
        return None;
    }
    let (there, handle) = inode(entry);
    let look = identity::look_at(path).ok()?;
    // A filesystem may have learned to keep birth times since, or forgot.
    let same_birth =
        look.key.born_ns == there.born_ns || look.key.born_ns == 0 || there.born_ns == 0;
    let same_inode = (look.key.device, look.key.inode) == (there.device, there.inode);
    if !same_inode || !same_birth || !look.regular {
        return None;
    }
    let Ok((file, opened)) = identity::open(path) else { return Some(look.size) };
    let is_now = handle.and_then(|_| identity::identify(&file, &opened).handle);
    if opened.key != look.key || is_now.is_some_and(|is_now| Some(&is_now) != handle) {
        return None;
    }
    Some(holes::length(&file, entry.size).unwrap_or(opened.size))
}

/// Namespace, pod and container from `…/NAMESPACE_POD_UID/CONTAINER/N.log`.
fn kubernetes(source: &Path) -> (Option<String>, Option<String>, Option<String>) {
    let mut names =
        source.ancestors().skip(1).filter_map(|directory| directory.file_name()?.to_str());
    let (container, pod) = (names.next(), names.next());
    let pod: Vec<_> = pod.unwrap_or_default().split('_').collect();
    match (pod.as_slice(), container) {
        ([namespace, pod, _uid], Some(container)) => {
            let owned = |name: &str| Some(name.to_owned());
            (owned(namespace), owned(pod), owned(container))
        }
        _ => (None, None, None),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;
    use crate::{checkpoint::Offset, identity::FileId};

    fn entry(source: &Path, name: &str) -> FileEntry {
        let metadata = fs::metadata(source.with_file_name(name)).unwrap();
        FileEntry {
            id: FileId(1),
            source: source.into(),
            name: name.into(),
            device: metadata.dev(),
            inode: metadata.ino(),
            born_ns: 0,
            handle: None,
            epoch: 0,
            fingerprint: 0,
            fingerprint_len: 0,
            crc: 0,
            truncated: 0,
            size: 4,
            ended: false,
            sinks: [(
                "a".into(),
                Offset { settled: 3, resume: 3, dropped: 1, lost: 0, ..Offset::default() },
            )]
            .into_iter()
            .collect(),
        }
    }

    #[test]
    fn growth_while_the_agent_is_down_is_unread() {
        let dir = tempfile::tempdir().unwrap();
        let container = dir.path().join("shop_web-1_uid/nginx");
        fs::create_dir_all(&container).unwrap();
        let source = container.join("0.log");
        fs::write(&source, "0123456789").unwrap();
        let living = entry(&source, "0.log");

        let report =
            from_checkpoint(std::slice::from_ref(&living), &[("lost.deleted".into(), 5)].into());
        let file = &report.files[0];
        assert_eq!((file.seen, file.unread()), (10, 7));
        assert_eq!(file.sinks["a"].account.acknowledged, 2);
        assert_eq!(file.sinks["a"].account.sum(), 10);
        assert_eq!(file.namespace.as_deref(), Some("shop"));
        assert_eq!(file.pod.as_deref(), Some("web-1"));
        assert_eq!(file.container.as_deref(), Some("nginx"));
        assert_eq!(report.totals.lost["deleted"], 5);

        let offset = Offset { settled: 3, resume: 1, dropped: 1, lost: 0, ..Offset::default() };
        let sinks = [("a".into(), offset)].into_iter().collect();
        let unfinished = FileEntry { sinks, ..living.clone() };
        let account = from_checkpoint(&[unfinished], &BTreeMap::new()).files[0].sinks["a"].account;
        assert_eq!((account.acknowledged, account.unread, account.sum()), (0, 9, 10));

        let stranger = FileEntry { inode: living.inode + 1, ..living.clone() };
        assert_eq!(from_checkpoint(&[stranger], &BTreeMap::new()).files[0].seen, 4);
        let ended = FileEntry { ended: true, ..living };
        assert_eq!(from_checkpoint(&[ended], &BTreeMap::new()).files[0].seen, 10);
    }

    /// What a checkpoint of these says to have been seen of each.
    fn seen(entries: &[FileEntry]) -> Vec<u64> {
        from_checkpoint(entries, &BTreeMap::new()).files.iter().map(|file| file.seen).collect()
    }

    #[test]
    fn what_an_inode_holds_now_is_its_latest_life_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.log");
        fs::write(&source, "0123456789").unwrap();
        let former = FileEntry { ended: true, ..entry(&source, "a.log") };
        let cut = FileEntry { id: FileId(2), epoch: 1, ..former.clone() };
        let living = FileEntry { id: FileId(3), epoch: 2, ended: false, ..former.clone() };
        let lives = [former.clone(), living.clone(), cut.clone()];
        assert_eq!(seen(&lives), [4, 10, 4]);
        assert_eq!(seen(std::slice::from_ref(&living)), [10]);
        // Nobody has read the latest one yet, but what it holds is no former life's either.
        assert_eq!(seen(&[former.clone(), cut]), [4, 10]);
        // Another inode has the number by now, or had it before.
        let look = identity::look_at(&source).unwrap();
        if look.key.born_ns == 0 {
            println!("skipped: the filesystem keeps no birth times");
            return;
        }
        let born = |born_ns, epoch| FileEntry { born_ns, epoch, ..former.clone() };
        assert_eq!(seen(&[born(look.key.born_ns, 0), born(look.key.born_ns - 1, 7)]), [10, 4]);
    }

    #[test]
    fn without_a_birth_time_a_handle_tells_whose_number_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.log");
        fs::write(&source, "0123456789").unwrap();
        let Ok(handle) = sys::handle_of(&fs::File::open(&source).unwrap()) else {
            println!("skipped: no handles here");
            return;
        };
        let mut other = handle.bytes().to_vec();
        *other.last_mut().unwrap() ^= 1;
        let other = sys::Handle::new(handle.kind(), &other);
        let own = FileEntry { handle: Some(handle), ..entry(&source, "a.log") };
        // Lives of two inodes: the number of one says nothing of the other's.
        let stranger = FileEntry { handle: Some(other), epoch: 9, ..own.clone() };
        assert_eq!(seen(&[own, stranger]), [10, 4]);
    }

    #[test]
    fn a_compressed_copy_is_as_long_as_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.log");
        fs::write(dir.path().join("a.log.2.gz"), "compressed").unwrap();
        assert_eq!(seen(&[entry(&source, "a.log.2.gz")]), [4]);
    }
}
