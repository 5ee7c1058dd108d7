//! Globs, compiled in one way: by who checks them and by who looks for files.

use globset::{Glob, GlobBuilder, GlobSetBuilder};

/// Longer ones are no patterns of paths, and compile to more than anybody has room for.
const MOST_BYTES: usize = 1_000;

/// Compiles one glob; `*` stays within one directory, `**` does not. An error says what is wrong.
pub fn compile(text: &str) -> Result<Glob, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    let glob = glob.map_err(|error| error.kind().to_string())?;
    // What it compiles to may be too large.
    let whole = GlobSetBuilder::new().add(glob.clone()).build();
    whole.map_err(|error| error.kind().to_string())?;
    Ok(glob)
}

/// Why no path that is ever compared can match this glob, if it is plain.
pub fn never_matches(text: &str) -> Option<&'static str> {
    let begins = text.starts_with(['/', '{', '[', '\\']) || text.starts_with("**");
    if !begins {
        return Some("it is not absolute");
    }
    if text.ends_with('/') {
        return Some("it names a directory, not files");
    }
    if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return Some("paths are compared without `//`, `.` and `..`");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_before_it_is_used() {
        assert!(compile("/var/log/**/*.{log,txt}").is_ok());
        for text in ["", "a[b", "a{b", "/a\0", &"?".repeat(2_000), &"{a,b}".repeat(300)] {
            assert!(compile(text).is_err(), "{text}");
        }
    }
}
