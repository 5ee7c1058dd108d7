//! The inside of a JSON string literal: where it ends, and whether it is right.
//!
//! [`scan`] is exact: it accepts nothing that RFC 8259 does not, nor lone surrogates, nor bytes that
//! are not UTF-8. The search runs 32 bytes at a time where the processor has AVX2.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

/// The length of the literal that `text` begins inside of, up to its closing quote. None if it has
/// none or anything in it is wrong.
#[inline]
pub(super) fn scan(text: &[u8]) -> Option<usize> {
    let Extent { len, ascii } = extent(text)?;
    // Escapes are ASCII, so checking the escaped form checks the text.
    (ascii || simdutf8::basic::from_utf8(&text[..len]).is_ok()).then_some(len)
}

/// The escape at the front of `text` (which begins with its backslash): the character and the bytes
/// it takes up, a surrogate pair's twelve together. None if it is none.
pub(super) fn escape(text: &[u8]) -> Option<(char, usize)> {
    let simple = match text.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((simple, 2))
}

/// A literal's extent, its escapes checked, its UTF-8 not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    len: usize,
    ascii: bool,
}

#[inline]
fn extent(text: &[u8]) -> Option<Extent> {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = avx2::extent(text) {
        return found;
    }
    portable::extent(text, 0, true)
}

fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let high = hex4(text)?;
    if !(0xD800..0xDC00).contains(&high) {
        // None for a low surrogate, which has lost its partner.
        return Some((char::from_u32(high)?, 6));
    }
    let low = hex4(&text[6..]).filter(|low| (0xDC00..0xE000).contains(low))?;
    let pair = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    Some((char::from_u32(pair)?, 12))
}

/// The number in `\uXXXX`.
fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.get(..6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// Bytes that an escape takes up, where it is one.
#[inline(always)]
fn escape_len(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => unicode_escape(text).map(|(_, len)| len),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// serde_json on the literal that ends at each quote in turn; the first that it takes is it.
    fn oracle(text: &[u8]) -> Option<usize> {
        let quotes = text.iter().enumerate().filter(|(_, byte)| **byte == b'"');
        quotes.map(|(at, _)| at).find(|at| {
            let literal = [b"\"", &text[..=*at]].concat();
            serde_json::from_slice::<String>(&literal).is_ok()
        })
    }

    #[test]
    fn literals() {
        let cases: [(&[u8], Option<usize>); 14] = [
            (b"\"", Some(0)),
            (b"", None),
            (b"abc", None),
            (b"abc\"d\"", Some(3)),
            (b"a\\\"b\"", Some(4)),
            (b"a\\\\\"", Some(3)),
            (b"a\nb\"", None),
            (b"\\x\"", None),
            (b"\\u12g4\"", None),
            (b"\\ud83d\\ude00\"", Some(12)),
            (b"\\ud83d\"", None),
            (b"\\ude00\"", None),
            (b"\\ud83d\\u0041\"", None),
            (b"\xff\"", None),
        ];
        for (text, expected) in cases {
            assert_eq!(scan(text), expected, "{}", text.escape_ascii());
            assert_eq!(oracle(text), expected, "oracle {}", text.escape_ascii());
        }
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            8 => "[ -!#-\\[\\]-~]{1,40}".prop_map(String::into_bytes),
            2 => "\\\\[\"/\\\\bfnrt]".prop_map(String::into_bytes),
            2 => "\\\\u[0-9a-fA-F]{4}".prop_map(String::into_bytes),
            1 => Just(b"\\ud83d\\ude00".to_vec()),
            1 => "[é-\u{10ffff}]{1,9}".prop_map(String::into_bytes),
            1 => Just(b"\"".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..2),
        ];
        proptest::collection::vec(token, 0..20).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in texts()) {
            prop_assert_eq!(scan(&text), oracle(&text));
        }

        #[test]
        fn every_way_of_searching_agrees(text in texts()) {
            prop_assert_eq!(extent(&text), portable::extent(&text, 0, true));
        }
    }
}
