//! Why a value is refused: what serde says, in words that tell what to write instead.

use std::fmt;

use serde::de::{self, Unexpected};

use crate::config::problem::At;

/// Why a value was refused.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) what: String,
    pub(super) todo: String,
    pub(super) at: Option<At>,
    /// The innermost entry or item that can be left out to read on.
    pub(super) refused: Option<(At, Part)>,
    /// True if it only follows from an error reported before.
    pub(super) follows: bool,
}

/// What stands at a place; a mapping in a list begins where its first key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Item,
}

impl Error {
    pub(super) fn new(what: String, todo: String) -> Self {
        Self { what, todo, at: None, refused: None, follows: false }
    }

    /// Sets the place and what to leave out, unless a deeper level has done so.
    pub(super) fn within(mut self, at: At, entry: (At, Part)) -> Self {
        self.at.get_or_insert(at);
        self.refused.get_or_insert(entry);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.todo)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // The schema's own types say what to do after a semicolon.
        let message = message.to_string();
        match message.split_once("; ") {
            Some((what, todo)) => Self::new(what.to_owned(), todo.to_owned()),
            None => Self::new(message, "see `everyline config default`".to_owned()),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`"), suggest(field, expected, "keys here"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{variant}`"), suggest(variant, expected, "choices"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(
            format!("the key `{field}` is missing"),
            "add it (`everyline config default` shows every key)".to_owned(),
        )
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {unexpected}"), "correct it".to_owned())
    }
}

/// The known word that `word` was most likely meant to be.
pub(in crate::config) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&word, name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The choice that is plainly meant: upper and lower case are the same, and so are `-` and `_`.
pub(super) fn meant<'a>(word: &'a str, known: &'static [&'static str]) -> &'a str {
    let alike = |choice: &&&str| choice.eq_ignore_ascii_case(&word.replace('_', "-"));
    known.iter().find(alike).copied().unwrap_or(word)
}

fn suggest(word: &str, known: &[&str], what: &str) -> String {
    match nearest(word, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{what}: {}", known.join(", ")),
    }
}
