//! A line of one's own making: text with fields in braces, parsed once, so that what is checked is what is
//! used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::typed;

/// What a record becomes, or nothing where none is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// What a record has there.
    Field(Field),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// When it was logged, in UTC.
    Time,
    /// Kubernetes namespace.
    Namespace,
    /// Pod.
    Pod,
    /// Container: its name, or id, or else the file.
    Container,
    /// `stdout` or `stderr`.
    Stream,
    /// `error` for what came on stderr, `info` for all else.
    Level,
    /// Node.
    Node,
    /// The log file.
    Path,
    /// The message.
    Body,
    /// An attribute by its full name, which has a dot.
    Attribute(String),
}

const FIELDS: [(&str, Field); 9] = [
    ("time", Field::Time),
    ("namespace", Field::Namespace),
    ("pod", Field::Pod),
    ("container", Field::Container),
    ("stream", Field::Stream),
    ("level", Field::Level),
    ("node", Field::Node),
    ("path", Field::Path),
    ("body", Field::Body),
];

impl Template {
    /// Parses what somebody wrote; an error says what is wrong and, after a semicolon, what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err("`}` closes nothing; write }} for a brace".to_owned());
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!(
                    "`{{{after}` is not closed; write a field's name and }}, or {{{{ for a brace"
                ));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(Field::named(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if !text.is_empty() && !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err("it names no field, so every line would be the same; write {body} where the message belongs".to_owned());
        }
        if text.contains(['\n', '\r']) {
            return Err("a record is one line; leave out line breaks".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What a record's line is made of.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Field {
    fn named(name: &str) -> Result<Self, String> {
        if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Ok(field.clone());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if name.contains('.') && name.chars().all(plain) {
            return Ok(Self::Attribute(name.to_owned()));
        }
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let advice = match typed::nearest(name, &known) {
            Some(near) => format!("did you mean {{{near}}}?"),
            None => format!(
                "write one of {}, or an attribute by its full name, like {{service.name}}",
                known.join(", ")
            ),
        };
        Err(format!("there is no field {{{name}}}; {advice}"))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fields_and_braces_are_told_apart() {
        let template = Template::parse("{container}/[{level}] : {body} {{x}}").unwrap();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            template.parts(),
            [
                Part::Field(Field::Container),
                text("/["),
                Part::Field(Field::Level),
                text("] : "),
                Part::Field(Field::Body),
                text(" {x}"),
            ]
        );
        let attribute = Template::parse("{service.name}").unwrap();
        assert_eq!(attribute.parts(), [Part::Field(Field::Attribute("service.name".into()))]);
        assert!(Template::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        for (text, wanted) in [
            ("{contaner}: {body}", "there is no field {contaner}; did you mean {container}?"),
            ("{message}", "there is no field {message}; write one of time, namespace,"),
            ("{} {body}", "there is no field {}; write one of"),
            ("{a b.c}", "there is no field {a b.c}"),
            ("{body", "`{body` is not closed"),
            ("body}", "`}` closes nothing; write }}"),
            ("{{body}}", "it names no field"),
            ("{body}\n", "a record is one line"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
