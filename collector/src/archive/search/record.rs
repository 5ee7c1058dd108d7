//! Record: where a stored line's fields lie, without a JSON parser's work.
//!
//! The archive's lines are flat objects that we wrote ourselves, so finding a field is a walk from
//! quote to quote. Foreign or damaged lines are no error: what cannot be found is not there, and a
//! line without a body counts as a body itself. It validates nothing.

use std::borrow::Cow;

/// A JSON string's inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    /// As it stands between the quotes.
    pub raw: &'a [u8],
    /// Whether a backslash is in it.
    pub escaped: bool,
}

/// The fields that search looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was logged, or observed if nobody knows.
    pub time: Option<Text<'a>>,
    /// The message.
    pub body: Option<Text<'a>>,
    /// Which stream.
    pub stream: Option<Text<'a>>,
    /// Kubernetes namespace.
    pub namespace: Option<Text<'a>>,
    /// Pod.
    pub pod: Option<Text<'a>>,
    /// Container.
    pub container: Option<Text<'a>>,
    /// Where the walk stopped: what stands behind the body.
    rest: usize,
}

impl<'a> Text<'a> {
    /// The text itself. Invalid escapes become U+FFFD.
    pub fn value(self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

impl<'a> Record<'a> {
    /// The fields up to the body.
    pub fn head(line: &'a [u8]) -> Self {
        let mut record = Self::default();
        let mut fields = Fields { line, at: 0 };
        while record.body.is_none()
            && let Some((key, value)) = fields.next()
        {
            record.set(key, value);
        }
        record.rest = fields.at;
        record
    }

    /// The fields behind the body, too.
    pub fn complete(mut self, line: &'a [u8]) -> Self {
        let fields = Fields { line, at: self.rest };
        for (key, value) in fields {
            self.set(key, value);
        }
        self
    }

    /// What says whose line it is, and is the same in all lines of a log: the attributes behind the
    /// stream. Marks stand before it.
    pub fn source(&self, line: &'a [u8]) -> &'a [u8] {
        let mut fields = Fields { line, at: self.rest };
        let mut at = self.rest;
        while let Some((key, _)) = fields.next()
            && (key == b"log.iostream" || key.starts_with(b"everyline."))
        {
            at = fields.at;
        }
        line.get(at..).unwrap_or_default()
    }

    fn set(&mut self, key: &[u8], value: Option<Text<'a>>) {
        let field = match key {
            b"body" => &mut self.body,
            b"timestamp" => &mut self.time,
            b"observed_timestamp" if self.time.is_none() => &mut self.time,
            b"log.iostream" => &mut self.stream,
            b"k8s.namespace.name" => &mut self.namespace,
            b"k8s.pod.name" => &mut self.pod,
            b"k8s.container.name" => &mut self.container,
            b"container.name" if self.container.is_none() => &mut self.container,
            _ => return,
        };
        *field = value;
    }
}

/// Walks an object's members. A value that is not a string is passed over and given as `None`.
struct Fields<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Option<Text<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_space();
        if !matches!(self.line.get(self.at)?, b'{' | b',') {
            return None;
        }
        self.at += 1;
        self.skip_space();
        let key = self.string()?;
        self.skip_space();
        if self.line.get(self.at)? != &b':' {
            return None;
        }
        self.at += 1;
        self.skip_space();
        match self.line.get(self.at)? {
            b'"' => Some((key.raw, Some(self.string()?))),
            _ => {
                self.skip_value()?;
                Some((key.raw, None))
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn skip_space(&mut self) {
        while matches!(self.line.get(self.at), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<Text<'a>> {
        if self.line.get(self.at)? != &b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.line.get(at..)?)?;
            if self.line[at] == b'"' {
                self.at = at + 1;
                return Some(Text { raw: &self.line[start..at], escaped });
            }
            escaped = true;
            at += 2;
        }
    }

    /// Passes over a number, a word, an array or an object.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.line.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => return Some(()),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&kind, after)) = rest.split_first() else { break };
        rest = after;
        match kind {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (character, used) = escaped_character(rest);
                rest = &rest[used..];
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            literal => out.push(literal),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// What stands behind `\u`, and how many bytes it takes.
fn escaped_character(rest: &[u8]) -> (char, usize) {
    let Some(high) = hex4(rest) else { return (char::REPLACEMENT_CHARACTER, 0) };
    if !(0xD800..0xDC00).contains(&high) {
        return (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4);
    }
    let low = rest[4..].strip_prefix(b"\\u").and_then(hex4);
    match low.filter(|low| (0xDC00..0xE000).contains(low)) {
        Some(low) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        None => (char::REPLACEMENT_CHARACTER, 4),
    }
}

/// Four hexadecimal digits at the start of `bytes`.
pub(super) fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.first_chunk::<4>()?;
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: Option<Text<'_>>) -> Option<String> {
        value.map(|text| String::from_utf8(text.value().into_owned()).unwrap())
    }

    proptest! {
        #[test]
        fn fields_are_those_a_parser_finds(body: String, extra: String, pod in "[a-z]{1,5}", nested: bool) {
            let nested = if nested { serde_json::json!([{ "body": "x\"]" }, 1]) } else { false.into() };
            let line = serde_json::to_vec(&serde_json::json!({
                "timestamp": "t", "everyline.x": nested, "body": body, "z": 1.5e3,
                extra: null, "log.iostream": "stderr", "k8s.pod.name": pod,
            })).unwrap();
            let record = Record::head(&line).complete(&line);
            prop_assert_eq!(text(record.body), Some(body));
            prop_assert_eq!(text(record.time), Some("t".into()));
            prop_assert_eq!(text(record.stream), Some("stderr".into()));
            prop_assert_eq!(text(record.pod), Some(pod));
        }

        #[test]
        fn arbitrary_lines_do_not_panic(line in "[\\\\{}\\[\\]\",:u0d8a body]{0,40}", bytes: Vec<u8>) {
            for line in [line.as_bytes(), &bytes] {
                let record = Record::head(line).complete(line);
                let _any = text(record.body.filter(|_| std::str::from_utf8(line).is_ok()));
            }
        }
    }

    #[test]
    fn escapes() {
        for (raw, value) in [
            (r#"a\"b\\c\/d\n\t\r\b\f"#, "a\"b\\c/d\n\t\r\u{8}\u{c}"),
            (r"\u0041\u00e9\ud83d\ude00", "Aé😀"),
            (r"\ud83d!", "\u{fffd}!"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\udc00\u12", "\u{fffd}\u{fffd}12"),
        ] {
            assert_eq!(String::from_utf8(unescape(raw.as_bytes())).unwrap(), value, "{raw}");
        }
        assert_eq!(unescape(b"end\\"), b"end");
    }
}
