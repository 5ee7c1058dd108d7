//! One directory under two paths: what of a runtime's logs is mounted elsewhere too.
//!
//! CRI-O mounts a pod's log directory into one of its volumes (`io.kubernetes.cri-o.LinkLogs`), and a host may
//! have a whole log directory in two places. A pattern that covers the other place finds the same files
//! there, under names that say nothing of whose they are.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::File,
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::identity;

const TABLE: &str = "/proc/self/mountinfo";

/// The mounts that show logs of runtimes elsewhere, as this process sees them.
#[derive(Debug)]
pub(super) struct Aliases {
    /// None: there is no table of mounts here.
    table: Option<File>,
    known: RefCell<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The runtimes' directories, as this process opens them, that `all` was made for.
    bases: Vec<PathBuf>,
    /// Where the table's part that is looked at shows: mounted where, and what lies there.
    all: Vec<(PathBuf, PathBuf)>,
}

/// A line of the table.
struct Mount {
    device: String,
    /// What of the filesystem is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Aliases {
    pub(super) fn new() -> Self {
        Self { table: File::open(TABLE).ok(), known: RefCell::default() }
    }

    /// Where a directory lies too, below one of the runtimes' directories. All paths are this process's, and
    /// real.
    pub(super) fn original(&self, directory: &Path, bases: &[PathBuf]) -> Option<PathBuf> {
        if bases.is_empty() || bases.iter().any(|base| directory.starts_with(base)) {
            return None;
        }
        self.refresh(bases);
        let known = self.known.borrow();
        let shown = known.all.iter().filter_map(|(point, original)| {
            // Either is the deeper one: a mount of what lies in the base, or of what the base lies in.
            Some(original.join(directory.strip_prefix(point).ok()?))
        });
        // Another mount may hide it.
        shown.into_iter().find(|original| same(original, directory))
    }

    /// Reads the table again if it changed.
    fn refresh(&self, bases: &[PathBuf]) {
        let Some(table) = &self.table else { return };
        let mut fds = [PollFd::new(table, PollFlags::PRI)];
        let unchanged = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0);
        if unchanged && self.known.borrow().bases == bases {
            return;
        }
        let mut text = Vec::new();
        let read = File::open(TABLE).and_then(|mut table| table.read_to_end(&mut text));
        // What cannot be read is read at the next look.
        let bases = if read.is_ok() { bases.to_vec() } else { Vec::new() };
        let all = shown(&mounts(&text), &bases);
        self.known.replace(Known { bases, all });
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| identity::look_at(path).map(|look| (look.key.device, look.key.inode));
    of(one).is_ok_and(|one| of(other).is_ok_and(|other| other == one))
}

/// Where directories below the bases are mounted besides, and what they are below the bases.
fn shown(mounts: &[Mount], bases: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let mut all = Vec::new();
    for base in bases {
        let holds = |mount: &&Mount| base.starts_with(&mount.point);
        let Some(own) = mounts.iter().filter(holds).max_by_key(|it| it.point.as_os_str().len())
        else {
            continue;
        };
        let Ok(below) = base.strip_prefix(&own.point) else { continue };
        let place = own.root.join(below);
        for mount in mounts.iter().filter(|mount| mount.device == own.device) {
            if let Ok(rest) = mount.root.strip_prefix(&place) {
                all.push((mount.point.clone(), base.join(rest)));
            } else if let Ok(rest) = place.strip_prefix(&mount.root) {
                all.push((mount.point.join(rest), base.clone()));
            }
        }
    }
    // Its own place is no other one.
    all.retain(|(point, original)| point != original);
    all
}

fn mounts(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|byte| *byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
        Some(Mount { device, root: path(fields.next()?), point: path(fields.next()?) })
    };
    lines.filter_map(mount).collect()
}

/// Blanks, tabs, line ends and backslashes stand there as `\040` and the like.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let code = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(field[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(table: &str, base: &str, wanted: &[(&str, &str)]) {
        let all = shown(&mounts(table.as_bytes()), &[base.into()]);
        let wanted: Vec<(PathBuf, PathBuf)> =
            wanted.iter().map(|(point, original)| (point.into(), original.into())).collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn what_is_mounted_elsewhere_is_told_from_the_table() {
        let table = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 8:1 /var/log/pods/shop_web_1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/l\\040x/logs ro - ext4 /dev/sda1 rw
41 22 8:1 /var/log /data/log rw - ext4 /dev/sda1 rw
42 22 8:1 /var/lib /data/lib rw - ext4 /dev/sda1 rw
43 22 0:30 /var/log/pods /other rw - tmpfs tmpfs rw
";
        let volume = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/l x/logs";
        check(
            table,
            "/var/log/pods",
            &[(volume, "/var/log/pods/shop_web_1"), ("/data/log/pods", "/var/log/pods")],
        );
        check(table, "/elsewhere", &[]);
    }

    #[test]
    fn a_base_that_is_mounted_itself_is_told_by_where_it_comes_from() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 8:2 /@log /var/log rw - btrfs /dev/sdb rw
41 22 8:2 / /disk rw - btrfs /dev/sdb rw
garbage
";
        check(table, "/var/log/pods", &[("/disk/@log/pods", "/var/log/pods")]);
    }
}
