//! Text in columns, for people.
//!
//! What stands in a cell may come from a tenant (a pod's name, a path): control characters are
//! escaped.

use std::fmt::Write as _;

use crate::shown;

/// A column that is narrower than this tells nothing.
const NARROWEST: usize = 12;
const GAP: usize = 2;

/// What a table's columns are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    /// The headings.
    pub head: &'a [&'a str],
    /// Those of columns that are set to the right. They keep their width, the others give way.
    pub right: &'a [&'a str],
    /// How many characters a line may have. The last column is wrapped, of others the middle is left out.
    pub width: Option<usize>,
}

/// Lays `rows` out under their headings. Columns are as wide as their widest cell, if a line has room.
pub(super) fn table(layout: Layout<'_>, rows: &[Vec<String>]) -> String {
    let Layout { head, right, width } = layout;
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown::text(cell)).collect()).collect();
    let mut widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            widest.unwrap_or(0).max(head.len())
        })
        .collect();
    let gives_way: Vec<bool> = head.iter().map(|head| !right.contains(head)).collect();
    if let Some(width) = width {
        fit(&mut widths, &gives_way, width);
    }
    let head_row: Vec<String> = head.iter().map(|head| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head_row).chain(&rows) {
        let mut cells: Vec<Vec<String>> = Vec::new();
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len() && gives_way[column];
            cells.push(match last {
                true => wrapped(cell, widths[column]),
                false => vec![shortened(cell, widths[column])],
            });
        }
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..lines {
            let mut shown = String::new();
            for ((cell, width), gives_way) in cells.iter().zip(&widths).zip(&gives_way) {
                let cell = cell.get(line).map_or("", String::as_str);
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + GAP);
                let (before, after) =
                    if *gives_way { ("", &*padding) } else { (&padding[GAP..], &padding[..GAP]) };
                let _infallible = write!(shown, "{before}{cell}{after}");
            }
            text.push_str(shown.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Takes from the widest column that gives way until a line has room, but from none all.
fn fit(widths: &mut [usize], gives_way: &[bool], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let columns = widths.iter_mut().zip(gives_way).filter(|(_, gives_way)| **gives_way);
        let widest = columns.map(|(column, _)| column).max();
        match widest.filter(|column| **column > NARROWEST) {
            Some(column) => *column -= 1,
            None => return,
        }
    }
}

/// Without its middle, if it is too long: both ends of a path tell most.
fn shortened(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (start, end) = (kept / 2, kept - kept / 2);
    let chars = text.chars();
    chars.clone().take(start).chain(['…']).chain(chars.skip(count - end)).collect()
}

/// In lines, broken between words where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !line.is_empty() && line.chars().count() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width.max(1) {
            let rest = word.split_off(width.max(1));
            lines.push(std::mem::replace(&mut word, rest).into_iter().collect());
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    lines.push(line);
    lines
}

/// `1536` as `1.5 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as `0.4s`, `12s`, `3m10s`, `2h05m`.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_do_nothing() {
        let rows =
            [vec!["a\u{1b}[2Jb".to_owned(), "1".to_owned()], vec!["c".to_owned(), "22".to_owned()]];
        let layout = Layout { head: &["NAME", "N"], right: &["N"], width: None };
        let text = table(layout, &rows);
        assert_eq!(text, "NAME        N\na\\x1b[2Jb   1\nc          22\n");
    }

    #[test]
    fn a_line_that_is_too_long_loses_the_middle_of_a_name_or_is_wrapped() {
        let path =
            "/var/log/pods/shop_web-0_0d7e4e7e-41f6-4f3f-9d0b-1c2d3e4f5a6b/app/0.log".to_owned();
        let rows =
            [vec![path.clone(), "1.5 KiB".into(), "503 Service Unavailable: \"try later\"".into()]];
        let layout =
            |width| Layout { head: &["FILE", "UNREAD", "ERROR"], right: &["UNREAD"], width };
        for width in [60, 80, 100] {
            let text = table(layout(Some(width)), &rows);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            assert!(text.contains("/var/") && text.contains("/0.log") && text.contains("1.5 KiB"));
            let words: Vec<&str> = text.split_whitespace().collect();
            for word in ["503", "Service", "Unavailable:", "later\""] {
                assert!(words.contains(&word), "{text}");
            }
        }
        assert!(table(layout(None), &rows).contains(&path));
        // Where there is no room at all, what is there is still shown.
        assert!(table(layout(Some(5)), &rows).contains("1.5 KiB"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_in_wrapping(text in "[a-z ]{0,60}", width in 1_usize..30) {
            let lines = wrapped(&text, width);
            proptest::prop_assert!(lines.iter().all(|line| line.chars().count() <= width.max(1)));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            proptest::prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

        #[test]
        fn what_is_shortened_has_the_width_and_both_ends(text in "\\PC{0,60}", width in 3_usize..30) {
            let short = shortened(&text, width);
            proptest::prop_assert_eq!(short.chars().count(), text.chars().count().min(width));
            proptest::prop_assert_eq!(short.chars().next(), text.chars().next());
            proptest::prop_assert_eq!(short.chars().last(), text.chars().last());
        }
    }

    #[test]
    fn numbers_are_for_people() {
        let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "16384.0 PiB"]
        );
        assert_eq!([0.42, 12.0, 190.0, 7_500.0].map(age), ["0.4s", "12s", "3m10s", "2h05m"]);
    }
}
