//! Writes logs as container runtimes and the kubelet do, and keeps account of every line.
//!
//! Many writers, each with its own directory, at a rate or flat out; rotation by size with the
//! kubelet's renaming and compression; partial and hostile lines on request. What was written ends
//! in a [`Manifest`] for the oracle. It never reads what it wrote and knows nothing of the agent.

mod hostile;
mod manifest;
mod messages;
mod rotate;
mod runtime;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::writer::LogWriter;
pub use self::{
    manifest::{Manifest, Written},
    messages::Messages,
    rotate::{Rotator, compress},
    runtime::{Logged, log_command},
};
use crate::framing::Format;

/// What to write.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory under which logs lie: a pod log directory, or Docker's containers directory.
    #[arg(long)]
    pub root: PathBuf,
    /// Logs written side by side.
    #[arg(long, default_value_t = 1)]
    pub files: u32,
    /// Number of the first writer; makes its pod's name and its tags.
    #[arg(long, default_value_t = 0)]
    pub first_writer: u32,
    /// How lines are laid out.
    #[arg(long, value_enum, default_value_t = Format::Cri)]
    pub format: Format,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Messages per log; 0: no bound.
    #[arg(long, default_value_t = 0)]
    pub lines: u64,
    /// Bytes per log, roughly; 0: no bound.
    #[arg(long, default_value_t = 0)]
    pub bytes: u64,
    /// Messages a second, all logs together; 0: flat out.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Seconds to write; 0: no bound.
    #[arg(long, default_value_t = 0.0)]
    pub seconds: f64,
    /// A log larger than this is rotated; 0: never.
    #[arg(long, default_value_t = 0)]
    pub rotate_bytes: u64,
    /// Rotated files kept per log, the oldest removed; 0: all. Removing what the agent has not
    /// read loses it, as it would on a node.
    #[arg(long, default_value_t = 0)]
    pub keep: usize,
    /// At a rotation, compress what was rotated before, as the kubelet does.
    #[arg(long)]
    pub compress: bool,
    /// Of 1,000 messages, how many go to standard error.
    #[arg(long, default_value_t = 100)]
    pub stderr: u32,
    /// Of 1,000 messages, how many are written in interleaved pieces.
    #[arg(long, default_value_t = 0)]
    pub partials: u32,
    /// Of 1,000 messages, how many are hostile: NULs, invalid UTF-8, escapes, no frame, 1 MiB …
    #[arg(long, default_value_t = 0)]
    pub hostile: u32,
    /// Threads that write.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Where the account goes: once a second, and at the end.
    #[arg(long)]
    pub manifest: Option<PathBuf>,
}

/// Bytes a writer may hold before they go to its file.
const BUFFER: usize = 64 * 1024;
const TICK: Duration = Duration::from_millis(10);

impl Options {
    /// One log under `root`, flat out, no rotation, nothing unusual; needs a bound to end.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            files: 1,
            first_writer: 0,
            format: Format::Cri,
            seed: 1,
            lines: 0,
            bytes: 0,
            rate: 0,
            seconds: 0.0,
            rotate_bytes: 0,
            keep: 0,
            compress: false,
            stderr: 100,
            partials: 0,
            hostile: 0,
            threads: 1,
            manifest: None,
        }
    }
}

/// Writes until a bound is reached or `stop` is set; returns the account of it.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<Manifest> {
    raise_descriptor_limit();
    let mut writers = (0..options.files)
        .map(|index| LogWriter::create(options, options.first_writer + index))
        .collect::<Result<Vec<_>>>()?;
    let account = Mutex::new(Manifest::new(options.format, options.seed));
    let threads = options.threads.clamp(1, options.files.max(1));
    let share = writers.len().div_ceil(threads as usize).max(1);
    std::thread::scope(|scope| {
        let shards: Vec<_> = writers
            .chunks_mut(share)
            .map(|shard| scope.spawn(|| drive(options, shard, threads, &account, stop)))
            .collect();
        shards.into_iter().try_for_each(|shard| shard.join().expect("a writer thread panicked"))
    })?;
    let manifest = account.into_inner().expect("a writer thread panicked");
    save(options, &manifest)?;
    Ok(manifest)
}

/// One thread's loop over its writers.
fn drive(
    options: &Options,
    writers: &mut [LogWriter],
    threads: u32,
    account: &Mutex<Manifest>,
    stop: &AtomicBool,
) -> Result<()> {
    let start = Instant::now();
    let rate = options.rate as f64 / f64::from(threads);
    let (mut written, mut turn, mut saved) = (0_u64, 0, Instant::now());
    loop {
        let over = options.seconds > 0.0 && start.elapsed().as_secs_f64() >= options.seconds;
        if over || stop.load(Ordering::Relaxed) || writers.iter().all(LogWriter::is_done) {
            break;
        }
        if options.rate == 0 {
            for writer in writers.iter_mut() {
                writer.fill(BUFFER)?;
            }
        } else {
            // Little enough at once that the bounds on time hold on a machine that is too slow.
            let burst = rate as u64 / 10 + 1;
            let due = ((start.elapsed().as_secs_f64() * rate) as u64).min(written + burst);
            while written < due && !writers.iter().all(LogWriter::is_done) {
                let index = turn % writers.len();
                writers[index].write_one()?;
                (written, turn) = (written + 1, turn + 1);
            }
            writers.iter_mut().try_for_each(LogWriter::flush)?;
            std::thread::sleep(TICK);
        }
        if saved.elapsed() > Duration::from_secs(1) {
            report(writers, account);
            save(options, &account.lock().expect("a writer thread panicked"))?;
            saved = Instant::now();
        }
    }
    writers.iter_mut().try_for_each(LogWriter::finish)?;
    report(writers, account);
    Ok(())
}

fn report(writers: &[LogWriter], account: &Mutex<Manifest>) {
    let mut account = account.lock().expect("a writer thread panicked");
    for writer in writers {
        account.set(writer.written());
    }
}

fn save(options: &Options, manifest: &Manifest) -> Result<()> {
    match &options.manifest {
        Some(path) => manifest.save(path).with_context(|| format!("Writing {}", path.display())),
        None => Ok(()),
    }
}

/// Every log is held open; the soft limit of most machines is 1,024.
/// Every file is held open: as many as the system allows.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Best effort: opening a file says it clearly when the limit is reached.
    setrlimit(Resource::Nofile, raised).ok();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tag::{Finding, Stream, Writer, open};

    /// Every message of one CRI file's text, joined per stream.
    fn messages(text: &[u8]) -> Vec<Vec<u8>> {
        let (mut joined, mut pending) = (Vec::new(), [Vec::new(), Vec::new()]);
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let mut fields = line.splitn(4, |&byte| byte == b' ');
            let (_, stream, flag) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
            let pending = &mut pending[usize::from(stream == b"stderr")];
            pending.extend_from_slice(fields.next().unwrap());
            if flag == b"F" {
                joined.push(std::mem::take(pending));
            }
        }
        joined
    }

    fn dir_of(root: &std::path::Path, writer: Writer) -> PathBuf {
        let pod = format!("{}_{}_{}", writer.namespace(), writer.pod(), writer.uid());
        root.join(pod).join(writer.container())
    }

    #[test]
    fn every_line_of_the_manifest_is_on_disk_once_through_rotation_and_partials() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        (options.files, options.lines, options.partials) = (3, 2_000, 200);
        (options.rotate_bytes, options.compress, options.threads) = (60_000, true, 2);
        options.manifest = Some(dir.path().join("manifest.json"));
        let manifest = run(&options, &AtomicBool::new(false)).unwrap();
        let saved = Manifest::load(options.manifest.as_ref().unwrap()).unwrap();
        assert_eq!(saved, manifest);
        assert_eq!(manifest.messages(), 6_000);

        for written in &manifest.writers {
            let mut files: Vec<_> = fs::read_dir(dir_of(dir.path(), Writer(written.writer)))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            // `0.log` sorts before `0.log.DATE`, yet is the newest.
            files.sort();
            files.rotate_left(1);
            let rotated = files.len() - 1;
            assert_eq!(rotated as u64, written.rotations);
            let gz = files.iter().filter(|path| path.extension().unwrap() == "gz").count();
            assert_eq!(gz, rotated - 1, "all but the youngest rotated file are compressed");
            let mut text = Vec::new();
            for path in &files {
                let bytes = fs::read(path).unwrap();
                if path.extension().unwrap() == "gz" {
                    std::io::copy(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text)
                        .unwrap();
                } else {
                    text.extend_from_slice(&bytes);
                }
            }
            assert_eq!(text.len() as u64, written.bytes);
            let mut next = [0; 3];
            for message in messages(&text) {
                let Finding::Intact(tag) = open(&message) else { panic!("damaged") };
                assert_eq!(tag.writer, Writer(written.writer));
                assert_eq!(tag.number, next[tag.stream.index()]);
                next[tag.stream.index()] += 1;
            }
            assert_eq!(next, written.messages);
            assert!(next[Stream::Stderr.index()] > 0);
        }
    }

    #[test]
    fn old_files_go_when_told_to_keep_few() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        (options.lines, options.rotate_bytes, options.keep) = (2_000, 20_000, 3);
        let manifest = run(&options, &AtomicBool::new(false)).unwrap();
        assert!(manifest.writers[0].rotations > 5);
        assert_eq!(fs::read_dir(dir_of(dir.path(), Writer(0))).unwrap().count(), 4);
    }

    #[test]
    fn a_rate_is_kept_and_stop_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        (options.rate, options.seconds, options.files) = (5_000, 0.5, 7);
        let manifest = run(&options, &AtomicBool::new(false)).unwrap();
        assert!((1_500..=2_600).contains(&manifest.messages()), "{}", manifest.messages());
        options.root = dir.path().join("stopped");
        let manifest = run(&options, &AtomicBool::new(true)).unwrap();
        assert_eq!(manifest.messages(), 0);
    }

    #[test]
    fn docker_lines_are_json_and_rotate_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        (options.lines, options.rotate_bytes, options.format) = (500, 40_000, Format::Docker);
        (options.partials, options.hostile) = (100, 0);
        run(&options, &AtomicBool::new(false)).unwrap();
        let id = Writer(0).container_id();
        let live = dir.path().join(&id).join(format!("{id}-json.log"));
        assert!(live.with_extension("log.1").exists() && live.with_extension("log.2").exists());
        for line in fs::read_to_string(live).unwrap().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
