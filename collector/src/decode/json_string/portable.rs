//! The search for a literal's end, a byte at a time. Also finishes what the wide search begins.

use super::{Extent, escape_len};

/// Goes on at `at`, with only ASCII before it or not.
pub(super) fn extent(text: &[u8], mut at: usize, mut ascii: bool) -> Option<Extent> {
    loop {
        match *text.get(at)? {
            b'"' => return Some(Extent { len: at, ascii }),
            b'\\' => at += escape_len(&text[at..])?,
            0..0x20 => return None,
            byte => {
                ascii &= byte < 0x80;
                at += 1;
            }
        }
    }
}
