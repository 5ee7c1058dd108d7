//! The two system calls that no safe wrapper offers: a file's handle, and a file by its handle.
//!
//! A handle names an inode whatever it is called (`open_by_handle_at(2)`), which finds a file that
//! was renamed while the agent was down. Opening needs CAP_DAC_READ_SEARCH; without it files are
//! found by listing only.
#![expect(unsafe_code, reason = "name_to_handle_at and open_by_handle_at have no safe wrapper")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// The largest handle the kernel makes (`MAX_HANDLE_SZ`), bytes.
const MAX_HANDLE: usize = 128;

/// A file's handle: its type, which only the filesystem understands, and its bytes. As small as can
/// be, for there is one for every file known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle(Box<[u8]>);

impl Handle {
    /// A handle of this type.
    pub fn new(kind: i32, bytes: &[u8]) -> Self {
        Self([&kind.to_ne_bytes(), bytes].concat().into())
    }

    /// Its type.
    pub fn kind(&self) -> i32 {
        self.0.first_chunk().map_or(0, |kind| i32::from_ne_bytes(*kind))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.get(size_of::<i32>()..).unwrap_or_default()
    }
}

/// `struct file_handle` with room for the largest handle.
#[repr(C)]
struct RawHandle {
    bytes: u32,
    kind: i32,
    data: [u8; MAX_HANDLE],
}

/// A file's handle.
///
/// # Errors
/// The filesystem has none (EOPNOTSUPP), or the descriptor is not a file.
pub fn handle_of(file: &File) -> io::Result<Handle> {
    let mut raw = RawHandle { bytes: MAX_HANDLE as u32, kind: 0, data: [0; MAX_HANDLE] };
    let mut mount = 0_i32;
    // SAFETY: `raw` has the layout and the room that its `bytes` claims, the path is a static
    // C string, and both pointers live across the call.
    let result = unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = (raw.bytes as usize).min(MAX_HANDLE);
    Ok(Handle::new(raw.kind, &raw.data[..length]))
}

/// Opens for reading the file that a handle names, on the filesystem that `near` lies on.
///
/// # Errors
/// ESTALE: the file is gone. EPERM: CAP_DAC_READ_SEARCH is missing.
pub fn open_by_handle(near: &File, handle: &Handle) -> io::Result<File> {
    let (kind, bytes) = (handle.kind(), handle.bytes());
    if bytes.len() > MAX_HANDLE {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut raw = RawHandle { bytes: bytes.len() as u32, kind, data: [0; MAX_HANDLE] };
    raw.data[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: as above; a descriptor that the kernel returns is owned by nobody else.
    unsafe {
        let descriptor = libc::open_by_handle_at(
            near.as_raw_fd(),
            (&raw mut raw).cast(),
            libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK,
        );
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(descriptor))
    }
}
