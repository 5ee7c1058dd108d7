//! Globs of paths: against a naive matcher, name by name, and whether the walk for a pattern's files comes to
//! every file that the pattern means.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use collector::{config::glob, fuzzing::Pattern};
use globset::GlobSet;

/// Directories below a pattern's beginning that are walked.
const DEEPEST: usize = 16;
/// Alternatives that the naive matcher tries.
const MOST: usize = 64;

/// Content: a pattern, a newline, a path. No choices: the pattern takes their line.
pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    let path = path(data.get(end + 1..).unwrap_or_default());
    let compiled = glob::compile(text);
    let pattern = Pattern::new(text);
    assert_eq!(compiled.is_ok() && text.starts_with('/'), pattern.is_some(), "{text}");
    let (Ok(compiled), Some(pattern)) = (compiled, pattern) else { return };
    let is_match = pattern.is_match(&path);
    let set = GlobSet::new([compiled]).expect("one glob is a set");
    assert_eq!(set.is_match(&path), is_match, "{text} and {path:?}: the set says something else");
    let Some((wanted, exact)) = naive(text, &path) else { return };
    assert!(is_match == wanted || is_match && !exact, "{text} and {path:?}: {is_match}");
    if wanted {
        is_found(&pattern, text, &path);
    }
}

/// The walk begins above the file, and goes through every directory down to it.
fn is_found(pattern: &Pattern, text: &str, path: &Path) {
    let directory = path.parent().expect("an absolute path");
    let never = ["/proc", "/sys", "/dev"].iter().any(|never| path.starts_with(never));
    let Ok(below) = directory.strip_prefix(pattern.base()) else {
        panic!("{text} means {path:?}, and the walk begins in {:?}", pattern.base());
    };
    if never || below.iter().count() > DEEPEST {
        return;
    }
    let mut passed = PathBuf::new();
    assert!(pattern.leads_through(&passed), "{text} means {path:?}");
    for name in below {
        passed.push(name);
        assert!(pattern.leads_through(&passed), "{text} means {path:?}, {passed:?} is left out");
    }
}

/// An absolute path without `//`, `.` and `..`, of at least one name.
fn path(bytes: &[u8]) -> PathBuf {
    let names = bytes.split(|byte| *byte == b'/');
    let names = names.filter(|name| !matches!(*name, b"" | b"." | b".."));
    let mut path = PathBuf::from("/");
    names.for_each(|name| path.push(OsStr::from_bytes(name)));
    if path == Path::new("/") {
        path.push("file");
    }
    path
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
    Slash,
    /// `**` for whole names.
    Deep,
}

/// Whether the path matches, and whether that is sure where it does not. None: this matcher does not know the
/// pattern.
fn naive(pattern: &str, path: &Path) -> Option<(bool, bool)> {
    let mut reader = Reader { bytes: pattern.as_bytes(), at: 0, exact: true };
    let alternatives = reader.sequence(false)?;
    let names: Vec<&[u8]> = path.iter().skip(1).map(OsStrExt::as_bytes).collect();
    let matches = |tokens: &Vec<Token>| {
        let parts: Vec<&[Token]> = tokens.split(|token| *token == Token::Slash).collect();
        parts[0].is_empty() && parts_match(&parts[1..], &names)
    };
    Some((alternatives.iter().any(matches), reader.exact))
}

fn parts_match(parts: &[&[Token]], names: &[&[u8]]) -> bool {
    match parts {
        [] => names.is_empty(),
        [[Token::Deep]] => !names.is_empty(),
        [[Token::Deep], rest @ ..] => (0..=names.len()).any(|at| parts_match(rest, &names[at..])),
        [part, rest @ ..] => names
            .split_first()
            .is_some_and(|(name, names)| name_matches(part, name) && parts_match(rest, names)),
    }
}

fn name_matches(part: &[Token], name: &[u8]) -> bool {
    let Some((token, rest)) = part.split_first() else { return name.is_empty() };
    if *token == Token::Star {
        return (0..=name.len()).any(|at| name_matches(rest, &name[at..]));
    }
    let Some((byte, name)) = name.split_first() else { return false };
    let fits = match token {
        Token::Byte(wanted) => byte == wanted,
        Token::Any => true,
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(from, to)| (from..=to).contains(&byte)) != *negated
        }
        Token::Star | Token::Slash | Token::Deep => false,
    };
    fits && name_matches(rest, name)
}

/// Reads a pattern, braces expanded. None, here and below: it is left to others.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// No class may mean a slash, which parts names here and not there.
    exact: bool,
}

impl Reader<'_> {
    /// All alternatives of what stands here, up to the brace's end or comma.
    fn sequence(&mut self, inside: bool) -> Option<Vec<Vec<Token>>> {
        let mut all = vec![Vec::new()];
        while let Some(&byte) = self.bytes.get(self.at) {
            if inside && matches!(byte, b',' | b'}') {
                break;
            }
            self.at += 1;
            let token = match byte {
                b'?' => Token::Any,
                b'*' => self.star(inside)?,
                b'[' => self.class()?,
                b'\\' => Token::Byte(self.escaped()?),
                b'/' if inside => return None,
                b'/' => Token::Slash,
                b'{' => {
                    let branches = self.branches()?;
                    if !branches.is_empty() {
                        let with = |head: &Vec<Token>| {
                            let head = head.clone();
                            branches.iter().map(move |tail| [&head[..], &tail[..]].concat())
                        };
                        all = all.iter().flat_map(with).collect();
                    }
                    if all.len() > MOST {
                        return None;
                    }
                    continue;
                }
                byte => Token::Byte(byte),
            };
            all.iter_mut().for_each(|tokens| tokens.push(token.clone()));
        }
        Some(all)
    }

    /// Those between braces; an empty one stands for nothing.
    fn branches(&mut self) -> Option<Vec<Vec<Token>>> {
        let mut all = Vec::new();
        loop {
            let branch = self.sequence(true)?;
            if branch != [Vec::new()] {
                all.extend(branch);
            }
            self.at += 1;
            if *self.bytes.get(self.at - 1)? == b'}' {
                return Some(all);
            }
        }
    }

    fn star(&mut self, inside: bool) -> Option<Token> {
        if self.bytes.get(self.at) != Some(&b'*') {
            return Some(Token::Star);
        }
        if inside {
            return None;
        }
        let before = self.at.checked_sub(2).map(|at| self.bytes[at]);
        let whole =
            before == Some(b'/') && matches!(self.bytes.get(self.at + 1), None | Some(b'/'));
        self.at += usize::from(whole);
        Some(if whole { Token::Deep } else { Token::Star })
    }

    /// An escaped slash parts names, and does not look like it.
    fn escaped(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().filter(|byte| *byte != b'/')
    }

    /// Of ASCII only.
    fn class(&mut self) -> Option<Token> {
        let negated = matches!(self.bytes.get(self.at), Some(b'!' | b'^'));
        self.at += usize::from(negated);
        let begin = self.at;
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        let mut open = false;
        loop {
            let byte = *self.bytes.get(self.at)?;
            let first = self.at == begin;
            self.at += 1;
            match byte {
                b']' if !first => break,
                b'-' if !first && !open => open = true,
                _ if open => {
                    ranges.last_mut()?.1 = byte;
                    open = false;
                }
                _ => ranges.push((byte, byte)),
            }
        }
        if open {
            ranges.push((b'-', b'-'));
        }
        let slash = ranges.iter().any(|(from, to)| (from..=to).contains(&&b'/'));
        self.exact &= slash == negated;
        let ascii = ranges.iter().all(|(from, to)| from.is_ascii() && to.is_ascii());
        ascii.then_some(Token::Class { negated, ranges })
    }
}
