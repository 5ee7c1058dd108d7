//! The findings for people.

use std::fmt::Write as _;

use super::{Report, Status};
use crate::{
    cli::table::{Layout, table},
    shown,
};

/// Details shown to people; JSON has all.
const SHOWN: usize = 10;

/// Everything found; `files`: also how each file would be watched.
pub(super) fn text(report: &Report, files: bool, color: bool) -> String {
    let mut text = String::new();
    let width = report.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    for finding in &report.findings {
        let status = format!("{:<7}", finding.status.name());
        let status = if color { painted(&status, finding.status) } else { status };
        let (name, found) = (&finding.name, shown::text(&finding.found));
        let _infallible = writeln!(text, "{status}  {name:<width$}  {found}");
        let indent = " ".repeat(width + 11);
        for detail in finding.details.iter().take(SHOWN) {
            let _infallible = writeln!(text, "{indent}- {}", shown::text(detail));
        }
        if finding.details.len() > SHOWN {
            let more = finding.details.len() - SHOWN;
            let _infallible = writeln!(text, "{indent}… and {more} more (-o json lists all).");
        }
        if let Some(advice) = &finding.advice {
            let _infallible = writeln!(text, "{indent}→ {}", shown::text(advice));
        }
    }
    if files {
        let rows: Vec<_> = report
            .files
            .iter()
            .map(|file| {
                let path = file.path.to_string_lossy().into_owned();
                vec![file.mode.name().to_owned(), file.filesystem.clone(), path]
            })
            .collect();
        // A path here is for copying: whole, in one line.
        let layout =
            Layout { head: &["WATCHED BY", "FILESYSTEM", "FILE"], right: &[], width: None };
        text = text + "\n" + &table(layout, &rows);
    }
    text.push('\n');
    text += &verdict(report);
    text
}

fn verdict(report: &Report) -> String {
    let notes = report.findings.iter().filter(|it| it.status == Status::Note).count();
    let notes = if notes == 1 { "1 note".to_owned() } else { format!("{notes} notes") };
    match report.problems {
        0 => format!("No problem, {notes}.\n"),
        1 => format!("1 PROBLEM, {notes}.\n"),
        problems => format!("{problems} PROBLEMS, {notes}.\n"),
    }
}

fn painted(text: &str, status: Status) -> String {
    let color = match status {
        Status::Ok => "32",
        Status::Note => "33",
        Status::Problem => "1;31",
    };
    format!("\x1b[{color}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::doctor::{Finding, WatchedFile},
        watch::Mode,
    };

    fn report() -> Report {
        let details = (0..12).map(|n| format!("detail {n}")).collect();
        let findings = vec![
            Finding::ok("fine", "It is."),
            Finding::note("so.so", "It could be\u{1b}[2J better.", "Nothing needs doing."),
            Finding::problem("bad", "It is not.", "Mend it.").with(details),
        ];
        let path = "/var/log/a\nb.log".into();
        let files =
            vec![WatchedFile { path, mode: Mode::Kernel, filesystem: "ext4".into(), magic: 0 }];
        Report { version: "0.1.0", problems: 1, findings, hooks: Vec::new(), files }
    }

    #[test]
    fn findings_line_up_and_say_what_to_do() {
        insta::assert_snapshot!(text(&report(), true, false), @r"
        ok       fine   It is.
        note     so.so  It could be\x1b[2J better.
                        → Nothing needs doing.
        problem  bad    It is not.
                        - detail 0
                        - detail 1
                        - detail 2
                        - detail 3
                        - detail 4
                        - detail 5
                        - detail 6
                        - detail 7
                        - detail 8
                        - detail 9
                        … and 2 more (-o json lists all).
                        → Mend it.

        WATCHED BY  FILESYSTEM  FILE
        kernel      ext4        /var/log/a\nb.log

        1 PROBLEM, 1 note.
        ");
    }

    #[test]
    fn json_is_one_object_with_stable_words() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["problems"], 1);
        assert_eq!(json["findings"][0]["status"], "ok");
        assert_eq!(json["findings"][0].get("advice"), None);
        assert_eq!(json["findings"][2]["status"], "problem");
        assert_eq!(json["findings"][2]["details"].as_array().unwrap().len(), 12);
        assert_eq!(
            json["files"][0],
            serde_json::json!({"path": "/var/log/a\nb.log", "filesystem": "ext4", "mode": "kernel"})
        );
    }

    #[test]
    fn only_the_status_is_coloured() {
        let colored = text(&report(), false, true);
        assert!(colored.contains("\x1b[1;31mproblem\x1b[0m  bad"), "{colored:?}");
        assert!(!text(&report(), true, false).contains('\x1b'));
    }
}
