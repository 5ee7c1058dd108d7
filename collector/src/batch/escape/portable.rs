//! Escaping without vectors: eight bytes at a time while none of them needs an escape.

use super::{LETTERS, append_escape};

/// Appends `bytes`, escaped. True if they are all ASCII.
pub(super) fn append(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        rest = &rest[clean..];
        if let Some((byte, after)) = rest.split_first() {
            append_escape(out, *byte);
            rest = after;
        }
    }
    bytes.is_ascii()
}

/// How many bytes stand before the first that needs an escape.
fn clean_prefix(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(8).take_while(|word| {
        let word = u64::from_le_bytes((*word).try_into().expect("chunks are exact"));
        !needs_escape(word)
    });
    let clean = words.count() * 8;
    let tail = bytes[clean..].iter().take_while(|byte| LETTERS[usize::from(**byte)] == 0);
    clean + tail.count()
}

/// Whether any of eight bytes may need an escape. May say yes wrongly above 127, never no.
fn needs_escape(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    let quote = has_zero(word ^ (ONES * u64::from(b'"')));
    let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
    below_space | quote | backslash != 0
}
