//! Shown: text that others wrote, made safe to be read. A tenant's or a server's bytes must not steer a terminal, hide,
//! change the order of what is read, or forge a line of the agent's own log.
//!
//! Only what is shown is changed: files and sinks get the bytes as they are.

use std::fmt::Write as _;

/// How an unsafe character is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `\x1b`, `\n`, `\u{202e}`.
    Text,
    /// As JSON has them inside strings, where they mean the same.
    Json,
}

/// Whether a character can move the cursor, start an escape sequence, end a line, change the order of what is
/// shown, or is not to be seen at all. A tab is harmless. `before`: the character before it.
fn is_unsafe(c: char, before: Option<char>) -> bool {
    match c {
        '\t' => false,
        // C0, DEL and C1 (U+009B alone begins a control sequence on some terminals).
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        ' '..='~' => false,
        // Marks, embeddings, overrides and isolates of the bidirectional algorithm.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        // Line and paragraph separator.
        '\u{2028}' | '\u{2029}' => true,
        // Joiners: part of words in some scripts, and of emoji; among ASCII they are only there to hide.
        '\u{200c}' | '\u{200d}' => before.is_none_or(|before| before.is_ascii()),
        // What is not seen: hyphens, spaces and fillers without width, deprecated and annotation controls, tags.
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// Whether nothing of a text has to be changed.
pub fn is_safe(text: &str) -> bool {
    next_unsafe(text, None).is_none()
}

/// The text, made safe.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// The same for several lines: line ends stay.
pub fn lines(text: &str) -> String {
    text.split('\n').map(self::text).collect::<Vec<_>>().join("\n")
}

/// Appends `text`, made safe.
pub fn push(out: &mut String, text: &str) {
    push_as(out, text, Style::Text);
}

/// Appends `text`, made safe in this style.
pub fn push_as(out: &mut String, text: &str, style: Style) {
    let (mut rest, mut before) = (text, None);
    while let Some(at) = next_unsafe(rest, before) {
        let (safe, from) = rest.split_at(at);
        out.push_str(safe);
        let mut chars = from.chars();
        if let Some(c) = chars.next() {
            push_escape(out, c, style);
            before = Some(c);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// Appends what is no text as far as it is.
pub fn append(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    if bytes.iter().all(|&byte| (b' '..0x7f).contains(&byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut shown = String::with_capacity(bytes.len());
    push_as(&mut shown, &String::from_utf8_lossy(bytes), style);
    out.extend_from_slice(shown.as_bytes());
}

/// At most `max` characters of `bytes`, made safe, for the agent's own log.
pub fn excerpt(bytes: &[u8], max: usize) -> String {
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

fn next_unsafe(text: &str, mut before: Option<char>) -> Option<usize> {
    for (at, c) in text.char_indices() {
        if is_unsafe(c, before) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

fn push_escape(out: &mut String, c: char, style: Style) {
    let code = u32::from(c);
    let written = match (style, c) {
        (Style::Json, _) => {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
        }
        (Style::Text, '\n') => write!(out, "\\n"),
        (Style::Text, '\r') => write!(out, "\\r"),
        (Style::Text, _) if code < 0x100 => write!(out, "\\x{code:02x}"),
        (Style::Text, _) => write!(out, "\\u{{{code:x}}}"),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_sequences_are_shown_not_sent() {
        assert_eq!(text("\x1b[31mred\x1b]0;title\x07"), "\\x1b[31mred\\x1b]0;title\\x07");
        assert_eq!(text("\u{9b}2J"), "\\x9b2J");
        assert_eq!(text("ok\r\nforged"), "ok\\r\\nforged");
        assert_eq!(text("\u{202e}txt.exe"), "\\u{202e}txt.exe");
        assert_eq!(
            text("plain\ttext, größer 日本 👩‍🚀 می‌خواهم ❤️"),
            "plain\ttext, größer 日本 👩‍🚀 می‌خواهم ❤️"
        );
        assert_eq!(lines("one\ntw\ro\n"), "one\ntw\\ro\n");
    }

    #[test]
    fn what_is_not_seen_is_shown() {
        assert_eq!(text("ad\u{200b}min\u{ad} a\u{200d}b"), "ad\\u{200b}min\\xad a\\u{200d}b");
        assert_eq!(
            text("\u{feff}x\u{2060}\u{2064}\u{e0041}"),
            "\\u{feff}x\\u{2060}\\u{2064}\\u{e0041}"
        );
        let mut json = String::new();
        push_as(&mut json, "\u{e0041}\u{9b}", Style::Json);
        assert_eq!(json, "\\udb40\\udc41\\u009b");
    }

    #[test]
    fn an_excerpt_is_bounded_in_characters() {
        assert_eq!(excerpt("ääääää".as_bytes(), 3), "äää…");
        assert_eq!(excerpt(b" bad\xff\x1b ", 80), "bad\u{fffd}\\x1b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn nothing_unsafe_is_ever_left(dirty in "(\\PC|[\\x00-\\x1f\\x7f-\\u{9f}\\u{202a}-\\u{202e}\\u{200b}-\\u{200f}\\u{e0000}-\\u{e007f}]){0,80}") {
            prop_assert!(is_safe(&text(&dirty)));
            let line = serde_json::to_string(&dirty).unwrap();
            let mut json = String::new();
            push_as(&mut json, &line, Style::Json);
            prop_assert!(is_safe(&json));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), dirty);
        }

        #[test]
        fn harmless_text_is_unchanged(clean in "[ -~äöü日本\t]{0,80}") {
            prop_assert_eq!(text(&clean), clean);
        }
    }
}
