//! Candidates: where in a decompressed block a wanted line may stand, found without looking at lines.
//!
//! Every match contains a *part* of the pattern that JSON writes as it is. A candidate is a place where
//! the part begins, or an escape (`\u0041`) that may stand for a character of it. So lines without a
//! candidate cannot match, and nobody parses them.
//!
//! Beside decompression this is what a search spends its time on. For a literal both are looked for in
//! one pass where the processor has AVX2 (`avx2`), else in one pass each; both mean the same, which a
//! property test holds.

#[cfg(target_arch = "x86_64")]
mod avx2;

use memchr::memmem;
use regex::bytes::Regex;

use super::record::hex4;

/// What every match contains.
#[derive(Debug, Clone)]
pub enum Part {
    /// This text.
    Literal(Box<Literal>),
    /// A match of this.
    Regex(Regex),
}

/// A text to be found.
#[derive(Debug, Clone)]
pub struct Literal {
    finder: memmem::Finder<'static>,
    #[cfg(target_arch = "x86_64")]
    one_pass: Option<avx2::OnePass>,
}

impl Literal {
    /// Prepares to find `text`.
    pub fn new(text: &[u8]) -> Self {
        Self {
            finder: memmem::Finder::new(text).into_owned(),
            #[cfg(target_arch = "x86_64")]
            one_pass: avx2::OnePass::new(text),
        }
    }
}

impl Part {
    fn find(&self, block: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Literal(literal) => literal.finder.find(&block[from..]).map(|at| from + at),
            Self::Regex(regex) => regex.find_at(block, from).map(|found| found.start()),
        }
    }
}

/// The candidates of a block.
#[derive(Debug)]
pub enum Candidates<'a> {
    /// Parts and escapes in one pass.
    #[cfg(target_arch = "x86_64")]
    Together {
        /// Where they are looked for.
        block: &'a [u8],
        /// What looks for them.
        pass: &'a avx2::OnePass,
    },
    /// In one pass each.
    Apart(Apart<'a>),
}

impl<'a> Candidates<'a> {
    /// Those of `block`.
    pub fn new(part: &'a Part, block: &'a [u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Part::Literal(literal) = part
            && let Some(pass) = &literal.one_pass
        {
            return Self::Together { block, pass };
        }
        Self::Apart(Apart::new(part, block))
    }

    /// The first candidate at or behind `from`, which is in the block and must not descend from call
    /// to call.
    pub fn next_from(&mut self, from: usize) -> Option<usize> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Together { block, pass } => pass.next(block, from),
            Self::Apart(apart) => apart.next_from(from),
        }
    }
}

/// Finds parts and escapes in one pass each.
#[derive(Debug)]
pub struct Apart<'a> {
    block: &'a [u8],
    part: &'a Part,
    /// The last that was found of each.
    plain: Option<usize>,
    escape: Option<usize>,
}

impl<'a> Apart<'a> {
    fn new(part: &'a Part, block: &'a [u8]) -> Self {
        Self { block, part, plain: part.find(block, 0), escape: next_escape(block, 0) }
    }

    fn next_from(&mut self, from: usize) -> Option<usize> {
        if self.plain.is_some_and(|at| at < from) {
            self.plain = self.part.find(self.block, from);
        }
        if self.escape.is_some_and(|at| at < from) {
            self.escape = next_escape(self.block, from);
        }
        match (self.plain, self.escape) {
            (Some(plain), Some(escape)) => Some(plain.min(escape)),
            (plain, escape) => plain.or(escape),
        }
    }
}

/// The next escape that hides something.
fn next_escape(block: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memmem::find(&block[from..], b"\\u")?;
        if hides(&block[at + 2..]) {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Whether `\u` in front of `digits` may hide a character that a part takes to stand as it is.
fn hides(digits: &[u8]) -> bool {
    hex4(digits).is_none_or(|code| char::from_u32(code).is_none_or(stands_as_is))
}

/// Whether JSON encoders write a character as it is. Those that some of them escape (`<`, `&`, `/`)
/// are not among them, nor what a log could not hold without an escape.
pub(super) fn stands_as_is(character: char) -> bool {
    match character {
        '"' | '\\' | '/' | '<' | '>' | '&' | '\u{7f}' => false,
        '\u{2028}' | '\u{2029}' | char::REPLACEMENT_CHARACTER => false,
        _ => character >= ' ',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut candidates: Candidates<'_>, len: usize, step: usize) -> Vec<usize> {
        let (mut found, mut from) = (Vec::new(), 0);
        while from < len
            && let Some(at) = candidates.next_from(from)
        {
            found.push(at);
            from = at + step;
        }
        found
    }

    /// What both ways must come to.
    fn naive(text: &[u8], block: &[u8], step: usize) -> Vec<usize> {
        let (mut found, mut from) = (Vec::new(), 0);
        for at in 0..block.len() {
            let rest = &block[at..];
            let escape = rest.strip_prefix(b"\\u").is_some_and(hides);
            if at >= from && (rest.starts_with(text) || escape) {
                found.push(at);
                from = at + step;
            }
        }
        found
    }

    fn agree(text: &[u8], block: &[u8], step: usize) -> Result<(), TestCaseError> {
        let part = Part::Literal(Box::new(Literal::new(text)));
        let expected = naive(text, block, step);
        let apart = Candidates::Apart(Apart::new(&part, block));
        prop_assert_eq!(&all(apart, block.len(), step), &expected);
        prop_assert_eq!(&all(Candidates::new(&part, block), block.len(), step), &expected);
        Ok(())
    }

    proptest! {
        #[test]
        fn one_pass_and_one_each_find_what_a_naive_search_finds(
            text in "[abu\\\\0é]{1,70}",
            pieces in prop::collection::vec(
                prop_oneof![
                    4 => "[abu\\\\0é\n]{0,40}",
                    2 => "[x-z]{0,300}",
                    2 => "\\\\u00[0-9a-f]{2}",
                    1 => "\\\\u[0-9a-fx]{0,4}",
                    1 => Just("TEXT".to_owned()),
                ],
                0..30,
            ),
            step in 1_usize..50,
        ) {
            let block = pieces.concat().replace("TEXT", &text);
            agree(text.as_bytes(), block.as_bytes(), step)?;
        }
    }

    #[test]
    fn a_candidate_is_found_wherever_it_stands() {
        for text in ["ab", "session expired token", &"long ".repeat(12), &"longer ".repeat(12)] {
            for len in (text.len()..700).step_by(7) {
                for at in 0..=len - text.len() {
                    let mut block = vec![b'.'; len];
                    block[at..at + text.len()].copy_from_slice(text.as_bytes());
                    agree(text.as_bytes(), &block, 1).unwrap();
                }
                for at in 0..len {
                    // Cut off by the block's end, too.
                    let mut block = vec![b'.'; at];
                    block.extend_from_slice(b"\\u0041");
                    block.resize(len, b'.');
                    agree(text.as_bytes(), &block, 1).unwrap();
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_literal_of_usual_length_is_found_in_one_pass_with_avx2() {
        let together = |text: &str| {
            let part = Part::Literal(Box::new(Literal::new(text.as_bytes())));
            matches!(Candidates::new(&part, b""), Candidates::Together { .. })
        };
        let avx2 = std::arch::is_x86_feature_detected!("avx2");
        assert_eq!(together("connection refused"), avx2);
        assert_eq!(together("ab"), avx2);
        assert!(!together(&"x".repeat(300)));
    }
}
