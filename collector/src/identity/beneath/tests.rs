//! No link is followed, by either way of opening, and nothing is opened that is no file; also while it is exchanged.

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rustix::{
    fs::{RenameFlags, mkfifoat, renameat_with},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::*;

const WAYS: [Way; 2] = [Way::Openat2, Way::Names];

/// `a/b/own.log` in a directory, and a secret beside `a` in `host/b/own.log`.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (place, text) in [("a/b", "own"), ("host/b", "secret")] {
        fs::create_dir_all(dir.path().join(place)).unwrap();
        fs::write(dir.path().join(place).join("own.log"), text).unwrap();
    }
    dir
}

fn text(path: &Path) -> io::Result<String> {
    let (mut file, _) = open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn descend_in(dir: &Path, below: &str, way: Way) -> Result<OwnedFd, Errno> {
    let root = openat(CWD, dir, LOOK, Mode::empty()).unwrap();
    descend(root.as_fd(), Path::new(below), LOOK, way)
}

#[test]
fn a_link_is_followed_nowhere_on_the_way() {
    let dir = tree();
    let path = |below: &str| dir.path().join(below);
    assert_eq!(text(&path("a/b/own.log")).unwrap(), "own");
    symlink("own.log", path("a/b/link.log")).unwrap();
    symlink("b", path("a/link")).unwrap();
    symlink(path("a"), path("absolute")).unwrap();
    for below in ["a/b/link.log", "a/link/own.log", "absolute/b/own.log"] {
        for error in [open(&path(below)).unwrap_err(), stat(&path(below)).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{below}: {error}");
        }
        for way in WAYS {
            assert_eq!(
                descend_in(dir.path(), below, way).unwrap_err(),
                Errno::LOOP,
                "{below} {way:?}"
            );
        }
    }
    for below in ["a/link", "absolute", "absolute/b"] {
        assert!(!is_directory(path(below)), "{below}");
        assert_eq!(entries(&path(below)).unwrap_err().kind(), io::ErrorKind::NotFound, "{below}");
        assert!(Directory::at(&path(below)).is_err(), "{below}");
    }
    assert!(is_directory(path("a/b")) && !is_directory(path("a/b/own.log")));
}

#[test]
fn nothing_leads_up_or_through_the_kernels_links() {
    let dir = tree();
    for way in WAYS {
        for below in ["a/../host/b/own.log", "..", "/etc"] {
            assert!(descend_in(dir.path(), below, way).is_err(), "{below} {way:?}");
        }
        let root = openat(CWD, "/proc/self", LOOK, Mode::empty()).unwrap();
        for below in ["root", "cwd", "exe", "root/etc", "fd/0"] {
            let opened = descend(root.as_fd(), Path::new(below), LOOK, way);
            assert!(opened.is_err(), "{below} {way:?}");
        }
    }
    assert_eq!(open(Path::new("relative.log")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn neither_pipes_nor_devices_nor_the_kernels_files_are_opened_for_reading() {
    let dir = tree();
    let fifo = dir.path().join("a/fifo.log");
    mkfifoat(CWD, &fifo, 0o600.into()).unwrap();
    let refused = |path: &Path| {
        let error = open(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}: {error}", path.display());
    };
    for _ in 0..100 {
        refused(&fifo);
        // Whoever would write to it finds no reader.
        let writing = openat(CWD, &fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        assert_eq!(writing.unwrap_err(), Errno::NXIO);
    }
    refused(Path::new("/dev/zero"));
    refused(dir.path());
    // A regular file by its mode.
    assert!(stat(Path::new("/proc/kmsg")).is_ok_and(|it| it.stx_mode & 0o170_000 == 0o100_000));
    refused(Path::new("/proc/kmsg"));
    refused(Path::new("/proc/version"));
}

#[test]
fn access_times_stay() {
    let dir = tree();
    let path = dir.path().join("a/b/own.log");
    let stamp = |path: &Path| {
        let about = fs::metadata(path).unwrap();
        (about.atime(), about.atime_nsec())
    };
    // Older than the last change: the next read would set it.
    let long_ago = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    let directory = dir.path().join("a/b");
    for path in [&path, &directory] {
        File::open(path).unwrap().set_times(long_ago).unwrap();
    }
    assert_eq!(text(&path).unwrap(), "own");
    assert_eq!(entries(&directory).unwrap().flatten().count(), 3);
    assert_eq!(names(&directory).unwrap().count(), 1);
    assert_eq!((stamp(&path), stamp(&directory)), ((0, 0), (0, 0)));
}

#[test]
fn what_there_is_no_descriptor_for_is_not_gone() {
    const CHILD: &str = "EVERYLINE_TEST_NOT_GONE";
    if std::env::var_os(CHILD).is_none() {
        // In a process of its own: the limit is the whole process's.
        let name = "identity::beneath::tests::what_there_is_no_descriptor_for_is_not_gone";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.arg(name).arg("--exact").env(CHILD, "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let dir = tree();
    let path = dir.path().join("a/b/own.log");
    symlink("own.log", dir.path().join("a/b/link.log")).unwrap();
    let inode = stat(&path).unwrap().stx_ino;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    let (seen, directory) = (stat(&path).unwrap().stx_ino, is_directory(dir.path()));
    let gone = stat(&dir.path().join("a/b/gone.log")).unwrap_err();
    let opened = open(&path).unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!((seen, directory), (inode, true));
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert!(crate::descriptors::is_shortage(&opened), "{opened}");
}

#[test]
fn a_root_that_is_reached_through_a_link_is_the_operators() {
    let dir = tree();
    let root = dir.path().join("root");
    symlink("a", &root).unwrap();
    let log = root.join("b/own.log");
    assert!(open(&log).is_err());
    trust(&root);
    assert_eq!(text(&log).unwrap(), "own");
    // It was opened once; where the link leads later is nothing to it, and below it none is followed.
    fs::remove_file(&root).unwrap();
    symlink("host", &root).unwrap();
    assert_eq!(text(&log).unwrap(), "own");
    symlink("own.log", dir.path().join("a/b/link.log")).unwrap();
    assert!(open(&root.join("b/link.log")).is_err());
}

#[test]
fn a_directory_stays_itself_when_another_takes_its_place() {
    let dir = tree();
    let directory = Directory::at(&dir.path().join("a/b")).unwrap();
    fs::rename(dir.path().join("a/b"), dir.path().join("a/former")).unwrap();
    symlink(dir.path().join("host/b"), dir.path().join("a/b")).unwrap();
    let listed = fs::read_dir(directory.by_descriptor()).unwrap().count();
    assert_eq!(listed, 1);
    let own = fs::metadata(dir.path().join("a/former")).unwrap().ino();
    assert_eq!(fs::metadata(directory.by_descriptor()).unwrap().ino(), own);
}

/// Whatever is exchanged for a link meanwhile, what is opened is what lies there, or nothing.
fn race(way: Way, place: &str, target: &str) -> (u32, u32) {
    let dir = tree();
    let (place, spare) = (dir.path().join(place), dir.path().join("a/spare"));
    symlink(dir.path().join(target), &spare).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &place, CWD, &spare, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let root = openat(CWD, dir.path(), LOOK, Mode::empty()).unwrap();
        let (mut opened, mut refused) = (0, 0);
        let end = Instant::now() + Duration::from_millis(400);
        while Instant::now() < end
            || (opened == 0 || refused == 0) && Instant::now() < end + Duration::from_secs(20)
        {
            match descend(root.as_fd(), Path::new("a/b/own.log"), LOOK, way) {
                Ok(fd) => {
                    let through = format!("/proc/self/fd/{}", fd.as_raw_fd());
                    assert_eq!(fs::read_to_string(through).unwrap(), "own");
                    opened += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Errno::LOOP | Errno::NOENT), "{error}");
                    refused += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        (opened, refused)
    })
}

#[test]
fn what_is_exchanged_for_a_link_meanwhile_is_never_followed() {
    for way in WAYS {
        for (place, target) in [("a/b/own.log", "host/b/own.log"), ("a/b", "host/b")] {
            let (opened, refused) = race(way, place, target);
            assert!(opened > 0 && refused > 0, "{way:?} {place}: {opened} {refused}");
        }
    }
}

/// What lies in a generated tree.
#[derive(Debug, Clone)]
enum Node {
    Directory,
    File,
    Link(String),
    Pipe,
}

fn nodes() -> impl Strategy<Value = Vec<(String, Node)>> {
    let name = "[ab]{1}";
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop_oneof![
        path.clone(),
        path.clone().prop_map(|path| format!("../{path}")),
        Just("/proc/self/root".to_owned()),
        Just(".".to_owned()),
    ];
    let node = prop_oneof![
        3 => Just(Node::Directory),
        2 => Just(Node::File),
        2 => target.prop_map(Node::Link),
        1 => Just(Node::Pipe),
    ];
    proptest::collection::vec((path, node), 0..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Both ways open the same, and only what is reached without a link.
    #[test]
    fn both_ways_open_the_same(
        nodes in nodes(),
        asked in proptest::collection::vec("[ab](/[ab]){0,3}", 1..12),
        directory in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (path, node) in &nodes {
            let path = dir.path().join(path);
            // Whatever does not fit is not there.
            let _fits = match node {
                Node::Directory => fs::create_dir(&path).is_ok(),
                Node::File => File::create_new(&path).is_ok(),
                Node::Link(target) => symlink(target, &path).is_ok(),
                Node::Pipe => mkfifoat(CWD, &path, 0o600.into()).is_ok(),
            };
        }
        let root = openat(CWD, dir.path(), LOOK, Mode::empty()).unwrap();
        let flags = if directory { LOOK | OFlags::DIRECTORY } else { LOOK };
        for below in &asked {
            let open = |way| {
                let opened = descend(root.as_fd(), Path::new(below), flags, way);
                opened.map(|fd| rustix::fs::fstat(fd).unwrap().st_ino)
            };
            let (kernels, own) = (open(Way::Openat2), open(Way::Names));
            prop_assert_eq!(kernels, own, "{}", below);
            let path = dir.path().join(below);
            let straight = path.canonicalize().is_ok_and(|real| real == path);
            let fits = straight && (!directory || path.is_dir());
            prop_assert_eq!(own.is_ok(), fits, "{}", below);
            if let Ok(inode) = own {
                prop_assert_eq!(inode, fs::symlink_metadata(&path).unwrap().ino());
            }
        }
    }
}
