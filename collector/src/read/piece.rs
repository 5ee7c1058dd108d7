//! What a read of a file came to, compressed or not.

/// What one read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes read.
    pub bytes: usize,
    /// False if more can be read now.
    pub at_end: bool,
}
