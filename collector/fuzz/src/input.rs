//! How a target reads its input: a line of choices, then the content.
//!
//! A choice is one byte, `a` for the first, so that a seed can be read and written by hand. What is missing is
//! the first choice; any bytes at all are some choices and some content.

/// An input, of which choices are taken one after the other.
#[derive(Debug)]
pub struct Input<'a> {
    choices: std::slice::Iter<'a, u8>,
    /// What follows the first newline.
    pub content: &'a [u8],
}

impl<'a> Input<'a> {
    /// Takes an input apart.
    pub fn new(data: &'a [u8]) -> Self {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let content = data.get(end + 1..).unwrap_or_default();
        Self { choices: data[..end].iter(), content }
    }

    /// The next choice, one of so many.
    pub fn choice(&mut self, of: usize) -> usize {
        self.choices.next().map_or(0, |byte| usize::from(byte.wrapping_sub(b'a')) % of)
    }

    /// The next choice, of 256.
    pub fn byte(&mut self) -> u8 {
        self.choices.next().map_or(0, |byte| byte.wrapping_sub(b'a'))
    }

    /// A place in something so long, of two choices.
    pub fn place(&mut self, length: usize) -> usize {
        let place = usize::from(self.byte()) << 8 | usize::from(self.byte());
        place % length.max(1)
    }

    /// Sizes of chunks, at least 1; what is left of the choices.
    pub fn sizes(&mut self) -> Vec<usize> {
        let sizes: Vec<usize> =
            self.choices.by_ref().map(|byte| usize::from(*byte).max(1)).collect();
        if sizes.is_empty() { vec![1] } else { sizes }
    }
}
