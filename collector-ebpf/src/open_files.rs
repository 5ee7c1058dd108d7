//! What the agent's own descriptors are called in the kernel, without guessing.

use core::ptr::read_volatile;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write};
use collector_ebpf::OpenFile;

use crate::{fields::TaskFile, tally::key_of};

/// Called for each descriptor of the tasks that the iterator was made for.
///
/// # Safety
/// Called by the kernel, with its context.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
unsafe extern "C" fn open_files(context: *const TaskFile) -> i32 {
    // SAFETY: the kernel's promise.
    let (file, meta, task, fd) = unsafe {
        let context = &raw const *context;
        let file = read_volatile(&raw const (*context).file);
        let meta = read_volatile(&raw const (*context).meta);
        let task = read_volatile(&raw const (*context).task);
        (file, meta, task, read_volatile(&raw const (*context).fd))
    };
    if file.0.is_null() || meta.0.is_null() || task.0.is_null() {
        return 0;
    }
    // Older kernels cannot make it for one task only: others' descriptors are passed by.
    if u64::from(task.tgid()) != bpf_get_current_pid_tgid() >> 32 {
        return 0;
    }
    let inode = file.file_inode();
    let told = OpenFile {
        fd,
        mode: inode.mode().into(),
        key: key_of(inode),
        magic: inode.super_block().magic(),
    };
    let seq = meta.meta_seq() as *mut aya_ebpf::bindings::seq_file;
    // SAFETY: the verifier knows `seq`; what is written lives across the call.
    unsafe { bpf_seq_write(seq, (&raw const told).cast(), size_of::<OpenFile>() as u32) };
    0
}
