//! NULs before a line: a power cut leaves them where a file had grown and its data was not written
//! yet. They are skipped, and the line behind them is read as if it began there. (Long runs, anywhere,
//! are the reader's affair: `read::zeros`.)

use super::{Step, join::End};

/// In a format that has no line beginning with one, any NUL there is skipped.
pub(super) const FORMATTED: usize = 1;
/// In plain text, fewer may be text: UTF-16 and UTF-32 have up to three in a row.
pub(super) const PLAIN: usize = 16;
/// So many can be skipped before it is known where they end.
const MANY: usize = 512;

/// What to do with the NULs that `input`, the start of a line, begins with: nothing if there are none,
/// or fewer than `least`. Never skips so much of a run whose end is not to be seen that the rest is
/// less than `least`: wherever reading starts anew, the rest is skipped too.
#[inline]
pub(super) fn skip(input: &[u8], least: usize, end: End) -> Option<Step<'static>> {
    if input.first() != Some(&0) {
        return None;
    }
    match input.iter().position(|byte| *byte != 0) {
        Some(len) => (len >= least).then_some(Step::Skipped(len)),
        None if end == End::File => (input.len() >= least).then_some(Step::Skipped(input.len())),
        None if input.len() < MANY => Some(Step::NeedMore),
        None => Some(Step::Skipped(input.len() - least)),
    }
}
