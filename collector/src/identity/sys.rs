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
/// be, for every file known has two: those of ext4, xfs and tmpfs take no memory of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle(Kept);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kept {
    Short { kind: u8, length: u8, bytes: [u8; SHORT] },
    Long(Box<(i32, Box<[u8]>)>),
}

/// Bytes of a handle that are kept in place.
const SHORT: usize = 12;

impl Handle {
    /// A handle of this type.
    pub fn new(kind: i32, bytes: &[u8]) -> Self {
        Self(match u8::try_from(kind) {
            Ok(kind) if bytes.len() <= SHORT => {
                let mut kept = [0; SHORT];
                kept[..bytes.len()].copy_from_slice(bytes);
                Kept::Short { kind, length: bytes.len() as u8, bytes: kept }
            }
            _ => Kept::Long(Box::new((kind, bytes.into()))),
        })
    }

    /// Its type.
    pub fn kind(&self) -> i32 {
        match &self.0 {
            Kept::Short { kind, .. } => i32::from(*kind),
            Kept::Long(kept) => kept.0,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { length, bytes, .. } => &bytes[..usize::from(*length)],
            Kept::Long(kept) => &kept.1,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_two_words_and_keeps_type_and_bytes() {
        assert!(size_of::<Option<Handle>>() <= 16, "{}", size_of::<Option<Handle>>());
        let bytes: Vec<u8> = (1..=MAX_HANDLE as u8).collect();
        let lengths = [0, 1, 8, SHORT, SHORT + 1, MAX_HANDLE];
        let kinds = [0, 1, 0x81, 0xff, 0x100, i32::MAX, -1];
        let all: Vec<_> =
            kinds.iter().flat_map(|kind| lengths.map(|length| (*kind, &bytes[..length]))).collect();
        for (kind, bytes) in &all {
            let handle = Handle::new(*kind, bytes);
            assert_eq!((handle.kind(), handle.bytes()), (*kind, *bytes));
            let same = all.iter().filter(|(kind, bytes)| Handle::new(*kind, bytes) == handle);
            assert_eq!(same.count(), 1, "{handle:?}");
        }
    }
}
