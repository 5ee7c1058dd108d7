//! Plain files: one message a line. Knows no timestamps, no streams and nothing that does not parse.
//! In another encoding than UTF-8 the joiner is never idle, so such lines take the slower way.

use memchr::memchr;

use super::{
    Limits, Step,
    encoded::Conversion,
    join::{End, Joiner, Line, Opening, Part},
    nuls,
};
use crate::{
    config::Charset,
    identity::FileId,
    record::{Body, Marks, Origin, Record, Stream},
};

/// Decodes a plain file.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) joiner: Joiner,
    /// None: UTF-8.
    pub(super) conversion: Option<Box<Conversion>>,
}

impl Plain {
    pub(super) fn new(limits: Limits) -> Self {
        Self { joiner: Joiner::new(limits), conversion: None }
    }

    /// Of files that are in `setting` where they do not say otherwise, in one that is in `charset`.
    pub(super) fn within(limits: Limits, setting: Charset, charset: Charset) -> Self {
        if (setting, charset) == (Charset::UTF_8, Charset::UTF_8) {
            return Self::new(limits);
        }
        let conversion = Some(Box::new(Conversion::new(setting, charset)));
        Self { joiner: Joiner::encoded(limits, charset), conversion }
    }

    /// The encoding of files that do not say otherwise, and of this one.
    pub(super) fn charsets(&self) -> (Charset, Charset) {
        let both = self.conversion.as_ref().map(|of| (of.setting, of.charset));
        both.unwrap_or_default()
    }

    /// The oldest unfinished message, ended by force.
    pub(super) fn flush(&mut self) -> Option<Record<'_>> {
        let record = self.joiner.flush()?;
        Some(match &mut self.conversion {
            None => record,
            Some(conversion) => conversion.of_record(record),
        })
    }

    /// Gives back memory that only later messages would use.
    pub(super) fn give_back(&mut self) {
        self.joiner.give_back();
        if let Some(conversion) = &mut self.conversion {
            conversion.give_back();
        }
    }

    #[inline]
    pub(super) fn next<'a>(&'a mut self, file: FileId, offset: u64, input: &'a [u8]) -> Step<'a> {
        if self.joiner.is_idle() && input.first() != Some(&0) {
            let window = &input[..input.len().min(self.joiner.bound() + 1)];
            if let Some(len) = memchr(b'\n', window) {
                let record = Record {
                    origin: Origin { file, offset },
                    timestamp: None,
                    stream: Stream::None,
                    body: Body::Raw(&input[..len]),
                    marks: Marks::default(),
                };
                return Step::Record { record, consumed: len + 1 };
            }
        }
        self.step(file, offset, input, End::Open)
    }

    #[cold]
    pub(super) fn step<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        let Self { joiner, conversion } = self;
        joiner.settle();
        if joiner.inside().is_none()
            && let Some(step) = nuls::skip(input, nuls::PLAIN, end)
        {
            return match conversion {
                None => step,
                Some(conversion) => conversion.of_nuls(step, offset, input, end),
            };
        }
        let origin = Origin { file, offset };
        let whole = Part {
            stream: Stream::None,
            last: true,
            opening: Opening { origin, timestamp: None, unparsed: false },
        };
        let part = joiner.inside().unwrap_or(whole);
        let step = joiner.take(part, Line { file, offset, header: 0, rest: input, end });
        match conversion {
            None => step,
            Some(conversion) => conversion.of_step(step),
        }
    }
}
