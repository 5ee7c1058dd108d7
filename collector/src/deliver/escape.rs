//! Makes text that others wrote safe to show: a tenant's or a server's bytes must not steer a
//! terminal or forge a line of the log. Not for JSON; see `console` for that.

use std::fmt::Write as _;

/// Whether a character can move the cursor, start an escape sequence, end a line or reorder what is
/// shown. A tab is harmless.
pub(super) fn is_unsafe(c: char) -> bool {
    match c {
        '\t' => false,
        // C0, DEL and C1 (U+009B alone begins a control sequence on some terminals).
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        // Marks, embeddings, overrides and isolates of the bidirectional algorithm.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        // Line and paragraph separator.
        '\u{2028}' | '\u{2029}' => true,
        _ => false,
    }
}

/// Appends `text` with every unsafe character shown: `\x1b`, `\n`, `\u{202e}`.
pub(super) fn push(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(is_unsafe) {
        let (safe, from) = rest.split_at(at);
        out.push_str(safe);
        let mut chars = from.chars();
        if let Some(c) = chars.next() {
            push_shown(out, c);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// At most `max` characters of `bytes`, made safe, for the agent's own log.
pub(super) fn excerpt(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let mut out = String::new();
    match text.char_indices().nth(max) {
        Some((end, _)) => {
            push(&mut out, &text[..end]);
            out.push('…');
        }
        None => push(&mut out, text),
    }
    out
}

fn push_shown(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        // Writing to a String cannot fail.
        c if (c as u32) < 0x100 => drop(write!(out, "\\x{:02x}", c as u32)),
        c => drop(write!(out, "\\u{{{:x}}}", c as u32)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        push(&mut out, text);
        out
    }

    #[test]
    fn control_sequences_are_shown_not_sent() {
        assert_eq!(shown("\x1b[31mred\x1b]0;title\x07"), "\\x1b[31mred\\x1b]0;title\\x07");
        assert_eq!(shown("\u{9b}2J"), "\\x9b2J");
        assert_eq!(shown("ok\r\nforged"), "ok\\r\\nforged");
        assert_eq!(shown("\u{202e}txt.exe"), "\\u{202e}txt.exe");
        assert_eq!(shown("plain\ttext, größer 日本 👩‍🚀"), "plain\ttext, größer 日本 👩‍🚀");
    }

    #[test]
    fn an_excerpt_is_bounded_in_characters() {
        assert_eq!(excerpt("ääääää".as_bytes(), 3), "äää…");
        assert_eq!(excerpt(b" bad\xff\x1b ", 80), "bad\u{fffd}\\x1b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn nothing_unsafe_is_ever_left(text in "(\\PC|[\\x00-\\x1f\\x7f-\\u{9f}\\u{202a}-\\u{202e}]){0,80}") {
            prop_assert!(!shown(&text).contains(is_unsafe));
        }

        #[test]
        fn harmless_text_is_unchanged(text in "[ -~äöü日本\t]{0,80}") {
            prop_assert_eq!(shown(&text), text);
        }
    }
}
