//! Byte-order marks: what a file begins with may say how it is encoded, and is no part of its text.

use crate::config::Charset;

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// More bytes are needed to tell.
    Open,
    /// This encoding, in so many bytes.
    Says(Charset, usize),
}

/// Longest first where one begins as another does.
const MARKS: [(&[u8], Charset); 3] = [
    (b"\xef\xbb\xbf", Charset::UTF_8),
    (b"\xff\xfe", Charset::UTF_16LE),
    (b"\xfe\xff", Charset::UTF_16BE),
];

/// The longest mark, bytes.
pub(super) const LONGEST: usize = 3;

/// Reads the mark that `beginning`, a file's first bytes, begins with.
pub(super) fn read(beginning: &[u8]) -> Mark {
    for (mark, charset) in MARKS {
        if beginning.starts_with(mark) {
            return Mark::Says(charset, mark.len());
        }
        if mark.starts_with(beginning) && !beginning.is_empty() {
            return Mark::Open;
        }
    }
    Mark::None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_once_it_is_whole() {
        let says = |bytes: &[u8]| read(bytes);
        assert_eq!(says(b""), Mark::None);
        assert_eq!(says(b"\xef"), Mark::Open);
        assert_eq!(says(b"\xef\xbb"), Mark::Open);
        assert_eq!(says(b"\xef\xbb\xbfabc"), Mark::Says(Charset::UTF_8, 3));
        assert_eq!(says(b"\xef\xbbabc"), Mark::None);
        assert_eq!(says(b"\xff"), Mark::Open);
        assert_eq!(says(b"\xff\xfea"), Mark::Says(Charset::UTF_16LE, 2));
        assert_eq!(says(b"\xfe\xff"), Mark::Says(Charset::UTF_16BE, 2));
        assert_eq!(says(b"\xfea"), Mark::None);
        assert_eq!(says(b"plain"), Mark::None);
    }
}
