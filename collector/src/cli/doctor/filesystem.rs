//! Filesystems by their numbers, for people.

use std::path::Path;

/// Where logs may lie (`linux/magic.h`).
const NAMES: [(u32, &str); 18] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794C_7630, "overlay"),
    (0xF2F5_2010, "f2fs"),
    (0x2FC1_2FC1, "zfs"),
    (0x8584_58F6, "ramfs"),
    (0x0000_6969, "nfs"),
    (0x0000_517B, "smb"),
    (0xFE53_4D42, "smb2"),
    (0xFF53_4D42, "cifs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "ceph"),
    (0x5346_414F, "afs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x7371_7368, "squashfs"),
];

/// The number of the filesystem that a path lies on; None: there is nothing.
pub(super) fn number(path: &Path) -> Option<u64> {
    // Only the low 32 bits are the magic number, whatever width the field has.
    Some(u64::from(rustix::fs::statfs(path).ok()?.f_type as u32))
}

/// A filesystem's name, else its number.
pub(super) fn name(number: u64) -> String {
    let known = NAMES.iter().find(|(magic, _)| u64::from(*magic) == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_here_has_its_number() {
        assert_eq!(name(0xEF53), "ext4");
        assert_eq!(name(0x1234), "0x1234");
        assert_eq!(number(Path::new("/nonexistent")), None);
        // procfs is no place for logs.
        assert_eq!(name(number(Path::new("/proc")).unwrap()), "0x9fa0");
    }
}
