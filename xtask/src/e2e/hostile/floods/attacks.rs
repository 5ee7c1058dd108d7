//! What a tenant does in a flood, until it is over; how often it did so.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};

/// What an attacker is given: the tenant's directories, the admin port, and when it is over.
pub(super) struct Place<'a> {
    pub(super) pods: &'a Path,
    /// Below it a pattern looks for logs.
    pub(super) files: &'a Path,
    pub(super) admin: &'a str,
    pub(super) over: &'a AtomicBool,
}

impl Place<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn container(&self, pod: &str) -> Result<PathBuf> {
        let directory = self.pods.join(format!("loud_{pod}_1111/c"));
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

fn line(text: &str) -> Vec<u8> {
    format!("2026-01-01T00:00:00Z stdout F {text}\n").into_bytes()
}

/// 1,100 logs, all written to again and again.
pub(super) fn descriptors(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("many")?;
    let paths: Vec<PathBuf> = (0..1_100).map(|n| directory.join(format!("{n}.log"))).collect();
    let mut times = 0;
    while !place.is_over() {
        for path in &paths {
            let mut log = File::options().create(true).append(true).open(path)?;
            log.write_all(&line("one of many"))?;
            times += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(times)
}

/// Compressed copies that unpack to much more.
pub(super) fn bombs(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("bombs")?;
    let bomb = gzip(&line(&"x".repeat(900)).repeat(64 << 10))?;
    let mut times = 0;
    while !place.is_over() {
        let name = format!("{}.log.20260101-{:06}.gz", times % 20, times % 1_000_000);
        fs::write(directory.join(name), &bomb)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(times)
}

/// Compressed as well as `gzip -9` does.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("gzip is needed")?;
    let mut input = child.stdin.take().context("gzip has an input")?;
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        Ok(child.wait_with_output()?.stdout)
    })
}

/// A directory full of what is no log, that changes all the time.
pub(super) fn listing(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("names")?;
    fs::write(directory.join("0.log"), line("a log"))?;
    for n in 0..30_000 {
        File::create(directory.join(format!("no log of anybody {n}")))?;
    }
    let path = directory.join("comes and goes");
    let mut times = 0;
    while !place.is_over() {
        File::create(&path)?;
        fs::remove_file(&path)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

/// A few lines, far apart in files of holes.
pub(super) fn holes(place: &Place<'_>) -> Result<u64> {
    let mut times = 0;
    while !place.is_over() {
        let directory = place.container(&format!("holes-{times}"))?;
        let file = File::create(directory.join("0.log"))?;
        for n in 0..20_000 {
            file.write_all_at(&line("an island"), n << 18)?;
        }
        times += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(times)
}

/// Makes files of these names, each with one line, and then waits; how many.
fn make(place: &Place<'_>, count: u32, path: impl Fn(u32) -> PathBuf) -> Result<u64> {
    let mut times = 0;
    for n in 0..count {
        if place.is_over() {
            break;
        }
        fs::write(path(n), line("one of many"))?;
        times += 1;
    }
    while !place.is_over() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(times)
}

/// Logs with long names, below a pattern.
pub(super) fn many_names(place: &Place<'_>) -> Result<u64> {
    let directory = place.files.join("names");
    fs::create_dir_all(&directory)?;
    make(place, 60_000, |n| directory.join(format!("{}{n:06}.log", "n".repeat(240))))
}

/// Former files of one log, as the runtime names them.
pub(super) fn many_former(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("former")?;
    make(place, 60_000, |n| directory.join(format!("0.log.20260101-{n:06}")))
}

/// Directories in directories, below a pattern.
pub(super) fn many_directories(place: &Place<'_>) -> Result<u64> {
    let mut times = 0;
    for n in 0..30_000 {
        if place.is_over() {
            break;
        }
        let directory = place.files.join(format!("tree/{}/{}/{n}", n % 40, n % 1_000));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("a.log"), "one of many\n")?;
        times += 1;
    }
    while !place.is_over() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(times)
}

/// Logs that are soon gone.
pub(super) fn names(place: &Place<'_>) -> Result<u64> {
    let directory = place.container("storm")?;
    let mut times = 0_u64;
    while !place.is_over() {
        let path = directory.join(format!("{times}.log"));
        fs::write(&path, line("soon gone").repeat(100))?;
        fs::write(&path, line("truncated"))?;
        fs::remove_file(&path)?;
        times += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

/// Clients of the admin port that cost what they can.
pub(super) fn clients(place: &Place<'_>) -> Result<u64> {
    let times = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..40 {
            let times = &times;
            scope.spawn(move || {
                while !place.is_over() {
                    // Whoever is closed comes again.
                    drop(hold(place, n));
                    times.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    Ok(times.into_inner())
}

/// One client: sends slowly, keeps asking, or asks for much and reads nothing.
fn hold(place: &Place<'_>, kind: u32) -> Result<()> {
    let mut stream = TcpStream::connect(place.admin)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    for _ in 0..10 {
        let request: &[u8] = match kind % 3 {
            0 => b"G",
            1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            _ => b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        stream.write_all(request)?;
        if kind % 3 == 1 {
            let mut reply = [0; 1_024];
            let _more = stream.read(&mut reply)?;
        }
        std::thread::sleep(Duration::from_millis(100));
        if place.is_over() {
            break;
        }
    }
    Ok(())
}
