//! What is wrong with a configuration, where, and what to do about it.
//!
//! Only says; finding is the business of `tree` (YAML), `typed` (shape) and `check` (meaning).

use std::{fmt, io, path::PathBuf, sync::LazyLock};

use regex::Regex;

/// A place in the configuration's text, counted from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// Characters to underline; at least 1.
    pub length: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; None: the whole text.
    pub at: Option<At>,
    /// What is wrong, a clause.
    pub what: String,
    /// What to do, a clause.
    pub todo: String,
}

impl Problem {
    /// A problem of the whole text, until it is told where it is.
    pub fn new(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { at: None, what: what.into(), todo: todo.into() }
    }

    /// The same problem, at a place.
    #[must_use]
    pub fn at(mut self, at: At) -> Self {
        self.at = Some(at);
        self
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error(
        "Could not read the configuration {}: {cause}; create it, make it readable, or start \
         without a configuration file to use the defaults.", path.display()
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// It was read and is wrong.
    #[error("{0}")]
    Invalid(Report),
}

/// Everything that is wrong with one text, in the order of its lines.
#[derive(Debug)]
pub struct Report {
    name: String,
    text: String,
    problems: Vec<Problem>,
}

impl Report {
    /// `name` is what the text is called in messages: its path as given.
    pub fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at.map(|at| (at.line, at.column)));
        Self { name: name.to_owned(), text: text.to_owned(), problems }
    }

    /// The problems, in the order of the text's lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let Problem { at, what, todo } = problem;
            // It may quote a value.
            let what = masked(what);
            match at {
                None => write!(f, "{}: {what}; {todo}", self.name)?,
                Some(at) => {
                    writeln!(f, "{}:{}:{}: {what}; {todo}", self.name, at.line, at.column)?;
                    write_snippet(f, &self.text, *at)?;
                }
            }
        }
        Ok(())
    }
}

/// A line in which what may be a secret is covered, character by character: the user and password of a URL,
/// and what follows a key that is called like one. Errors end up in logs.
fn masked(line: &str) -> String {
    static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let word =
            "passw|secret|token|authorization|cookie|api[-_]?key|access[-_]?key|credential|bearer";
        let pattern = format!(
            r#"(?i)://(?P<user>[^\s/@]*@)|(?P<key>[\w-]*(?:{word})[\w-]*)["']?\s*[:=]\s*(?P<value>[^,}}\]&`]+)"#
        );
        Regex::new(&pattern).ok()
    });
    let Some(secrets) = &*SECRETS else { return String::new() };
    let mut shown = String::with_capacity(line.len());
    let mut end = 0;
    for found in secrets.captures_iter(line) {
        let names_a_file = found.name("key").is_some_and(|key| key.as_str().ends_with("_file"));
        let secret = found.name("user").or_else(|| found.name("value").filter(|_| !names_a_file));
        if let Some(secret) = secret {
            shown.push_str(&line[end..secret.start()]);
            shown.extend(secret.as_str().chars().map(|_| '*'));
            end = secret.end();
        }
    }
    shown.push_str(&line[end..]);
    shown
}

/// The longest part of a line that a snippet shows, characters.
const SNIPPET_WIDTH: usize = 120;

fn write_snippet(f: &mut fmt::Formatter<'_>, text: &str, at: At) -> fmt::Result {
    let source = text.lines().nth(at.line - 1).unwrap_or_default();
    // The text may come from anywhere: what it holds must not steer the terminal.
    let source = masked(source);
    let shown: String =
        source.chars().take(SNIPPET_WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let gutter = " ".repeat(at.line.to_string().len());
    writeln!(f, " {gutter} |")?;
    writeln!(f, " {} | {}", at.line, shown.trim_end())?;
    let indent = (at.column - 1).min(SNIPPET_WIDTH);
    let length = at.length.clamp(1, shown.chars().count().saturating_sub(indent).max(1));
    write!(f, " {gutter} | {}{}", " ".repeat(indent), "^".repeat(length))
}
