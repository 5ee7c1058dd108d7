//! CPU time, to the nanosecond: this thread's, and another process's (all its threads, also those
//! that have ended). `getrusage` of children would need them to have ended, and counts in ticks.

#![expect(unsafe_code, reason = "the CPU clock of another process has no safe wrapper")]

use std::{io, mem::MaybeUninit, time::Duration};

/// The calling thread's CPU time so far.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The CPU time that process `pid` has used so far, user and system.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: `clock` is valid for writing for the whole call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is valid for writing for the whole call.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clock_gettime returned success, so it has written the whole structure.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_while_working() {
        let (thread, process) = (thread_cpu(), process_cpu(std::process::id()).unwrap());
        let mut sum = 0_u64;
        while thread_cpu() - thread < Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        let used = process_cpu(std::process::id()).unwrap() - process;
        // The two clocks are not brought up to date at the same instants.
        assert!(used > Duration::from_millis(4), "{used:?}");
    }
}
