//! xfs, through its tracepoints: both fire before the write, with the position resolved.
//!
//! xfs's directories have no tracepoint that fires under the directory's lock for every change;
//! they stay with inotify (or `exits`).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{fields::Object, tally};

/// `(iocb, iter)`.
macro_rules! writes {
    ($($name:ident),+) => {
        $(
            #[btf_tracepoint]
            pub fn $name(ctx: BtfTracePointContext) -> i32 {
                let (iocb, iter) = (Object(ctx.arg(0)), Object(ctx.arg(1)));
                let (position, count) = (iocb.kiocb_position(), iter.iter_count());
                tally::wrote(iocb.kiocb_file().file_inode(), position + count, count);
                0
            }
        )+
    };
}

writes!(xfs_file_buffered_write, xfs_file_direct_write);

/// `(ip, new_size)`, an `xfs_inode` that has its new size.
#[btf_tracepoint]
pub fn xfs_itruncate_extents_start(ctx: BtfTracePointContext) -> i32 {
    tally::truncated(Object(ctx.arg::<*const u8>(0)).xfs_vfs_inode());
    0
}

/// `(ip)`: an `xfs_inode` that is about to be forgotten.
#[btf_tracepoint]
pub fn xfs_destroy_inode(ctx: BtfTracePointContext) -> i32 {
    tally::evicted(Object(ctx.arg::<*const u8>(0)).xfs_vfs_inode());
    0
}
