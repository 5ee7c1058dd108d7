//! What may be sent to a terminal beside text.
//!
//! `NO_COLOR` (<https://no-color.org>) and a terminal that understands no control sequences (`TERM=dumb`, or
//! none named) are heeded wherever something is coloured or drawn anew.

use std::{env, io::IsTerminal, os::fd::AsFd};

/// Whether text on this stream may be coloured.
pub fn colors(stream: &impl IsTerminal) -> bool {
    understands_sequences(stream) && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether this stream is a terminal that understands control sequences.
pub fn understands_sequences(stream: &impl IsTerminal) -> bool {
    let named = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    stream.is_terminal() && named
}

/// How many characters a line of this stream may have: what COLUMNS says, else the terminal's width. `None`:
/// any number, for who reads a pipe cuts it as he likes.
pub fn width(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let said = env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(stream).ok()?;
        stream.is_terminal().then_some(usize::from(size.ws_col))
    };
    said.or_else(asked).filter(|width| *width > 0)
}
