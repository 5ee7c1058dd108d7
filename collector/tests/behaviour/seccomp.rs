//! An agent whose runtime refuses `name_to_handle_at`, `bpf` or `openat2`, as some runtimes' default profiles do.
#![expect(unsafe_code, reason = "a seccomp filter is installed between fork and exec")]

use std::{io, os::unix::process::CommandExt, process::Command};

/// Has the program that `command` becomes refused file handles (EPERM).
pub(crate) fn without_handles(command: &mut Command) {
    // SAFETY: between fork and exec only system calls are made, on memory that the closure owns.
    unsafe { command.pre_exec(|| refuse(libc::SYS_name_to_handle_at)) };
}

/// Has the program that `command` becomes refused eBPF (EPERM), whatever its capabilities.
pub(crate) fn without_bpf(command: &mut Command) {
    // SAFETY: as above.
    unsafe { command.pre_exec(|| refuse(libc::SYS_bpf)) };
}

/// Has the program that `command` becomes refused `openat2` (EPERM), as by profiles that do not know it.
pub(crate) fn without_openat2(command: &mut Command) {
    // SAFETY: as above.
    unsafe { command.pre_exec(|| refuse(libc::SYS_openat2)) };
}

fn refuse(call: libc::c_long) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = call as u32;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        // The system call's number stands first in what a filter is shown.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: number,
        },
        statement(libc::BPF_RET | libc::BPF_K, refuse),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program =
        libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to the filter, which lives across both calls.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
