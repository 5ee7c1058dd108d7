//! Where reading begins in a file that is to be read from its end on.

use std::{collections::HashSet, fs::File, os::unix::fs::FileExt};

use super::{Map, Registry};
use crate::{
    config::Start,
    identity::{
        InodeKey, Look,
        holes::{self, RUN},
    },
};

/// Bytes looked at at once, and so many times at most.
const WINDOW: usize = 64 << 10;
const WINDOWS: usize = 256;

/// Ends before a run of NULs at the end of a file: a writer that allocates ahead puts its next line there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastLine {
    /// Of the last whole line.
    pub(super) end: u64,
    /// Of what is written behind that.
    pub(super) text: u64,
}

impl LastLine {
    /// Of a file's first `size` bytes.
    pub(super) fn of(file: &File, size: u64) -> Self {
        // Of a hole, however large, it tells at once.
        let size = holes::length(file, 0).unwrap_or(size).min(size);
        let mut bytes = vec![0; WINDOW];
        let mut end = size;
        for _ in 0..WINDOWS {
            let start = end.saturating_sub(WINDOW as u64);
            let window = &mut bytes[..(end - start) as usize];
            if file.read_exact_at(window, start).is_err() {
                return Self { end: 0, text: size };
            }
            let text = holes::text_len(window);
            let text = if window.len() - text < RUN { window.len() } else { text };
            if text > 0 || start == 0 {
                let newline = memchr::memrchr(b'\n', &window[..text]);
                let text = start + text as u64;
                return Self { end: newline.map_or(text, |at| start + at as u64 + 1), text };
            }
            end = start;
        }
        Self { end: size, text: size }
    }
}

/// Where files ended, in bytes, that had to wait at the first look: they are read from there.
#[derive(Default)]
pub(super) struct Ends(Map<InodeKey, u64>);

impl Ends {
    /// Files with these inodes are gone.
    pub(super) fn forget(&mut self, inodes: impl Iterator<Item = u64>) {
        if !self.0.is_empty() {
            let gone: HashSet<u64> = inodes.collect();
            self.0.retain(|key, _| !gone.contains(&key.inode));
        }
    }
}

impl Registry {
    /// Whether what is found now is read from its end on.
    pub(super) fn begins_at_end(&self) -> bool {
        self.scanning && self.setup.fresh && self.setup.start == Start::End
    }

    /// A file has to wait, for a place or for others of its source. Without a time of birth another one might be taken for it.
    pub(super) fn note_end(&mut self, look: &Look) {
        if self.begins_at_end() && look.key.born_ns != 0 {
            self.waiting.ends.0.insert(look.key, look.size);
        }
    }

    /// Where a file ended at the first look, if it is to be read from there.
    pub(super) fn take_end(&mut self, look: &Look) -> Option<u64> {
        let waited = self.waiting.ends.0.remove(&look.key);
        // A shorter one was written anew since.
        waited.filter(|end| *end <= look.size).or_else(|| self.begins_at_end().then_some(look.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_before_what_is_allocated_ahead() {
        let of = |parts: &[(u64, &[u8])], size| {
            let file = tempfile::tempfile().unwrap();
            for (at, bytes) in parts {
                file.write_all_at(bytes, *at).unwrap();
            }
            file.set_len(size).unwrap();
            let LastLine { end, text } = LastLine::of(&file, size);
            (end, text)
        };
        assert_eq!(of(&[(0, b"one\ntwo\n")], 8), (8, 8));
        assert_eq!(of(&[(0, b"one\nhalf")], 8), (4, 8));
        assert_eq!(of(&[(0, b"one\nhalf")], 1 << 40), (4, 8), "room in a hole");
        assert_eq!(of(&[(0, b"one\n"), (4, &[0; 200_000])], 200_004), (4, 4), "and of zeros");
        assert_eq!(of(&[(0, &[0; 200_000])], 200_000), (0, 0), "nothing is written yet");
        assert_eq!(of(&[(0, b"a\0\n\0")], 4), (3, 4), "halves of characters");
        assert_eq!(of(&[], 0), (0, 0));
    }
}
