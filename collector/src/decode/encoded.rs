//! Plain files in another encoding than UTF-8. Lines are found in the file's bytes, so that offsets and
//! bounds are those of the file; what is handed on is UTF-8. A sequence that stands for no character
//! becomes U+FFFD.

use encoding_rs::Encoding;

use super::{Step, join::End};
use crate::{
    config::Charset,
    record::{Body, Record},
};

/// Makes UTF-8 of records' bodies.
#[derive(Debug)]
pub(super) struct Conversion {
    /// What files are in that do not say otherwise.
    pub(super) setting: Charset,
    /// What this file is in.
    pub(super) charset: Charset,
    /// The last record's body.
    text: String,
}

impl Conversion {
    pub(super) fn new(setting: Charset, charset: Charset) -> Self {
        Self { setting, charset, text: String::new() }
    }

    /// The step with its record's body in UTF-8.
    pub(super) fn of_step<'a>(&'a mut self, step: Step<'a>) -> Step<'a> {
        match step {
            Step::Record { record, consumed } => {
                Step::Record { record: self.of_record(record), consumed }
            }
            step => step,
        }
    }

    /// The record with its body in UTF-8.
    pub(super) fn of_record<'a>(&'a mut self, record: Record<'a>) -> Record<'a> {
        let Body::Raw(bytes) = record.body else { return record };
        let (charset, text) = (self.charset, &mut self.text);
        if charset == Charset::UTF_8
            || !charset.is_wide() && Encoding::ascii_valid_up_to(bytes) == bytes.len()
        {
            return record;
        }
        text.clear();
        text.shrink_to(KEPT);
        // What begins in the middle of a code unit: its other half was in what came before.
        let half = usize::from(charset.is_wide() && record.origin.offset % 2 == 1);
        let (half, bytes) = bytes.split_at(half.min(bytes.len()));
        if !half.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        let mut decoder = charset.encoding().new_decoder_without_bom_handling();
        // Three bytes for each of the file's are enough in any encoding.
        let most = decoder.max_utf8_buffer_length(bytes.len());
        text.reserve(most.unwrap_or(bytes.len().saturating_mul(3)));
        let (_complete, _read, _replaced) = decoder.decode_to_string(bytes, text, true);
        Record { body: Body::Raw(text.as_bytes()), ..record }
    }

    /// NULs are skipped as far as they are whole code units: the first half of a character may be one.
    pub(super) fn of_nuls<'a>(
        &self,
        step: Step<'a>,
        offset: u64,
        input: &[u8],
        end: End,
    ) -> Step<'a> {
        match step {
            Step::Skipped(len)
                if self.charset.is_wide() && !(end == End::File && len == input.len()) =>
            {
                Step::Skipped(len - ((offset + len as u64) % 2) as usize)
            }
            step => step,
        }
    }

    /// Gives back memory that only later messages would use.
    pub(super) fn give_back(&mut self) {
        self.text = String::new();
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.text.capacity()
    }
}

/// A buffer up to this size is kept for the next message.
const KEPT: usize = 64 << 10;
