//! Plain files: one message a line. Knows no timestamps, no streams and nothing that does not parse.

use memchr::memchr;

use super::{
    Body, Limits, Marks, Origin, Record, Step, Stream,
    join::{End, Joiner, Line, Opening, Part},
    nuls,
};
use crate::read::identity::FileId;

/// Decodes a plain file.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) joiner: Joiner,
}

impl Plain {
    pub(super) fn new(limits: Limits) -> Self {
        Self { joiner: Joiner::new(limits) }
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
        self.joiner.settle();
        if self.joiner.inside().is_none()
            && let Some(step) = nuls::skip(input, nuls::PLAIN, end)
        {
            return step;
        }
        let origin = Origin { file, offset };
        let whole = Part {
            stream: Stream::None,
            last: true,
            opening: Opening { origin, timestamp: None, unparsed: false },
        };
        let part = self.joiner.inside().unwrap_or(whole);
        self.joiner.take(part, Line { file, offset, header: 0, rest: input, end })
    }
}
