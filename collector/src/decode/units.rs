//! Where lines and characters end in the bytes of an encoding.
//!
//! UTF-16 is made of code units of two bytes, which begin at even offsets of the file, wherever reading
//! begins. In all other encodings a newline is the byte that it is in ASCII, and no byte of another
//! character.

use memchr::memchr;

use crate::config::Charset;

/// Bytes of a code unit, and of a newline.
#[inline]
pub(super) fn unit(charset: Charset) -> usize {
    1 + usize::from(charset.is_wide())
}

/// The first newline in `bytes`, which begin at `offset` of the file.
#[inline]
pub(super) fn newline(charset: Charset, bytes: &[u8], offset: u64) -> Option<usize> {
    if charset.is_wide() { wide_newline(charset, bytes, offset) } else { memchr(b'\n', bytes) }
}

fn wide_newline(charset: Charset, bytes: &[u8], offset: u64) -> Option<usize> {
    // Where in the unit the byte is that tells, and what the other one must be.
    let second = usize::from(charset == Charset::UTF_16BE);
    let mut from = 0;
    while let Some(found) = memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        if let Some(start) = at.checked_sub(second)
            && (offset + start as u64).is_multiple_of(2)
            && bytes.get(start + 1 - second) == Some(&0)
        {
            return Some(start);
        }
        from = at + 1;
    }
    None
}

/// Where to end a piece of `text` (at `offset` of the file) that has room for `room` bytes and a unit more
/// than that to say: at `room`, or at the beginning of the character that would be broken there. `fresh`:
/// the piece has no text yet, and must get some.
pub(super) fn boundary(
    charset: Charset,
    (text, offset): (&[u8], u64),
    room: usize,
    fresh: bool,
) -> usize {
    if charset == Charset::UTF_8 {
        return utf_8_boundary(text, room, fresh);
    }
    match whole(charset, &text[..room], offset) {
        0 if fresh && charset.is_wide() => room.max(2 - (offset % 2) as usize),
        0 if fresh => room,
        at => at,
    }
}

fn utf_8_boundary(text: &[u8], room: usize, fresh: bool) -> usize {
    let continues = |at: usize| text[at] & 0xC0 == 0x80;
    if !continues(room) {
        return room;
    }
    let nearest = (room.saturating_sub(3)..room).rev().find(|at| !continues(*at));
    nearest.filter(|at| text[*at] >= 0xC0 && (*at > 0 || !fresh)).unwrap_or(room)
}

/// How much of `text`, which begins at `offset` of the file, is left without a character that is not whole
/// at its end.
pub(super) fn whole(charset: Charset, text: &[u8], offset: u64) -> usize {
    if !charset.is_wide() {
        return text.len() - unfinished(charset, text);
    }
    let units = units(charset, text.len(), offset);
    let high = usize::from(charset == Charset::UTF_16LE);
    let opens_a_pair = units >= 2 && text[units - 2 + high] & 0xFC == 0xD8;
    if opens_a_pair { units - 2 } else { units }
}

/// `len` bytes from `offset` on, without half a code unit at their end.
pub(super) fn units(charset: Charset, len: usize, offset: u64) -> usize {
    match charset.is_wide() {
        true => len.saturating_sub(((offset + len as u64) % 2) as usize),
        false => len,
    }
}

/// Bytes at the end of `text` of a character of several bytes that is not whole.
fn unfinished(charset: Charset, text: &[u8]) -> usize {
    // The longest character has four bytes; so many before it cannot be taken for its beginning unless
    // they are one: what is ASCII ends whatever was before it.
    let ascii = text.iter().rposition(|byte| *byte < 0x30).map_or(0, |at| at + 1);
    let mut decoder = charset.encoding().new_decoder_without_bom_handling();
    let mut scratch = [0; 1024];
    let mut rest = &text[ascii..];
    while !rest.is_empty() {
        let (_, read, _) = decoder.decode_to_utf8_without_replacement(rest, &mut scratch, false);
        rest = &rest[read..];
    }
    match decoder.decode_to_utf8_without_replacement(&[], &mut scratch, true).0 {
        encoding_rs::DecoderResult::Malformed(length, _) => {
            usize::from(length).min(text.len() - ascii)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utf_16(charset: Charset, text: &str) -> Vec<u8> {
        let units = text.encode_utf16();
        match charset == Charset::UTF_16LE {
            true => units.flat_map(u16::to_le_bytes).collect(),
            false => units.flat_map(u16::to_be_bytes).collect(),
        }
    }

    #[test]
    fn a_newline_of_utf_16_is_neither_half_of_another_character_nor_two_halves() {
        for charset in [Charset::UTF_16LE, Charset::UTF_16BE] {
            // Both bytes of these are 0A, or one is, beside a 00 of a neighbour.
            let text = "\u{0a0a}\u{010a}\u{0a00}\u{000b}\u{0a01}\n";
            let bytes = utf_16(charset, text);
            assert_eq!(newline(charset, &bytes, 4), Some(bytes.len() - 2));
            // At an odd offset the first byte is the second one of a unit.
            let shifted = [b"x".to_vec(), bytes.clone()].concat();
            assert_eq!(newline(charset, &shifted, 7), Some(bytes.len() - 1));
            assert_eq!(newline(charset, &bytes[..bytes.len() - 1], 4), None, "half of it");
        }
    }

    #[test]
    fn characters_that_are_not_whole_are_left_out() {
        for (name, text, whole_bytes) in [
            ("gbk", &b"ab\xc4\xe3\xba"[..], 4),
            ("gbk", b"ab\xc4\xe3\xba\xc3", 6),
            ("gb18030", b"a\x81\x30\x81", 1),
            ("gb18030", b"a\x81\x30\x81\x30", 5),
            ("big5", b"\xa7A\xa7", 2),
            ("euc-jp", b"\x8f\xb0", 0),
            ("shift_jis", b"\x83\x65\x83", 2),
            ("koi8-r", b"\xf0\xd2", 2),
            ("utf-16le", b"a\0b", 2),
            ("utf-16le", b"a\0\x3d\xd8", 2),
            ("utf-16be", b"\0a\xd8\x3d\xde", 2),
            ("utf-16be", b"\0a\xd8\x3d\xde\0", 6),
        ] {
            let charset = Charset::named(name).unwrap();
            assert_eq!(whole(charset, text, 0), whole_bytes, "{name} {text:x?}");
        }
    }

    proptest! {
        /// Pieces that end at boundaries read as the whole does.
        #[test]
        fn no_character_is_broken(
            text in "[a-z\u{4e00}-\u{4e20}\u{1f600}-\u{1f610}0-9]{1,60}", room in 4_usize..20,
            name in prop::sample::select(vec!["gbk", "gb18030", "utf-16le", "utf-16be", "utf-8"]),
        ) {
            let charset = Charset::named(name).unwrap();
            let text = if name == "gbk" { text.replace(|c| c > '\u{ffff}', "") } else { text };
            let bytes = match charset.is_wide() {
                true => utf_16(charset, &text),
                false => charset.encoding().encode(&text).0.into_owned(),
            };
            let (mut rest, mut read, mut at) = (&bytes[..], String::new(), 0);
            while rest.len() >= room + unit(charset) {
                let end = boundary(charset, (rest, at), room, true);
                prop_assert!(end > 0 && end <= room);
                read += &charset.encoding().decode_without_bom_handling(&rest[..end]).0;
                (rest, at) = (&rest[end..], at + end as u64);
            }
            read += &charset.encoding().decode_without_bom_handling(rest).0;
            prop_assert_eq!(read, text);
        }
    }
}
