//! The report while no agent runs: what the checkpoint holds, and what the files have grown to.
//!
//! Reads sizes only, and of a log file's contents no more than tells whether it ends in a hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{FileReport, Report, SinkFileReport, SinkReport, Totals};
use crate::{checkpoint::FileEntry, read::zeros};

/// The report of a stopped agent from its checkpoint. What was in flight when it stopped counts as
/// unread: it will be read again.
pub fn from_checkpoint(entries: &[FileEntry], totals: &BTreeMap<String, u64>) -> Report {
    let totals = Totals::from_named(totals);
    let known = entries.iter().flat_map(|entry| entry.sinks.keys().map(|name| &**name));
    let names: BTreeSet<&str> = known.chain(totals.finished.keys().map(String::as_str)).collect();
    let sinks =
        names.into_iter().map(|name| SinkReport { name: name.to_owned(), ..Default::default() });
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sinks: sinks.collect(),
        files: entries.iter().map(file).collect(),
        totals,
        ..Report::default()
    }
}

fn file(entry: &FileEntry) -> FileReport {
    let path = entry.source.with_file_name(&*entry.name);
    let seen = entry.size.max(size_now(entry, &path).unwrap_or(0));
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
        ended: entry.ended,
        seen,
        sinks: sinks.collect(),
        ..FileReport::default()
    }
}

/// What the file has grown to, if it is still the same. One that was read to its end and left behind
/// may have been written to since.
fn size_now(entry: &FileEntry, path: &Path) -> Option<u64> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let same = metadata.dev() == entry.device && metadata.ino() == entry.inode;
    if !same || !metadata.is_file() {
        return None;
    }
    let without_zeros = fs::File::open(path).and_then(|file| zeros::length(&file, entry.size));
    Some(without_zeros.unwrap_or(metadata.len()))
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
    use super::*;
    use crate::{checkpoint::Offset, read::identity::FileId};

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
}
