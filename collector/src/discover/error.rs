//! Why discovery cannot be set up.

/// Why discovery cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// A pattern is no glob.
    #[error(
        "`{key}`: `{pattern}` is not a glob: {reason}; put a special character that is meant \
         literally in brackets, like [*]"
    )]
    Glob {
        /// The configuration key.
        key: String,
        /// What was written there.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern of files is not absolute.
    #[error("`{key}`: `{pattern}` is not absolute; write the whole path, beginning with /")]
    Relative {
        /// The configuration key.
        key: String,
        /// What was written there.
        pattern: String,
    },
}
