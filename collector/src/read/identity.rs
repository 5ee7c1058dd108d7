//! Who a file is, whatever it is called at the moment.

use std::fmt;

/// Names one file's life (one incarnation: a truncation begins another) in every record's
/// `log.record.uid` and in the checkpoint. Derived from what the kernel says of the inode, so it is
/// the same before and after a crash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
