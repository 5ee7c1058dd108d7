//! Text in columns, for people.
//!
//! What stands in a cell may come from a tenant (a pod's name, a path): control characters are
//! escaped.

use std::fmt::Write as _;

/// Lays `rows` out under `head`. Columns are as wide as their widest cell; those whose heading is
/// in `right` are set to the right.
pub fn table(head: &[&str], right: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            widest.unwrap_or(0).max(head.len())
        })
        .collect();
    let head_row: Vec<String> = head.iter().map(|head| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head_row).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), head) in row.iter().zip(&widths).zip(head) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if right.contains(head) {
                (padding, String::new())
            } else {
                (String::new(), padding)
            };
            let _infallible = write!(line, "{before}{cell}{after}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text with its control characters written out.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// `1536` as `1.5 KiB`.
pub fn bytes(bytes: u64) -> String {
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
pub fn age(seconds: f64) -> String {
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
        let text = table(&["NAME", "N"], &["N"], &rows);
        assert_eq!(text, "NAME          N\na\\u{1b}[2Jb   1\nc            22\n");
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
