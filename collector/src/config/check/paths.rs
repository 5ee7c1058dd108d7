//! Paths: absolute, written as the system will call them, and where files can be.

use std::{os::unix::ffi::OsStrExt, path::Path};

use super::Checker;

/// The kernel's own filesystems.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];
/// The one directory there in which people keep files.
const SHARED_MEMORY: &str = "/dev/shm";
/// What the system calls take.
const LONGEST: usize = 4_000;
const LONGEST_NAME: usize = 255;

impl Checker<'_> {
    /// Refuses what is not an absolute path.
    pub(super) fn absolute(&mut self, path: &[String], value: &Path) -> bool {
        let shown = value.display();
        let bytes = value.as_os_str().as_bytes();
        let (what, todo) = if !value.is_absolute() {
            (format!("the path `{shown}` is not absolute"), "begin it with `/`")
        } else if bytes.split(|byte| *byte == b'/').any(|part| matches!(part, b"." | b"..")) {
            (format!("the path `{shown}` has `.` or `..` in it"), "write it without")
        } else if bytes.iter().any(u8::is_ascii_control) {
            ("the path has control characters".to_owned(), "take them out")
        } else if bytes.len() > LONGEST
            || bytes.split(|byte| *byte == b'/').any(|part| part.len() > LONGEST_NAME)
        {
            ("the path is longer than the system allows".to_owned(), "choose a shorter one")
        } else {
            return true;
        };
        self.refuse(path, what, todo);
        false
    }

    /// The same of a path at which files are to be: none of the kernel's own.
    pub(super) fn place(&mut self, path: &[String], value: &Path) -> bool {
        if !self.absolute(path, value) {
            return false;
        }
        let Some(kernels) = of_the_kernel(value) else { return true };
        let what = format!(
            "`{}` lies in {kernels}, where the kernel has no place for files",
            value.display()
        );
        self.refuse(path, what, "choose a directory on a disk");
        false
    }

    /// The same of a directory for one agent alone.
    pub(super) fn own_directory(&mut self, path: &[String], value: &Path) -> bool {
        if value == Path::new("/") {
            self.refuse(
                path,
                "the root directory belongs to everybody",
                "choose a directory of its own",
            );
            return false;
        }
        self.place(path, value)
    }
}

/// Which of the kernel's own filesystems a path lies in.
pub(super) fn of_the_kernel(path: &Path) -> Option<&'static str> {
    let kernels = OF_THE_KERNEL.into_iter().find(|kernels| path.starts_with(kernels))?;
    (!path.starts_with(SHARED_MEMORY)).then_some(kernels)
}
