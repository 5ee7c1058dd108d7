//! Any bytes as the inside of a JSON string literal.
//!
//! The usual message is ASCII with a few quotes, so that is what must be fast: one pass that copies,
//! escapes and notices bytes above 127; only if there are any is the text checked to be UTF-8, and
//! only if it is not, encoded again the slow way. `wide` does the pass with vectors, `portable`
//! without; both mean the same, which a property test holds.

mod portable;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::str;

/// What the bytes were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// UTF-8; the literal decodes to exactly these bytes.
    Exact,
    /// Not UTF-8; every maximal invalid run is U+FFFD in the literal.
    Lossy,
}

/// Appends `bytes` to `out`, escaped.
#[inline]
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Text {
    let start = out.len();
    if append_utf8(out, bytes) || simdutf8::basic::from_utf8(bytes).is_ok() {
        return Text::Exact;
    }
    out.truncate(start);
    append_lossy(out, bytes);
    Text::Lossy
}

/// Appends what is known to be text.
pub fn append_str(out: &mut Vec<u8>, text: &str) {
    append_utf8(out, text.as_bytes());
}

/// Appends `bytes` as if they were UTF-8. True if they are all ASCII.
#[inline]
fn append_utf8(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut ascii = true;
    let mut rest = bytes;
    loop {
        let run;
        (run, rest) = rest.split_at(rest.len().min(RUN));
        ascii &= append_run(out, run);
        if rest.is_empty() {
            return ascii;
        }
    }
}

/// Appends one run; bounded, so that room for the worst case can be made at once.
#[inline]
fn append_run(out: &mut Vec<u8>, run: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(ascii) = wide::append(out, run) {
        return ascii;
    }
    portable::append(out, run)
}

#[cold]
fn append_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        append_str(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            append_str(out, "\u{FFFD}");
        }
    }
}

/// Appends the escape of a byte that needs one.
fn append_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = LETTERS[usize::from(byte)];
    if letter == b'u' {
        let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
    } else {
        out.extend_from_slice(&[b'\\', letter]);
    }
}

/// What follows the backslash in a byte's escape; 0: needs none.
const LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        letters[byte] = b'u';
        byte += 1;
    }
    letters[0x08] = b'b';
    letters[b'\t' as usize] = b't';
    letters[b'\n' as usize] = b'n';
    letters[0x0c] = b'f';
    letters[b'\r' as usize] = b'r';
    letters[b'"' as usize] = b'"';
    letters[b'\\' as usize] = b'\\';
    letters
};

/// Room for a run is made for every byte becoming two; that must not blow up a batch's buffer.
const RUN: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(escaped: &[u8]) -> String {
        serde_json::from_slice(&[b"\"", escaped, b"\""].concat()).unwrap()
    }

    fn check(bytes: &[u8]) {
        let mut out = b"before".to_vec();
        let text = append(&mut out, bytes);
        assert!(out.starts_with(b"before"));
        assert_eq!(decoded(&out[6..]), String::from_utf8_lossy(bytes));
        assert_eq!(text == Text::Exact, str::from_utf8(bytes).is_ok());
        if text == Text::Exact {
            let mut plain = Vec::new();
            portable::append(&mut plain, bytes);
            assert_eq!(plain, &out[6..]);
            #[cfg(target_arch = "x86_64")]
            for run in [wide::append_with_avx2, wide::append_with_avx512] {
                let mut out = Vec::new();
                if let Some(ascii) = run(&mut out, bytes) {
                    assert_eq!(out, plain);
                    assert_eq!(ascii, bytes.is_ascii());
                }
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_two_blocks() {
        for byte in 0..=255 {
            for len in [1, 31, 32, 33, 70] {
                for at in 0..len {
                    let mut bytes = vec![b'x'; len];
                    bytes[at] = byte;
                    check(&bytes);
                }
            }
        }
    }

    #[test]
    fn long_texts() {
        check(&vec![b'"'; 10_000]);
        check(&vec![0; 10_000]);
        check("äöü€😀".repeat(3_000).as_bytes());
        check(b"");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            check(&bytes);
        }

        #[test]
        fn text_with_escapes(text in "([ -~]|[\"\\\\\t\n\r\u{1b}\0]|[é-\u{10ffff}]){0,300}") {
            check(text.as_bytes());
        }
    }
}
