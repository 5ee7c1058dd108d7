//! A glob of absolute paths, taken apart so that a tree can be walked for it: the directory it
//! begins in, and which directories below can hold matches. Touches no file system.

use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::discover::{DiscoverError, filter};

/// `**` is followed so deep below the pattern's first directory.
const DEEPEST: usize = 16;

/// Where logs cannot be, and walking does harm.
const NEVER: [&str; 3] = ["/proc", "/sys", "/dev"];

/// See the module.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The longest literal beginning: a directory, as the host calls it.
    pub(crate) base: PathBuf,
    whole: GlobMatcher,
    /// One for every directory between base and file; then `**` or the like, if `endless`.
    between: Vec<GlobMatcher>,
    endless: bool,
}

impl Pattern {
    /// Compiles a pattern that stands under `key` in the configuration.
    pub(crate) fn new(key: &str, pattern: &str) -> Result<Self, DiscoverError> {
        if !pattern.starts_with('/') {
            let (key, pattern) = (key.to_owned(), pattern.to_owned());
            return Err(DiscoverError::Relative { key, pattern });
        }
        let whole = filter::glob(key, pattern)?.compile_matcher();
        let mut parts = parts(pattern);
        // The last one names files.
        parts.pop();
        let literal = parts.iter().take_while(|part| is_literal(part)).count();
        let base = parts[..literal].iter().fold(PathBuf::from("/"), |base, part| base.join(part));
        let (mut between, mut endless) = (Vec::new(), false);
        for part in &parts[literal..] {
            // Braces that hold a slash span an unknown number of directories, like `**`.
            if part.contains("**") || part.contains('/') {
                endless = true;
                break;
            }
            between.push(filter::glob(key, part)?.compile_matcher());
        }
        // Braces in the file's part may do so too.
        endless |= pattern_tail_spans(pattern);
        Ok(Self { base, whole, between, endless })
    }

    /// Whether a file is meant.
    pub(crate) fn is_match(&self, path: &Path) -> bool {
        self.whole.is_match(path)
    }

    /// Whether its first wildcard stands for the name of a directory: such directories are, as a rule, different
    /// owners'.
    pub(super) fn sets_apart(&self) -> bool {
        !self.between.is_empty()
    }

    /// Whether a directory, so called below the base, can hold matches at some depth.
    pub(crate) fn leads_through(&self, below: &Path) -> bool {
        if NEVER.iter().any(|never| self.base.join(below) == Path::new(never)) {
            return false;
        }
        let mut depth = 0;
        for (at, part) in below.iter().enumerate() {
            match self.between.get(at) {
                Some(glob) if glob.is_match(part) => {}
                None if self.endless => {}
                _ => return false,
            }
            depth = at + 1;
        }
        depth <= DEEPEST
    }
}

/// Splits at slashes, but not within braces or brackets.
fn parts(pattern: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut braces, mut escaped) = (Vec::new(), 0, 0_usize, false);
    // Within brackets: whether a bracket may end them. The first character is one of theirs whatever it is, and
    // a backslash is no escape there.
    let mut class = None;
    for (at, c) in pattern.char_indices() {
        match c {
            ']' if class == Some(true) => class = None,
            '!' | '^' if class == Some(false) && pattern[..at].ends_with('[') => {}
            _ if class.is_some() => class = Some(true),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = Some(false),
            '{' => braces += 1,
            '}' => braces = braces.saturating_sub(1),
            '/' if braces == 0 => {
                parts.push(&pattern[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[begin..]);
    parts.retain(|part| !part.is_empty());
    if pattern.ends_with('/') {
        parts.push("");
    }
    parts
}

fn is_literal(part: &str) -> bool {
    !part.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn pattern_tail_spans(pattern: &str) -> bool {
    parts(pattern).last().is_some_and(|last| last.contains('/') || last.contains("**"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new("sources.files[0].paths", text).unwrap()
    }

    #[track_caller]
    fn leads(text: &str, below: &str) -> bool {
        pattern(text).leads_through(Path::new(below))
    }

    #[test]
    fn the_base_is_the_literal_beginning() {
        for (text, base) in [
            ("/var/log/app.log", "/var/log"),
            ("/var/log/*.log", "/var/log"),
            ("/srv/*/logs/*.log", "/srv"),
            ("/var/log/**/*.log", "/var/log"),
            ("/*.log", "/"),
            ("/var/{log,tmp}/x", "/var"),
        ] {
            assert_eq!(pattern(text).base, Path::new(base), "{text}");
        }
    }

    #[test]
    fn a_wildcard_for_a_directory_sets_it_apart_from_others() {
        for (text, apart) in [
            ("/srv/*/logs/*.log", true),
            ("/srv/app-?/x.log", true),
            ("/var/lib/kubelet/pods/*/volumes/**/*.log", true),
            ("/var/log/*.log", false),
            ("/var/log/**/*.log", false),
            ("/var/{log,tmp/x}/y.log", false),
        ] {
            assert_eq!(pattern(text).sets_apart(), apart, "{text}");
        }
    }

    #[test]
    fn only_directories_that_can_hold_matches_are_walked() {
        assert!(leads("/srv/*/logs/*.log", "") && leads("/srv/*/logs/*.log", "a"));
        assert!(leads("/srv/*/logs/*.log", "a/logs"));
        assert!(!leads("/srv/*/logs/*.log", "a/data"));
        assert!(!leads("/srv/*/logs/*.log", "a/logs/deeper"));
        assert!(!leads("/var/log/*.log", "sub"));
        assert!(leads("/var/log/**/*.log", "a/b/c"));
        assert!(leads("/var/log/{a,b/c}/*.log", "b/c"));
        assert!(leads("/var/log/{a.log,b/c.log}", "b"));
        assert!(!leads("/**/*.log", "proc") && leads("/**/*.log", "srv"));
        assert!(leads("/var/**", "a/b"));
        let deep = ["d"; DEEPEST].join("/");
        assert!(leads("/var/**/*.log", &deep) && !leads("/var/**/*.log", &format!("{deep}/d")));
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        let is_match = |text: &str, path: &str| pattern(text).is_match(Path::new(path));
        assert!(is_match("/var/log/*.log", "/var/log/a.log"));
        assert!(!is_match("/var/log/*.log", "/var/log/sub/a.log"));
        assert!(is_match("/var/log/**/*.log", "/var/log/a.log"));
        assert!(is_match("/var/log/**/*.log", "/var/log/x/y/a.log"));
    }

    /// What is within brackets parts no names, and the same brackets end here as where the whole is compiled.
    #[test]
    fn a_bracket_that_begins_a_class_is_in_it() {
        for (text, base) in [
            ("/v[!]r/.a/[!.]*", "/"),
            ("/a/[]/b]/c*", "/a"),
            ("/a/[^]/]/x", "/a"),
            ("/a/[!!]/b/*.log", "/a"),
            ("/a/[\\]/b/*.log", "/a"),
            ("/a/b/[[]x/*.log", "/a/b"),
        ] {
            assert!(crate::config::glob::compile(text).is_ok(), "{text}");
            assert_eq!(pattern(text).base, Path::new(base), "{text}");
        }
        assert!(leads("/a/[\\]/b/*.log", "\\/b") && !leads("/a/[\\]/b/*.log", "x/b"));
    }

    #[test]
    fn broken_and_relative_patterns_are_refused() {
        for text in ["logs/*.log", "", "/a[b/x", "/a{b"] {
            let error = Pattern::new("sources.files[0].paths", text).unwrap_err().to_string();
            assert!(error.starts_with("`sources.files[0].paths`: `"), "{error}");
        }
    }

    proptest::proptest! {
        /// Whatever the configuration passes compiles here, part by part too.
        #[test]
        fn what_the_configuration_passes_compiles(text in "/([a-z.*?{},/!\\[\\]\\\\-]|\\*\\*){0,24}") {
            if crate::config::glob::compile(&text).is_ok() {
                let compiled = Pattern::new("k", &text).map(drop);
                proptest::prop_assert!(compiled.is_ok(), "{}: {:?}", text, compiled);
            }
        }
    }
}
