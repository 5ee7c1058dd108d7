//! ext4, through its own tracepoints: where `fexit` is not to be had, and for directories and the
//! end of files in any case.
//!
//! Direct I/O has no tracepoint with a length; it is left to the sweep.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    fields::Object,
    tally::{born, changed, evicted, is_directory, truncated, unlinked, wrote},
};

/// The three ends of a buffered write: `(inode, pos, len, copied)`. They fire before the size is
/// updated, under the inode's lock.
macro_rules! write_ends {
    ($($name:ident),+) => {
        $(
            #[btf_tracepoint]
            pub fn $name(ctx: BtfTracePointContext) -> i32 {
                let (inode, position, copied) =
                    (Object(ctx.arg(0)), ctx.arg::<u64>(1), ctx.arg::<u32>(3));
                if copied != 0 {
                    wrote(inode, position + u64::from(copied), copied.into());
                }
                0
            }
        )+
    };
}

write_ends!(ext4_da_write_end, ext4_write_end, ext4_journalled_write_end);

/// `(inode, dir, mode)`, once the inode has its number and generation.
#[btf_tracepoint]
pub fn ext4_allocate_inode(ctx: BtfTracePointContext) -> i32 {
    born(Object(ctx.arg(0)), Object(ctx.arg(1)));
    0
}

/// `(inode, ip)`. Whatever happens to a directory's entries, the directory is dirtied, under its
/// lock: whoever lists it afterwards waits for the change to be there.
#[btf_tracepoint]
pub fn ext4_mark_inode_dirty(ctx: BtfTracePointContext) -> i32 {
    let inode = Object(ctx.arg(0));
    if is_directory(inode) {
        changed(inode);
    }
    0
}

/// `(dir, dentry)`.
#[btf_tracepoint]
pub fn ext4_unlink_enter(ctx: BtfTracePointContext) -> i32 {
    unlinked(Object(ctx.arg(0)), Object(ctx.arg(1)));
    0
}

/// `(inode)`, once it has its new size.
#[btf_tracepoint]
pub fn ext4_truncate_enter(ctx: BtfTracePointContext) -> i32 {
    truncated(Object(ctx.arg(0)));
    0
}

/// `(inode)`, before anything of it is thrown away.
#[btf_tracepoint]
pub fn ext4_evict_inode(ctx: BtfTracePointContext) -> i32 {
    evicted(Object(ctx.arg(0)));
    0
}
