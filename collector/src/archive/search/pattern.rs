//! Pattern: what a body must match, and a quick way to see that most lines cannot.
//!
//! A regular expression is matched against the unescaped body of a line. Before that whole
//! decompressed blocks are searched for a *part* of the expression that every match must contain and
//! whose characters stand in JSON as they are; only lines in which it is found are looked at
//! (`candidates`). Where JSON could hide such a character behind an escape (`\u0041`), the line is
//! looked at, too, so that never changes a result.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::candidates::{self, Candidates, Literal, stands_as_is};

/// Shortest part of a pattern that is worth looking for on its own, characters.
const WORTHWHILE: usize = 2;
/// Largest class that may be in such a part, characters.
const MAX_CLASS: usize = 64;

/// How a pattern is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// The pattern is the text itself.
    pub fixed: bool,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    part: Option<candidates::Part>,
}

impl Pattern {
    /// Compiles `text`. Errors are the regular expression's, meant for who wrote it.
    pub fn new(text: &str, options: Options) -> Result<Self, regex::Error> {
        let text = if options.fixed { regex::escape(text) } else { text.to_owned() };
        let regex = RegexBuilder::new(&text).case_insensitive(options.ignore_case).build()?;
        let hir = regex_syntax::ParserBuilder::new()
            .case_insensitive(options.ignore_case)
            .utf8(false)
            .build()
            .parse(&text);
        let part = hir.ok().and_then(|hir| part_of(&hir));
        Ok(Self { regex, part })
    }

    /// Whether a body matches.
    pub fn is_match(&self, body: &[u8]) -> bool {
        self.regex.is_match(body)
    }

    /// Where a body matches, from left to right.
    pub fn find_iter(&self, body: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.regex.find_iter(body).map(|found| found.range())
    }

    /// Places in a block that only lines with a match (and some others) contain. `None`: every
    /// line must be looked at.
    pub fn candidates<'a>(&'a self, block: &'a [u8]) -> Option<Candidates<'a>> {
        self.part.as_ref().map(|part| Candidates::new(part, block))
    }
}

/// What to look for in blocks, if there is anything.
fn part_of(hir: &Hir) -> Option<candidates::Part> {
    let part = required(hir).filter(|part| part.width >= WORTHWHILE)?;
    if let HirKind::Literal(literal) = part.hir.kind() {
        return Some(candidates::Part::Literal(Box::new(Literal::new(&literal.0))));
    }
    Regex::new(&part.hir.to_string()).ok().map(candidates::Part::Regex)
}

/// A part of an expression.
#[derive(Debug, Clone)]
struct Part {
    hir: Hir,
    /// Characters that its shortest match has.
    width: usize,
}

/// The longest part that every match contains and that stands in JSON as it is.
fn required(hir: &Hir) -> Option<Part> {
    if let Some(part) = exact(hir) {
        return Some(part);
    }
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Alternation(branches) => {
            let parts: Vec<Part> = branches.iter().map(required).collect::<Option<_>>()?;
            let width = parts.iter().map(|part| part.width).min()?;
            let hir = Hir::alternation(parts.into_iter().map(|part| part.hir).collect());
            Some(Part { hir, width })
        }
        HirKind::Concat(parts) => longest_run(parts),
        HirKind::Literal(_) => longest_run(std::slice::from_ref(hir)),
        _ => None,
    }
}

/// A part that can be looked for as it is, whole.
fn exact(hir: &Hir) -> Option<Part> {
    let width = match hir.kind() {
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            text.chars().all(stands_as_is).then(|| text.chars().count())?
        }
        HirKind::Class(Class::Unicode(class)) => {
            let mut size = 0;
            for range in class.ranges() {
                size += range.len();
                if size > MAX_CLASS || !(range.start()..=range.end()).all(stands_as_is) {
                    return None;
                }
            }
            1
        }
        HirKind::Capture(capture) => return exact(&capture.sub),
        HirKind::Concat(parts) => {
            let parts: Vec<Part> = parts.iter().map(exact).collect::<Option<_>>()?;
            return Some(join(parts));
        }
        _ => return None,
    };
    Some(Part { hir: hir.clone(), width })
}

/// The longest of a sequence's runs of exact parts, or of the parts within the others.
fn longest_run(parts: &[Hir]) -> Option<Part> {
    let mut best: Option<Part> = None;
    let mut consider = |part: Option<Part>| {
        if let Some(part) = part
            && best.as_ref().is_none_or(|best| best.width < part.width)
        {
            best = Some(part);
        }
    };
    let mut run = Vec::new();
    for hir in parts {
        if let Some(part) = exact(hir) {
            run.push(part);
        } else if let HirKind::Literal(literal) = hir.kind() {
            for character in String::from_utf8_lossy(&literal.0).chars() {
                if stands_as_is(character) {
                    let hir = Hir::literal(character.encode_utf8(&mut [0; 4]).as_bytes());
                    run.push(Part { hir, width: 1 });
                } else {
                    consider(Some(join(std::mem::take(&mut run))));
                }
            }
        } else {
            consider(Some(join(std::mem::take(&mut run))));
            consider(required(hir));
        }
    }
    consider(Some(join(run)));
    best
}

fn join(parts: Vec<Part>) -> Part {
    let width = parts.iter().map(|part| part.width).sum();
    Part { hir: Hir::concat(parts.into_iter().map(|part| part.hir).collect()), width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pattern: &str, ignore_case: bool) -> Option<String> {
        let hir = regex_syntax::ParserBuilder::new()
            .case_insensitive(ignore_case)
            .build()
            .parse(pattern)
            .unwrap();
        required(&hir).filter(|part| part.width >= WORTHWHILE).map(|part| part.hir.to_string())
    }

    #[test]
    fn the_longest_required_part_is_found() {
        let literal =
            |pattern| part(pattern, false).map(|part| part.replace("(?:", "").replace(')', ""));
        assert_eq!(literal("connection refused").as_deref(), Some("connection refused"));
        assert_eq!(literal("a.*refused").as_deref(), Some("refused"));
        assert_eq!(literal(r"^id=(abc)+x?").as_deref(), Some("id="));
        assert_eq!(literal(r#"path="/api/users""#).as_deref(), Some("path="));
        assert_eq!(literal("(foo|barn)+").as_deref(), Some("foo|barn"));
        assert_eq!(literal("foo|.*"), None);
        assert_eq!(literal("x*"), None);
        assert_eq!(literal(r"\n\t"), None);
        assert_eq!(literal("[ab]c").as_deref(), Some("[ab]c"));
        assert_eq!(part("Error", true).as_deref(), Some("(?:[Ee][Rr][Rr][Oo][Rr])"));
    }

    #[test]
    fn escaped_characters_are_candidates_unless_they_are_always_escaped() {
        let pattern = Pattern::new("needle", Options::default()).unwrap();
        let hits = |block: &[u8]| pattern.candidates(block).unwrap().next_from(0);
        assert_eq!(hits(b"nothing"), None);
        assert_eq!(hits(b"a needle"), Some(2));
        assert_eq!(hits(br"\u001b[31m \u003c \u2028 \ufffd"), None);
        assert_eq!(hits(br"\u001b \u006eeedle"), Some(7));
        assert_eq!(hits(br"\ud83d\ude00"), Some(0));
        assert_eq!(hits(br"\u00"), Some(0));
    }
}
