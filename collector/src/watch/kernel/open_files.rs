//! What the agent's own descriptors are called in the kernel: a BPF iterator over them.
//!
//! `stat` would have to be guessed from: it names another device on btrfs and overlayfs, and no
//! generation. The iterator is made anew for each question; the program is loaded once.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper that makes an iterator for one process")]

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use collector_ebpf::{Key, OpenFile};

/// Commands and the attach type of bpf(2) (`linux/bpf.h`).
const LINK_CREATE: libc::c_long = 28;
const ITER_CREATE: libc::c_long = 33;
const TRACE_ITER: u32 = 28;

/// `bpf_attr.link_create`, as far as an iterator needs it.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_len: u32,
    reserved: u32,
}

/// `bpf_attr.iter_create`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

/// `bpf_iter_link_info` for tasks, as large as its largest variant.
#[repr(C)]
struct TaskInfo {
    thread: u32,
    process: u32,
    process_fd: u32,
    reserved: u32,
}

/// An iterator that only this process's descriptors come by (or, before Linux 6.1, everybody's,
/// of which the program tells only ours).
pub(super) struct OpenFiles {
    link: OwnedFd,
}

impl OpenFiles {
    /// Makes it of the loaded program.
    pub(super) fn new(program: BorrowedFd<'_>) -> io::Result<Self> {
        let info = TaskInfo { thread: 0, process: std::process::id(), process_fd: 0, reserved: 0 };
        let mut create = LinkCreate {
            program: program.as_raw_fd() as u32,
            attach_type: TRACE_ITER,
            info: (&raw const info) as u64,
            info_len: size_of::<TaskInfo>() as u32,
            ..LinkCreate::default()
        };
        let link = match bpf(LINK_CREATE, &create) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                (create.info, create.info_len) = (0, 0);
                bpf(LINK_CREATE, &create)
            }
            made => made,
        }?;
        Ok(Self { link })
    }

    /// Tells of every descriptor of this process.
    pub(super) fn each(&self, mut tell: impl FnMut(OpenFile)) -> io::Result<()> {
        let create = IterCreate { link: self.link.as_fd().as_raw_fd() as u32, flags: 0 };
        let mut file = File::from(bpf(ITER_CREATE, &create)?);
        let mut buffer = vec![0; 64 << 10];
        let mut filled = 0;
        loop {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The kernel asks to be asked again after many tasks without output.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => continue,
                Err(error) => return Err(error),
            }
            let whole = filled - filled % size_of::<OpenFile>();
            for record in buffer[..whole].chunks_exact(size_of::<OpenFile>()) {
                tell(parse(record));
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

fn parse(record: &[u8]) -> OpenFile {
    let word = |at: usize| {
        u32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
    };
    let long = |at: usize| {
        let (low, high) = (u64::from(word(at)), u64::from(word(at + 4)));
        if cfg!(target_endian = "little") { high << 32 | low } else { low << 32 | high }
    };
    OpenFile {
        fd: word(0),
        mode: word(4),
        key: Key { inode: long(8), device: word(16), generation: word(20) },
        magic: long(24),
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is a prefix of `bpf_attr` of the size that is said; what it points to
    // lives across the call; a descriptor that the kernel returns is owned by nobody else.
    unsafe {
        let at = std::ptr::from_ref(attributes);
        let result = libc::syscall(libc::SYS_bpf, command, at, size_of::<T>());
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(result as i32))
    }
}
