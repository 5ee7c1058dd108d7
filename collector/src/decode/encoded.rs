//! Plain files in another encoding than UTF-8. Lines are found in the file's bytes, so that offsets and
//! bounds are those of the file; what is handed on is UTF-8. A sequence that stands for no character
//! becomes U+FFFD.

use encoding_rs::Encoding;

use super::{
    Body, Limits, Record, Step, Stream,
    join::{End, Joiner, Line, Opening, Part},
    nuls,
};
use crate::{config::Charset, decode::Origin, read::identity::FileId};

/// Decodes a plain file in one encoding.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) joiner: Joiner,
    /// What files are in that do not say otherwise.
    pub(super) setting: Charset,
    /// What this file is in.
    pub(super) charset: Charset,
    /// The last record's body.
    text: String,
}

impl Encoded {
    pub(super) fn new(limits: Limits, setting: Charset) -> Self {
        Self { joiner: Joiner::of(limits, setting), setting, charset: setting, text: String::new() }
    }

    /// The same for a file in `charset`.
    pub(super) fn within(limits: Limits, setting: Charset, charset: Charset) -> Self {
        Self { joiner: Joiner::of(limits, charset), charset, ..Self::new(limits, setting) }
    }

    pub(super) fn next<'a>(&'a mut self, file: FileId, offset: u64, input: &'a [u8]) -> Step<'a> {
        self.step(file, offset, input, End::Open)
    }

    pub(super) fn step<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        let Self { joiner, charset, text, .. } = self;
        joiner.settle();
        if joiner.inside().is_none()
            && let Some(step) = nuls::skip(input, nuls::PLAIN, end)
        {
            return whole_units(step, (*charset, offset), input, end);
        }
        let origin = Origin { file, offset };
        let whole = Part {
            stream: Stream::None,
            last: true,
            opening: Opening { origin, timestamp: None, unparsed: false },
        };
        let part = joiner.inside().unwrap_or(whole);
        match joiner.take(part, Line { file, offset, header: 0, rest: input, end }) {
            Step::Record { record, consumed } => {
                Step::Record { record: converted(record, *charset, text), consumed }
            }
            step => step,
        }
    }

    /// The oldest unfinished message, ended by force.
    pub(super) fn flush(&mut self) -> Option<Record<'_>> {
        let Self { joiner, charset, text, .. } = self;
        Some(converted(joiner.flush()?, *charset, text))
    }

    /// Gives back memory that only later messages would use.
    pub(super) fn give_back(&mut self) {
        self.joiner.give_back();
        self.text = String::new();
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.text.capacity()
    }
}

/// NULs are skipped as far as they are whole code units: the first half of a character may be one.
fn whole_units<'a>(
    step: Step<'a>,
    (charset, offset): (Charset, u64),
    input: &[u8],
    end: End,
) -> Step<'a> {
    match step {
        Step::Skipped(len) if charset.is_wide() && !(end == End::File && len == input.len()) => {
            Step::Skipped(len - ((offset + len as u64) % 2) as usize)
        }
        step => step,
    }
}

/// The record with its body in UTF-8, which is written into `text`.
fn converted<'a>(record: Record<'a>, charset: Charset, text: &'a mut String) -> Record<'a> {
    let Body::Raw(bytes) = record.body else { return record };
    let encoding = charset.encoding();
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
    let mut decoder = encoding.new_decoder_without_bom_handling();
    // Three bytes for each of the file's are enough in any encoding.
    let most = decoder.max_utf8_buffer_length(bytes.len());
    text.reserve(most.unwrap_or(bytes.len().saturating_mul(3)));
    let (_complete, _read, _replaced) = decoder.decode_to_string(bytes, text, true);
    Record { body: Body::Raw(text.as_bytes()), ..record }
}

/// A buffer up to this size is kept for the next message.
const KEPT: usize = 64 << 10;
