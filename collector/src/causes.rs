//! Causes: an error and what is behind it as one sentence, nothing said twice.
//!
//! Many errors name their cause in their own text *and* as their source. Whoever prints the chain as it
//! stands says "No space left on device" two or three times.

use std::error::Error;

/// The error and its causes, from the outside in. A cause that the text has already is left out.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !said.is_empty() && !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::archive::search;

    #[test]
    fn a_cause_is_said_once_wherever_it_stands() {
        let full = || io::Error::from_raw_os_error(28);
        let read = search::Error::Read { path: "/a".into(), source: full() };
        let once = "could not read the archive /a: No space left on device (os error 28)";
        assert_eq!(told(&read), once);
        let wrapped = anyhow::Error::new(read).context("Searching");
        assert_eq!(told(wrapped.as_ref()), format!("Searching: {once}"));
        let inside = io::Error::other(io::Error::other(full()));
        assert_eq!(told(&inside), "No space left on device (os error 28)");
        let apart = anyhow::Error::new(full()).context("Reading").context("Starting");
        assert_eq!(told(apart.as_ref()), format!("Starting: Reading: {}", full()));
    }
}
