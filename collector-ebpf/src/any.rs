//! Hooks that lie in the kernel itself and that every filesystem passes: for those that are modules,
//! or have no tracepoints that would do. They need `fentry` and `fexit`.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    fields::Object,
    tally::{born, changed, evicted, may_write, truncated, unlinked},
};

/// `linux/fs.h`; the same as `RWF_NOWAIT`.
const IOCB_NOWAIT: u32 = 8;

/// `generic_write_checks(iocb, from) -> count`: the position is resolved, the inode locked; the write
/// follows, and the size after that.
#[fexit]
pub fn exit_write_checks(ctx: FExitContext) -> i32 {
    let (iocb, count) = (Object(ctx.arg(0)), ctx.arg::<i64>(2));
    if count > 0 {
        let count = count as u64;
        let (inode, end) = (iocb.kiocb_file().file_inode(), iocb.kiocb_position() + count);
        may_write(inode, end, count, iocb.kiocb_flags() & IOCB_NOWAIT != 0);
    }
    0
}

/// `do_truncate(idmap, dentry, …) -> error`.
#[fexit]
pub fn exit_truncate(ctx: FExitContext) -> i32 {
    truncated(Object(ctx.arg::<*const u8>(1)).dentry_inode());
    0
}

/// `inode_wait_for_writeback(inode)`: what the end of an inode begins with.
#[fentry]
pub fn enter_eviction(ctx: FEntryContext) -> i32 {
    evicted(Object(ctx.arg(0)));
    0
}

/// `(dentry, inode)`: the inode gets this name.
macro_rules! instantiations {
    ($($name:ident),+) => {
        $(
            #[fexit]
            pub fn $name(ctx: FExitContext) -> i32 {
                let (dentry, inode) = (Object(ctx.arg(0)), Object(ctx.arg(1)));
                let directory = dentry.dentry_parent().dentry_inode();
                if !inode.0.is_null() {
                    born(inode, directory);
                }
                changed(directory);
                0
            }
        )+
    };
}

instantiations!(exit_instantiate, exit_instantiate_new);

/// `d_move(dentry, target)`: the one gets the name of the other. Both directories are locked, and
/// whoever lists them afterwards waits.
#[fentry]
pub fn enter_move(ctx: FEntryContext) -> i32 {
    let (dentry, target) = (Object(ctx.arg(0)), Object(ctx.arg(1)));
    changed(dentry.dentry_parent().dentry_inode());
    changed(target.dentry_parent().dentry_inode());
    0
}

/// `d_delete(dentry)`: this name is gone from its directory, which is locked.
#[fentry]
pub fn enter_delete(ctx: FEntryContext) -> i32 {
    let dentry = Object(ctx.arg(0));
    let directory = dentry.dentry_parent().dentry_inode();
    unlinked(directory, dentry);
    changed(directory);
    0
}
