//! Kernel fields: where they lie (set before loading), and reading them.
//!
//! Reads are plain loads: the verifier knows the pointers' types and that the offsets are constant,
//! and has the kernel survive a bad one.

use core::ptr::read_volatile;

/// Declares a read-only global for each field. User space sets it; it is 0 in the object.
macro_rules! offsets {
    ($($name:ident),+ $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            static $name: u64 = 0;
        )+
    };
}

offsets! {
    INODE_I_INO, INODE_I_MODE, INODE_I_SB, INODE_I_GENERATION, INODE_I_SIZE, INODE_I_NLINK,
    SUPER_BLOCK_S_DEV, SUPER_BLOCK_S_MAGIC,
    DENTRY_D_INODE, DENTRY_D_PARENT, DENTRY_D_NAME_LEN, DENTRY_D_NAME_NAME,
    FILE_F_INODE, KIOCB_KI_FILP, KIOCB_KI_POS, KIOCB_KI_FLAGS, IOV_ITER_COUNT,
    SEQ_META_SEQ, TASK_TGID,
    XFS_INODE_VFS,
}

/// `bpf_iter__task_file`, a program's context: the verifier takes no offset into one that it has to
/// compute. The agent compares it with the running kernel's before it loads anything.
#[repr(C)]
pub struct TaskFile {
    pub meta: Object,
    pub task: Object,
    pub fd: u32,
    pub file: Object,
}

/// A structure of the kernel's; which one, the reader of it knows.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Object(pub *const u8);

/// A field's reader.
macro_rules! reader {
    ($(#[$doc:meta])* $name:ident: $kind:ty = $offset:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(self) -> $kind {
            // SAFETY: `self` is what the verifier knows to be the structure that has the field.
            unsafe {
                let at = read_volatile(&raw const $offset) as usize;
                read_volatile(self.0.add(at).cast::<$kind>())
            }
        }
    };
}

impl Object {
    reader!(/** `inode.i_ino`. */ inode_number: u64 = INODE_I_INO);
    reader!(/** `inode.i_mode`. */ mode: u16 = INODE_I_MODE);
    reader!(/** `inode.i_sb`. */ super_block: Object = INODE_I_SB);
    reader!(/** `inode.i_generation`. */ generation: u32 = INODE_I_GENERATION);
    reader!(/** `inode.i_size`. */ size: u64 = INODE_I_SIZE);
    reader!(/** `inode.i_nlink`. */ links: u32 = INODE_I_NLINK);
    reader!(/** `super_block.s_dev`. */ device: u32 = SUPER_BLOCK_S_DEV);
    reader!(/** `super_block.s_magic`. */ magic: u64 = SUPER_BLOCK_S_MAGIC);
    reader!(/** `dentry.d_inode`. */ dentry_inode: Object = DENTRY_D_INODE);
    reader!(/** `dentry.d_parent`. */ dentry_parent: Object = DENTRY_D_PARENT);
    reader!(/** `dentry.d_name.len`. */ dentry_name_len: u32 = DENTRY_D_NAME_LEN);
    reader!(/** `dentry.d_name.name`. */ dentry_name: u64 = DENTRY_D_NAME_NAME);
    reader!(/** `file.f_inode`. */ file_inode: Object = FILE_F_INODE);
    reader!(/** `kiocb.ki_filp`. */ kiocb_file: Object = KIOCB_KI_FILP);
    reader!(/** `kiocb.ki_pos`. */ kiocb_position: u64 = KIOCB_KI_POS);
    reader!(/** `kiocb.ki_flags`. */ kiocb_flags: u32 = KIOCB_KI_FLAGS);
    reader!(/** `iov_iter.count`. */ iter_count: u64 = IOV_ITER_COUNT);
    reader!(/** `bpf_iter_meta.seq`. */ meta_seq: u64 = SEQ_META_SEQ);
    reader!(/** `task_struct.tgid`. */ tgid: u32 = TASK_TGID);

    /// The `inode` inside an `xfs_inode`.
    #[inline(always)]
    pub fn xfs_vfs_inode(self) -> Object {
        // SAFETY: as above; the offset is that of a member.
        unsafe { Object(self.0.add(read_volatile(&raw const XFS_INODE_VFS) as usize)) }
    }
}
