//! `fexit`: a function's arguments and its result, once it has returned.
//!
//! The best hook there is: the size is there, every way of writing passes here, and any filesystem
//! whose `write_iter` lies in the kernel itself can be hooked.

use aya_ebpf::{macros::fexit, programs::FExitContext};

use crate::{fields::Object, tally};

/// `(iocb, from) -> written`. One program a function: the kernel binds a program to one.
macro_rules! write_iters {
    ($($name:ident),+) => {
        $(
            #[fexit]
            pub fn $name(ctx: FExitContext) -> i32 {
                let (iocb, written) = (Object(ctx.arg(0)), ctx.arg::<i64>(2));
                if written > 0 {
                    let inode = iocb.kiocb_file().file_inode();
                    tally::wrote(inode, iocb.kiocb_position(), written as u64);
                }
                0
            }
        )+
    };
}

write_iters!(exit_ext4, exit_xfs, exit_btrfs, exit_shmem);
