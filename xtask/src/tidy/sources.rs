//! House rules of files: an opening paragraph, a bound on size, no stray blanks, no path of
//! somebody's machine.

use std::path::Path;

use super::Files;

/// Lines of a source file before its tests.
const LINES_MAX: usize = 400;
/// The same of a file that is excepted.
const LINES_MAX_EXCEPTED: usize = 700;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[("collector/src/watch/watch_conformance.rs", "nothing but tests")];

/// Directories that exist on somebody's machine only. Split, or this file would break its own law.
const FOREIGN: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/."), concat!("/ho", "me/")];

pub(super) fn check(files: &Files, breaches: &mut Vec<String>) {
    for (path, text) in &files.0 {
        check_text(path, text, breaches);
    }
    for (path, text) in files.rust() {
        check_rust(path, text, breaches);
    }
}

fn check_text(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let path_text = path.to_string_lossy();
    // Snapshots and recorded failures are written by tools; seeds are bytes that happen to be text.
    if path_text.ends_with(".snap")
        || path_text.contains("proptest-regressions")
        || path_text.contains("fuzz/corpus/")
    {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{path_text}:{}", index + 1);
        if line.ends_with([' ', '\t']) {
            breaches.push(format!("{}: blanks at the end of the line", place()));
        }
        if let Some(foreign) = FOREIGN.iter().find(|foreign| line.contains(**foreign)) {
            breaches.push(format!("{}: `{foreign}` is a path of one machine", place()));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        breaches.push(format!("{path_text}: no newline at the end"));
    }
}

fn check_rust(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") && !first.starts_with("/*!") {
        let path = path.display();
        breaches.push(format!("{path}: does not open with what it is for (`//!`)"));
    }
    let name = path.to_string_lossy();
    if name.contains("tests/") || name.ends_with("tests.rs") {
        return;
    }
    let lines: Vec<_> = text.lines().collect();
    // Tests that follow, not those that are declared to be in a file of their own.
    let is_tests = |pair: &[&str]| {
        pair[0].starts_with("#[cfg(test)]") && pair[1].contains("mod ") && pair[1].ends_with('{')
    };
    let code = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    let excepted = LONG.iter().any(|(long, _)| *long == name);
    let most = if excepted { LINES_MAX_EXCEPTED } else { LINES_MAX };
    if code > most {
        breaches.push(format!("{name}: {code} lines before its tests, more than {most}"));
    } else if excepted && code <= LINES_MAX {
        breaches.push(format!("{name}: not long any more; take it out of the table of long files"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::breaches;

    #[test]
    fn each_house_rule_is_enforced() {
        let long = |lines: usize| format!("//! Long.\n{}", "fn f() {}\n".repeat(lines - 1));
        let (fits, long, longer) = (long(400), long(401), long(701));
        let tested = format!("//! Fine.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(800));
        let apart = format!("//! Long.\n#[cfg(test)]\nmod tests;\n{}", "fn f() {}\n".repeat(398));
        let foreign = format!("cd {}x\n", super::FOREIGN[0]);
        let found = breaches(&[
            ("fine.rs", "//! Fine.\n"),
            ("tested.rs", &tested),
            ("silent.rs", "fn f() {}\n"),
            ("fits.rs", &fits),
            ("long.rs", &long),
            ("apart.rs", &apart),
            (super::LONG[0].0, &long),
            ("blank.md", "text \n"),
            ("open.md", "text"),
            ("foreign.sh", &foreign),
            ("fuzz/corpus/cri/seed", "open "),
        ]);
        let expected = [
            "blank.md:1",
            "foreign.sh:1",
            "open.md: no newline",
            "long.rs: 401",
            "apart.rs: 401",
            "silent.rs: does",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for start in expected {
            assert!(found.iter().any(|breach| breach.starts_with(start)), "{start} in {found:?}");
        }
        // One that is excepted may be longer, within a bound, and only as long as it is.
        let excepted = super::LONG[0].0;
        for (text, wrong) in [(&longer, "701 lines"), (&fits, "not long any more")] {
            let found = breaches(&[(excepted, text)]);
            let [breach] = &found[..] else { panic!("{found:?}") };
            assert!(breach.starts_with(&format!("{excepted}: {wrong}")), "{breach}");
        }
    }
}
