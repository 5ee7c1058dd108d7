//! Which programs watch which filesystem, best first, and the kernel's fields that they need.
//!
//! A table and the questions one may ask it; loads nothing.

use super::btf::Types;
use crate::config::KernelHook;

/// ext2, ext3 and ext4; xfs; btrfs; tmpfs (`linux/magic.h`).
pub(super) const EXT4: u64 = 0xEF53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683E;
const TMPFS: u64 = 0x0102_1994;

/// How a program is bound to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attach {
    /// To a tracepoint with type information, of the program's own name.
    Tracepoint,
    /// To the beginning of this function.
    Entry(&'static str),
    /// To the end of this function.
    Exit(&'static str),
}

/// One program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// Its name in the object.
    pub(super) name: &'static str,
    pub(super) attach: Attach,
    /// Which argument must point to what, where that changed between kernels.
    pub(super) expects: Option<(u32, &'static str)>,
}

/// Programs that only together do something for a filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) hook: KernelHook,
    /// Whether they are called for any filesystem's files.
    pub(super) any: bool,
    pub(super) programs: &'static [Program],
}

/// What is watched of one filesystem. Of each the first set that can be had is used.
#[derive(Debug)]
pub(super) struct Filesystem {
    pub(super) name: &'static str,
    pub(super) magic: u64,
    /// For writes.
    pub(super) writes: &'static [Set],
    /// For truncation and the end of inodes: without it writes are not watched either.
    pub(super) inodes: &'static [Set],
    /// For changes of directories; none: they are left to inotify.
    pub(super) directories: &'static [Set],
}

const fn tracepoint(name: &'static str) -> Program {
    Program { name, attach: Attach::Tracepoint, expects: None }
}

const fn entry(name: &'static str, function: &'static str) -> Program {
    Program { name, attach: Attach::Entry(function), expects: None }
}

const fn exit(name: &'static str, function: &'static str) -> Program {
    Program { name, attach: Attach::Exit(function), expects: None }
}

const fn expects(program: Program, argument: u32, structure: &'static str) -> Program {
    Program { expects: Some((argument, structure)), ..program }
}

const fn own(hook: KernelHook, programs: &'static [Program]) -> Set {
    Set { hook, any: false, programs }
}

const fn any(programs: &'static [Program]) -> Set {
    Set { hook: KernelHook::Fexit, any: true, programs }
}

/// Writes of whatever filesystem: the check that all of them begin with.
const ANY_WRITES: Set =
    any(&[expects(exit("exit_write_checks", "generic_write_checks"), 0, "kiocb")]);
const ANY_INODES: Set = any(&[
    expects(exit("exit_truncate", "do_truncate"), 1, "dentry"),
    expects(entry("enter_eviction", "inode_wait_for_writeback"), 0, "inode"),
]);
const ANY_DIRECTORIES: Set = any(&[
    expects(exit("exit_instantiate", "d_instantiate"), 1, "inode"),
    expects(exit("exit_instantiate_new", "d_instantiate_new"), 1, "inode"),
    expects(entry("enter_move", "d_move"), 1, "dentry"),
    expects(entry("enter_delete", "d_delete"), 0, "dentry"),
]);

/// Every filesystem that some program knows. Functions and tracepoints of a filesystem that is a
/// module cannot be bound to. btrfs and tmpfs have no tracepoint that tells a write's length: without
/// `fexit` they are left to inotify, as is everything not named here.
pub(super) const FILESYSTEMS: [Filesystem; 4] = [
    Filesystem {
        name: "ext4",
        magic: EXT4,
        writes: &[
            own(KernelHook::Fexit, &[exit("exit_ext4", "ext4_file_write_iter")]),
            ANY_WRITES,
            own(
                KernelHook::Tracepoint,
                &[
                    tracepoint("ext4_da_write_end"),
                    tracepoint("ext4_write_end"),
                    tracepoint("ext4_journalled_write_end"),
                ],
            ),
        ],
        inodes: &[
            own(
                KernelHook::Tracepoint,
                &[tracepoint("ext4_truncate_enter"), tracepoint("ext4_evict_inode")],
            ),
            ANY_INODES,
        ],
        directories: &[
            own(
                KernelHook::Tracepoint,
                &[
                    tracepoint("ext4_allocate_inode"),
                    tracepoint("ext4_mark_inode_dirty"),
                    tracepoint("ext4_unlink_enter"),
                ],
            ),
            ANY_DIRECTORIES,
        ],
    },
    Filesystem {
        name: "xfs",
        magic: XFS,
        writes: &[
            own(KernelHook::Fexit, &[exit("exit_xfs", "xfs_file_write_iter")]),
            ANY_WRITES,
            own(
                KernelHook::Tracepoint,
                &[
                    expects(tracepoint("xfs_file_buffered_write"), 0, "kiocb"),
                    expects(tracepoint("xfs_file_direct_write"), 0, "kiocb"),
                ],
            ),
        ],
        inodes: &[
            own(
                KernelHook::Tracepoint,
                &[
                    expects(tracepoint("xfs_itruncate_extents_start"), 0, "xfs_inode"),
                    expects(tracepoint("xfs_destroy_inode"), 0, "xfs_inode"),
                ],
            ),
            ANY_INODES,
        ],
        directories: &[ANY_DIRECTORIES],
    },
    Filesystem {
        name: "btrfs",
        magic: BTRFS,
        writes: &[
            own(KernelHook::Fexit, &[exit("exit_btrfs", "btrfs_file_write_iter")]),
            ANY_WRITES,
        ],
        inodes: &[ANY_INODES],
        directories: &[ANY_DIRECTORIES],
    },
    Filesystem {
        name: "tmpfs",
        magic: TMPFS,
        writes: &[
            own(KernelHook::Fexit, &[exit("exit_shmem", "shmem_file_write_iter")]),
            ANY_WRITES,
        ],
        inodes: &[ANY_INODES],
        directories: &[ANY_DIRECTORIES],
    },
];

/// A global of the object and the field whose offset it is.
type Field = (&'static str, &'static str, &'static str);

/// Fields that every kernel must have.
const FIELDS: [Field; 18] = [
    ("INODE_I_INO", "inode", "i_ino"),
    ("INODE_I_MODE", "inode", "i_mode"),
    ("INODE_I_SB", "inode", "i_sb"),
    ("INODE_I_GENERATION", "inode", "i_generation"),
    ("INODE_I_SIZE", "inode", "i_size"),
    ("INODE_I_NLINK", "inode", "i_nlink"),
    ("SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("SUPER_BLOCK_S_MAGIC", "super_block", "s_magic"),
    ("DENTRY_D_INODE", "dentry", "d_inode"),
    ("DENTRY_D_PARENT", "dentry", "d_parent"),
    ("DENTRY_D_NAME_LEN", "dentry", "d_name.len"),
    ("DENTRY_D_NAME_NAME", "dentry", "d_name.name"),
    ("FILE_F_INODE", "file", "f_inode"),
    ("KIOCB_KI_FILP", "kiocb", "ki_filp"),
    ("KIOCB_KI_POS", "kiocb", "ki_pos"),
    ("KIOCB_KI_FLAGS", "kiocb", "ki_flags"),
    ("IOV_ITER_COUNT", "iov_iter", "count"),
    ("SEQ_META_SEQ", "bpf_iter_meta", "seq"),
];

/// Fields of parts of the kernel that need not be there: their programs are not loaded then.
const OPTIONAL: [Field; 2] =
    [("TASK_TGID", "task_struct", "tgid"), ("XFS_INODE_VFS", "xfs_inode", "i_vnode")];

/// The iterator's context, as the program has it.
const CONTEXT: [(&str, &str, u64); 4] = [
    ("bpf_iter__task_file", "meta", 0),
    ("bpf_iter__task_file", "task", 8),
    ("bpf_iter__task_file", "fd", 16),
    ("bpf_iter__task_file", "file", 24),
];

/// The offsets of all fields by the globals' names; else the name of a field that is missing, or not
/// where it is expected.
pub(super) fn offsets(types: &Types) -> Result<Vec<(&'static str, u64)>, String> {
    let mut offsets = Vec::new();
    for (structure, field, expected) in CONTEXT {
        if types.offset(structure, field) != Some(expected) {
            return Err(format!("{structure}.{field} at {expected}"));
        }
    }
    for (global, structure, field) in FIELDS {
        let offset = types.offset(structure, field);
        offsets.push((global, offset.ok_or_else(|| format!("{structure}.{field}"))?));
    }
    for (global, structure, field) in OPTIONAL {
        offsets.push((global, types.offset(structure, field).unwrap_or(0)));
    }
    Ok(offsets)
}

impl Program {
    /// What in the kernel it is bound to.
    pub(super) fn bound_to(&self) -> &'static str {
        match self.attach {
            Attach::Tracepoint => self.name,
            Attach::Entry(function) | Attach::Exit(function) => function,
        }
    }

    /// Whether this kernel has what the program is bound to, as the program expects it.
    pub(super) fn fits(&self, types: &Types) -> bool {
        let as_expected = |argument: &dyn Fn(u32) -> Option<String>| {
            self.expects.is_none_or(|(n, structure)| argument(n).as_deref() == Some(structure))
        };
        match self.attach {
            Attach::Entry(function) | Attach::Exit(function) => {
                types.has_function(function)
                    && as_expected(&|n| types.parameter(function, n).map(str::to_owned))
            }
            Attach::Tracepoint => as_expected(&|n| types.argument(self.name, n).map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_field_that_is_needed() {
        let Ok(types) = Types::of_this_kernel() else {
            println!("skipped: this kernel shows no BTF");
            return;
        };
        let offsets = offsets(&types).unwrap();
        assert_eq!(offsets.len(), FIELDS.len() + OPTIONAL.len());
        let at = |global| offsets.iter().find(|(name, _)| *name == global).unwrap().1;
        assert_ne!(at("INODE_I_INO"), at("INODE_I_GENERATION"));
    }
}
