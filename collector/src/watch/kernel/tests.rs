//! The tally is exact: what the programs count is what the files hold, on every filesystem that has
//! hooks here and however it is written.

use std::{
    ffi::OsStr,
    fs,
    io::{IoSlice, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::PathBuf,
    process::Command,
};

use collector_ebpf::Slot;

use super::*;

const WRITES: usize = 300;

/// A filesystem of its own, unmounted when dropped.
pub(in crate::watch) struct Disk {
    dir: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    /// Makes and mounts one; says why where that cannot be done.
    pub(in crate::watch) fn new(filesystem: &str) -> Option<Self> {
        match Self::make(filesystem) {
            Ok(disk) => Some(disk),
            Err(why) => {
                println!("skipped: no {filesystem} of its own: {why}");
                None
            }
        }
    }

    fn make(filesystem: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut disk = Self { dir, mounted: false };
        let (image, at) = (disk.dir.path().join("image"), disk.path());
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        match filesystem {
            "bpf" | "tmpfs" => {
                mount.args(["-t", filesystem, "none"]);
            }
            "overlay" => {
                let dir = disk.dir.path();
                for layer in ["lower", "upper", "work"] {
                    fs::create_dir(dir.join(layer)).map_err(|error| error.to_string())?;
                }
                let options = ["lower", "upper", "work"]
                    .map(|layer| format!("{layer}dir={}", dir.join(layer).display()));
                mount.args(["-t", "overlay", "-o", &options.join(","), "none"]);
            }
            _ => {
                // xfs makes none that is smaller.
                let file = File::create(&image).map_err(|error| error.to_string())?;
                file.set_len(400 << 20).map_err(|error| error.to_string())?;
                let quiet =
                    if filesystem == "xfs" || filesystem == "ext4" { "-q" } else { "--quiet" };
                run(Command::new(format!("mkfs.{filesystem}")).arg(quiet).arg(&image))?;
                mount.args(["-t", filesystem, "-o", "loop"]).arg(&image);
            }
        }
        run(mount.arg(&at))?;
        disk.mounted = true;
        Ok(disk)
    }

    pub(in crate::watch) fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a test that failed may hold files open.
            run(Command::new("umount").arg("-l").arg(self.path())).expect("unmounting");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {}", said.trim()))
}

/// Watched files in a directory.
struct Bench {
    dir: PathBuf,
    kernel: Kernel,
    tokens: u64,
}

impl Bench {
    fn new(dir: PathBuf) -> Self {
        Self { dir, kernel: Kernel::alone().unwrap(), tokens: 0 }
    }

    /// A new file that is watched; None where no hook covers it.
    fn create(&mut self) -> Option<(u64, Arc<File>)> {
        let path = self.dir.join("new");
        File::create_new(&path).unwrap();
        self.adopt(&path)
    }

    /// Watches a file that is there, and gives it the token's name; None where no hook covers it.
    fn adopt(&mut self, path: &Path) -> Option<(u64, Arc<File>)> {
        self.tokens += 1;
        let token = self.tokens;
        fs::rename(path, self.path(token)).unwrap();
        let opened = File::options().read(true).write(true).open(self.path(token));
        let file = Arc::new(opened.unwrap());
        if !self.kernel.covers(&file) {
            return None;
        }
        let _bell = self.kernel.add_file(FileToken::numbered(token), FileId(token).into(), &file);
        assert_eq!(self.kernel.enter_pending(), (vec![FileToken::numbered(token)], Vec::new()));
        Some((token, file))
    }

    fn path(&self, token: u64) -> PathBuf {
        self.dir.join(format!("{token}.log"))
    }

    fn slot(&self, token: u64) -> Slot {
        let (number, _) = self.kernel.files[FileToken::numbered(token)].place.unwrap();
        self.kernel.loaded.tables.slots.slot(number)
    }

    /// Whether the cells count exactly what is entered, and how many that is.
    fn entered(&self) -> usize {
        let tables = &self.kernel.loaded.tables;
        assert_eq!(tables.cells.total(), tables.known().len());
        tables.cells.total()
    }

    /// Nothing was written but once, and no hole was left.
    fn expect_exact(&self, token: u64, how: &str) {
        let (slot, size) = (self.slot(token), fs::metadata(self.path(token)).unwrap().len());
        assert!(size > 0, "{how}");
        assert_eq!((slot.bytes, slot.end), (size, size), "{how}");
    }
}

fn line(n: usize) -> Vec<u8> {
    let mut line = vec![b'x'; n * 7 % 300];
    line.push(b'\n');
    line
}

/// A way of writing: everything that [`line`] makes, by one writer.
type Way = fn(&Path);

const WAYS: [(&str, Way); 7] = [
    ("write", |path| {
        let mut file = File::options().write(true).open(path).unwrap();
        (0..WRITES).for_each(|n| file.write_all(&line(n)).unwrap());
    }),
    ("O_APPEND", |path| {
        let mut file = File::options().append(true).open(path).unwrap();
        (0..WRITES).for_each(|n| file.write_all(&line(n)).unwrap());
    }),
    ("writev", |path| {
        let file = File::options().append(true).open(path).unwrap();
        for n in 0..WRITES {
            let (one, two) = (line(n), line(n + 1));
            let parts = [IoSlice::new(&one), IoSlice::new(&two)];
            assert_eq!(rustix::io::writev(&file, &parts).unwrap(), one.len() + two.len());
        }
    }),
    ("pwrite", |path| {
        let file = File::options().write(true).open(path).unwrap();
        let mut at = 0;
        for n in 0..WRITES {
            file.write_all_at(&line(n), at).unwrap();
            at += line(n).len() as u64;
        }
    }),
    ("sendfile", |path| {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&line(5).repeat(WRITES)).unwrap();
        let to = File::options().write(true).open(path).unwrap();
        let (mut at, size) = (0, from.metadata().unwrap().len());
        while at < size {
            let most = (size - at).min(1_000) as usize;
            assert_ne!(rustix::fs::sendfile(&to, &from, Some(&mut at), most).unwrap(), 0);
        }
    }),
    ("splice", |path| {
        let to = File::options().write(true).open(path).unwrap();
        let (from, mut writer) = io::pipe().unwrap();
        for n in 0..WRITES {
            writer.write_all(&line(n)).unwrap();
            let flags = rustix::pipe::SpliceFlags::empty();
            let mut left = line(n).len();
            while left > 0 {
                left -= rustix::pipe::splice(&from, None, &to, None, left, flags).unwrap();
            }
        }
    }),
    ("io_uring", |path| {
        let file = File::options().write(true).open(path).unwrap();
        let mut ring = match io_uring::IoUring::new(8) {
            Ok(ring) => ring,
            Err(error) => {
                println!("skipped: no io_uring here: {error}");
                return WAYS[0].1(path);
            }
        };
        let mut at = 0;
        for n in 0..WRITES {
            let bytes = line(n);
            let target = io_uring::types::Fd(file.as_raw_fd());
            let write = io_uring::opcode::Write::new(target, bytes.as_ptr(), bytes.len() as u32);
            let write = write.offset(at).build();
            #[expect(unsafe_code, reason = "the ring takes a pointer")]
            // SAFETY: `bytes` and `file` live until the completion was waited for.
            unsafe {
                ring.submission().push(&write).unwrap();
            }
            ring.submit_and_wait(1).unwrap();
            let done = ring.completion().next().unwrap().result();
            assert_eq!(usize::try_from(done).unwrap(), bytes.len());
            at += bytes.len() as u64;
        }
    }),
];

/// Everything that is counted, on one filesystem.
fn exactness(filesystem: &str) {
    if !is_available() {
        return;
    }
    let Some(disk) = Disk::new(filesystem) else { return };
    let mut bench = Bench::new(disk.path());
    if bench.create().is_none() {
        println!("skipped: {filesystem} has no hook on this kernel; inotify watches it");
        return;
    }
    for (name, way) in WAYS {
        let (token, _file) = bench.create().unwrap();
        way(&bench.path(token));
        bench.expect_exact(token, &format!("{name} on {filesystem}"));
    }
    many_writers(&mut bench);
    changes_in_place(&mut bench);
}

fn many_writers(bench: &mut Bench) {
    let tokens: Vec<_> = (0..4).map(|_| bench.create().unwrap()).collect();
    std::thread::scope(|scope| {
        for (token, _file) in &tokens {
            for _ in 0..3 {
                let path = bench.path(*token);
                scope.spawn(move || WAYS[1].1(&path));
            }
        }
    });
    for (token, _file) in tokens {
        bench.expect_exact(token, "three writers a file");
        // A tracepoint fires once more where a write crosses into another page.
        assert!(bench.slot(token).writes >= 3 * WRITES as u64);
    }
}

fn changes_in_place(bench: &mut Bench) {
    let (token, file) = bench.create().unwrap();
    file.write_all_at(&[b'x'; 100], 0).unwrap();
    file.write_all_at(b"in the middle", 10).unwrap();
    assert_eq!((bench.slot(token).bytes, bench.slot(token).end), (113, 100));
    file.set_len(5).unwrap();
    assert_eq!((bench.slot(token).end, bench.slot(token).truncated), (5, 95));
    file.write_all_at(b"again", 5).unwrap();
    assert_eq!(bench.slot(token).end, 10);
    // What a program opens to write it anew.
    drop(File::create(bench.path(token)).unwrap());
    assert_eq!((bench.slot(token).end, bench.slot(token).truncated), (0, 105));
    // Failed writes count nothing that a later one does not make good.
    let failed = File::open(bench.path(token)).unwrap().write_all(b"read-only");
    assert!(failed.is_err());
    file.write_all_at(b"x", 0).unwrap();
    assert_eq!(bench.slot(token).end, 1);
    // What is there before it is watched is taken away by a truncation too.
    let old = bench.dir.join("old");
    fs::write(&old, [b'x'; 70]).unwrap();
    let (token, file) = bench.adopt(&old).unwrap();
    file.set_len(0).unwrap();
    assert_eq!((bench.slot(token).end, bench.slot(token).truncated), (0, 70));
}

#[test]
fn every_byte_on_ext4_is_counted() {
    exactness("ext4");
}

#[test]
fn every_byte_on_xfs_is_counted() {
    exactness("xfs");
}

#[test]
fn every_byte_on_btrfs_is_counted() {
    exactness("btrfs");
}

#[test]
fn every_byte_on_tmpfs_is_counted() {
    exactness("tmpfs");
}

#[test]
fn every_byte_on_an_overlay_is_counted() {
    exactness("overlay");
}

#[test]
fn a_full_ring_is_told_and_nothing_armed_is_forgotten() {
    if !is_available() {
        return;
    }
    let config = KernelWatch { max_files: 2_048, ..KernelWatch::default() };
    // Room for 256 wake-ups.
    let loaded = load::load_with_ring(&config, None, 4_096).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench { dir: dir.path().to_owned(), kernel: Kernel::new(loaded), tokens: 0 };
    let files: Vec<_> = (0..400).map_while(|_| bench.create()).collect();
    if files.is_empty() {
        println!("skipped: no hook covers {}", dir.path().display());
        return;
    }
    let tell = |bench: &mut Bench| {
        let mut told = HashSet::new();
        bench.kernel.drain(|one| match one {
            Told::Written(token) => assert!(told.insert(Some(token))),
            Told::Overflow => assert!(told.insert(None)),
            other => panic!("{other:?}"),
        });
        told
    };
    for (token, _) in &files {
        bench.kernel.files[FileToken::numbered(*token)].bell.set(0);
    }
    files.iter().for_each(|(_, file)| file.write_all_at(b"a line\n", 0).unwrap());
    let told = tell(&mut bench);
    assert!(told.contains(&None) && told.len() > 100 && told.len() < 300, "{}", told.len());
    // Whatever found no room is still armed, and told with its next write.
    files.iter().for_each(|(_, file)| file.write_all_at(b"more\n", 7).unwrap());
    let more = tell(&mut bench);
    assert_eq!(told.union(&more).filter(|one| one.is_some()).count(), files.len());
}

#[test]
fn a_bell_whose_writers_are_unlocked_heeds_the_number_of_writes_too() {
    if !is_available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path().to_owned());
    let Some((token, file)) = bench.create() else {
        println!("skipped: no hook covers {}", dir.path().display());
        return;
    };
    let entered = &bench.kernel.files[FileToken::numbered(token)];
    let (number, _) = entered.place.unwrap();
    for unlocked in [true, false] {
        entered.bell.bind(Some(number), unlocked);
        entered.bell.set(u64::MAX);
        assert_eq!(entered.bell.set(u64::MAX), Heard::Nothing);
        file.write_all_at(b"a line\n", 0).unwrap();
        // Where the end lies tells nothing: it may be another writer's.
        let heard = if unlocked { Heard::More } else { Heard::Nothing };
        assert_eq!(entered.bell.set(u64::MAX), heard);
        assert_eq!(entered.bell.set(u64::MAX), Heard::Nothing);
    }
}

/// The reader has no bell for it then, and nobody would set a new one.
#[test]
fn a_file_that_found_no_slot_is_not_entered_when_it_is_renamed() {
    use crate::{
        metrics::Metrics,
        watch::{Combined, Waker, Watcher},
    };
    if !is_available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let loaded =
        load::load(&KernelWatch { max_files: 64, ..KernelWatch::default() }, None).unwrap();
    let (kernel, metrics) = (Kernel::new(loaded), Arc::new(Metrics::new()));
    let waker = Waker::new().unwrap();
    let config = crate::config::Config::default();
    let mut watcher = Combined::new(&config, Some(kernel), None, None, waker, Arc::clone(&metrics));
    watcher.watch_directory(DirToken::numbered(0), &dir.path().into()).unwrap();
    let watched = |watcher: &mut Combined, token: u64, name: &str, file: &Arc<File>| {
        let (token, id) = (FileToken::numbered(token), FileId(token));
        watcher.watch_file(token, DirToken::numbered(0), OsStr::new(name), Some(file), id.into())
    };
    // Made elsewhere: in a watched directory the program itself would take the slots.
    let made = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for token in 1..=80 {
        let file = Arc::new(File::create(made.path().join(token.to_string())).unwrap());
        if watched(&mut watcher, token, &token.to_string(), &file).is_none() {
            println!("skipped: no hook covers {}", dir.path().display());
            return;
        }
        files.push(file);
    }
    watcher.wait(std::time::Duration::ZERO, &mut Vec::new()).unwrap();
    let by_kernel = || metrics.watched()[0].1;
    assert!(by_kernel() > 0 && by_kernel() < 80, "{}", by_kernel());
    // One that has a slot is let go; the last one has none, and gets another name.
    watcher.unwatch_file(FileToken::numbered(1));
    let before = by_kernel();
    assert!(watched(&mut watcher, 80, "renamed", &files[79]).is_none());
    watcher.wait(std::time::Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(by_kernel(), before);
    // One that has its slot keeps slot and bell.
    assert!(watched(&mut watcher, 2, "renamed too", &files[1]).is_some());
    assert_eq!(by_kernel(), before);
}

#[test]
fn numbers_at_regular_distances_do_not_share_a_cell() {
    let cells = collector_ebpf::cells(collector_ebpf::SLOTS);
    for distance in [1, 2, 16, 64, 8_192, 1 << 32] {
        let numbers = (0..10_000).map(|n| 800_000 + n * distance);
        let used = numbers.map(|number| collector_ebpf::cell_of(number, cells));
        assert_eq!(used.collect::<HashSet<_>>().len(), 10_000, "every {distance}th");
    }
}

#[test]
fn files_that_share_a_cell_are_counted_apart() {
    if !is_available() {
        return;
    }
    let config = KernelWatch { max_files: 64, ..KernelWatch::default() };
    let (loaded, dir) = (load::load(&config, None).unwrap(), tempfile::tempdir().unwrap());
    let mut bench = Bench { dir: dir.path().to_owned(), kernel: Kernel::new(loaded), tokens: 0 };
    let cells = collector_ebpf::cells(config.max_files);
    let mut by_cell = HashMap::<u32, Vec<PathBuf>>::new();
    let together = (0..=2 * cells).find_map(|number| {
        let path = dir.path().join(number.to_string());
        let inode = File::create(&path).unwrap().metadata().unwrap().ino();
        let sharing = by_cell.entry(collector_ebpf::cell_of(inode, cells)).or_default();
        sharing.push(path);
        (sharing.len() == 3).then(|| sharing.clone())
    });
    let [one, two, stranger] = together.unwrap().try_into().unwrap();
    let Some((one, file_of_one)) = bench.adopt(&one) else {
        println!("skipped: no hook covers {}", dir.path().display());
        return;
    };
    let (two, file_of_two) = bench.adopt(&two).unwrap();
    let stranger = File::options().write(true).open(stranger).unwrap();
    let all = |bench: &Bench| -> u64 {
        let slots = &bench.kernel.loaded.tables.slots;
        (0..slots.count()).map(|number| slots.slot(number).bytes).sum()
    };
    for n in 0..10 {
        for (token, mut file) in [(one, &*file_of_one), (two, &*file_of_two)] {
            file.write_all(&line(n)).unwrap();
            bench.expect_exact(token, "one of two in a cell");
        }
        let before = all(&bench);
        stranger.write_all_at(b"x", n as u64).unwrap();
        assert_eq!(all(&bench), before);
    }
    bench.kernel.remove_file(FileToken::numbered(one));
    assert_eq!(bench.entered(), 1);
    (&*file_of_two).write_all(b"more").unwrap();
    bench.expect_exact(two, "the one that stayed");
    let before = all(&bench);
    (&*file_of_one).write_all(b"more").unwrap();
    assert_eq!(all(&bench), before);
    // It comes back, to a slot of its own.
    let (one, _file) = bench.adopt(&bench.path(one)).unwrap();
    (&*file_of_one).write_all(b"again").unwrap();
    (&*file_of_two).write_all(b"again").unwrap();
    assert_eq!(bench.slot(one).bytes, 5);
    bench.expect_exact(two, "the one that stayed");
    bench.kernel.remove_file(FileToken::numbered(one));
    bench.kernel.remove_file(FileToken::numbered(two));
    assert_eq!(bench.entered(), 0);
}

/// Files come and go, known to the agent and to the programs only, at once.
fn churn(filesystem: &str) {
    const KEPT: usize = 7;
    if !is_available() {
        return;
    }
    let Some(disk) = Disk::new(filesystem) else { return };
    let mut bench = Bench::new(disk.path());
    let births = bench.kernel.add_directory(DirToken::numbered(0), &disk.path()).is_ok();
    let path = |writer: usize, n: usize| disk.path().join(format!("{writer}-{n}"));
    let kept = std::thread::scope(|scope| {
        for writer in 0..2 {
            scope.spawn(move || {
                for n in 0..10 * WRITES {
                    fs::write(path(writer, n), line(n)).unwrap();
                    if n % KEPT != 0 {
                        fs::remove_file(path(writer, n)).unwrap();
                    }
                }
            });
        }
        let mut kept = Vec::new();
        for n in 0..WRITES {
            let Some((token, file)) = bench.create() else { break };
            file.write_all_at(&line(n), 0).unwrap();
            bench.expect_exact(token, "among files that come and go");
            match n % 3 {
                0 => {
                    fs::remove_file(bench.path(token)).unwrap();
                    bench.kernel.remove_file(FileToken::numbered(token));
                }
                1 => bench.kernel.remove_file(FileToken::numbered(token)),
                _ => kept.push((token, file)),
            }
            bench.kernel.drain(|_| {});
            bench.kernel.departed();
        }
        kept
    });
    if kept.is_empty() {
        println!("skipped: {filesystem} has no hook on this kernel; inotify watches it");
        return;
    }
    for (token, file) in &kept {
        file.write_all_at(b"more", file.metadata().unwrap().len()).unwrap();
        bench.expect_exact(*token, "after all others");
    }
    if births {
        for n in (0..10 * WRITES).step_by(10 * KEPT) {
            let (token, _file) = bench.adopt(&path(0, n)).unwrap();
            bench.expect_exact(token, "since its birth");
        }
    }
    for token in 0..=bench.tokens {
        bench.kernel.remove_file(FileToken::numbered(token));
    }
    bench.entered();
    (0..2).for_each(|_| bench.kernel.forget_unclaimed());
    assert_eq!(bench.entered(), usize::from(births));
    bench.kernel.remove_directory(DirToken::numbered(0));
    assert_eq!(bench.entered(), 0);
}

#[test]
fn churn_on_ext4_leaves_no_file_uncounted_and_nothing_behind() {
    churn("ext4");
}

#[test]
fn churn_on_xfs_leaves_no_file_uncounted_and_nothing_behind() {
    churn("xfs");
}

#[test]
fn churn_on_tmpfs_leaves_no_file_uncounted_and_nothing_behind() {
    churn("tmpfs");
}

#[test]
fn what_the_programs_know_is_taken_over() {
    if !is_available() {
        return;
    }
    let Some(pins) = Disk::new("bpf") else { return };
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = KernelWatch { pin_dir: pins.path(), ..KernelWatch::default() };
    let start = |tokens| {
        let kernel = Kernel::start(&config, state.path()).unwrap();
        Bench { dir: dir.path().to_owned(), kernel, tokens }
    };
    let mut bench = start(0);
    let Some((token, file)) = bench.create() else {
        println!("skipped: no hook covers {}", dir.path().display());
        return;
    };
    bench.create().unwrap();
    file.write_all_at(b"before", 0).unwrap();
    let path = bench.path(token);
    drop(bench);
    file.write_all_at(b"meanwhile", 6).unwrap();
    let mut bench = start(2);
    assert!(bench.kernel.loaded.taken_over);
    assert_eq!(bench.entered(), 2);
    let (token, file) = bench.adopt(&path).unwrap();
    file.write_all_at(b"after", 15).unwrap();
    bench.expect_exact(token, "before, meanwhile and after");
    bench.kernel.forget_strangers();
    assert_eq!(bench.entered(), 1);
    file.write_all_at(b"alone", 20).unwrap();
    bench.expect_exact(token, "the only one that is left");
    bench.kernel.remove_file(FileToken::numbered(token));
    assert_eq!(bench.entered(), 0);
}

#[test]
fn what_found_no_room_is_held_against_one_start_and_one_directory() {
    if !is_available() {
        return;
    }
    let Some(pins) = Disk::new("bpf") else { return };
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let later = tempfile::tempdir().unwrap();
    let config = KernelWatch { pin_dir: pins.path(), max_files: 64, ..KernelWatch::default() };
    let token = DirToken::numbered(0);
    let start = || {
        let mut kernel = Kernel::start(&config, state.path()).unwrap();
        (kernel.add_directory(token, dir.path()) == Ok(())).then_some(kernel)
    };
    let Some(first) = start() else {
        println!("skipped: no hook covers {}", dir.path().display());
        return;
    };
    assert!(!first.tallied_while_down(token), "nobody was at work before");
    drop(first);
    let mut second = start().unwrap();
    assert!(second.tallied_while_down(token));
    let other = DirToken::numbered(1);
    second.add_directory(other, later.path()).unwrap();
    assert!(!second.tallied_while_down(other), "nobody had entered it");
    second.forget_strangers();
    drop(second);
    // While no agent runs: more files than slots.
    for number in 0..80 {
        File::create_new(dir.path().join(number.to_string())).unwrap();
    }
    // One that does not live to count them changes nothing.
    for _ in 0..2 {
        assert!(!start().unwrap().tallied_while_down(token));
    }
    let mut next = start().unwrap();
    assert!(!next.tallied_while_down(token));
    next.forget_strangers();
    drop(next);
    assert!(start().unwrap().tallied_while_down(token), "that is counted");
}
