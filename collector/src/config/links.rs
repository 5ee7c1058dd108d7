//! Where symbolic links may lead that lie among the files that a pattern names.

use serde::{Deserialize, Serialize};

/// Where links that a pattern names may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FollowLinks {
    /// Nowhere: no link is followed, nor one on the way to the pattern's beginning.
    Never,
    /// Below the directory that the pattern begins in, its first `*` filled in where that stands for a directory.
    #[default]
    Beneath,
    /// To any regular file, whoever made the link.
    Anywhere,
}
