//! Keeping a thread or a process on one CPU, so that what is measured and what is not do not take
//! it from each other.

use std::io;

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Keeps the calling thread on the `number`-th CPU it may use, from the last.
pub fn pin_thread(number: usize) -> io::Result<()> {
    pin(None, number)
}

/// Keeps every thread of a process on the `number`-th CPU it may use, from the last.
pub fn pin_process(process: u32, number: usize) -> io::Result<()> {
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
        let thread = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        // It may have ended meanwhile.
        pin(thread, number).ok();
    }
    Ok(())
}

fn pin(thread: Option<Pid>, number: usize) -> io::Result<()> {
    // Of the first thread: the calling one may be pinned already.
    let allowed = sched_getaffinity(Some(rustix::process::getpid()))?;
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).rev().filter(|cpu| allowed.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[number % cpus.len()]);
    Ok(sched_setaffinity(thread, &one)?)
}
