//! The metadata of the sources that are being read, encoded.
//!
//! Made when a source is read and forgotten when many others were read since: made anew in about a
//! microsecond, and of thousands of sources few write at a time.

use std::collections::{HashMap, VecDeque};

use super::tail::TailId;
use crate::{
    batch::{Framing, encode::SourceEncoding},
    source::Source,
};

/// How many are kept: as many as a usual node has containers for each reader.
const KEPT: usize = 128;

/// One reader's. Sinks of equal framing share one.
#[derive(Default)]
pub(super) struct Encodings {
    made: HashMap<(TailId, Framing), SourceEncoding, foldhash::fast::RandomState>,
    /// The keys of those that are made, oldest first.
    order: VecDeque<(TailId, Framing)>,
}

impl Encodings {
    /// The encoding of a tail's source.
    pub(super) fn of(
        &mut self,
        tail: TailId,
        source: &Source,
        framing: Framing,
    ) -> &SourceEncoding {
        let key = (tail, framing);
        if !self.made.contains_key(&key) {
            if self.order.len() == KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.made.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.made.entry(key).or_insert_with(|| SourceEncoding::new(source, framing))
    }

    /// A tail's source is another one from here on.
    pub(super) fn forget(&mut self, tail: TailId) {
        self.made.retain(|(made, _), _| *made != tail);
        self.order.retain(|(made, _)| *made != tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Format;

    #[test]
    fn as_many_as_are_read_at_a_time_are_kept() {
        let source = Source::anonymous("/var/log/a.log", Format::Plain);
        let mut encodings = Encodings::default();
        for round in 0..3 {
            for number in 0..2 * KEPT as u64 {
                for framing in [Framing::Lines, Framing::Array] {
                    let encoding = encodings.of(TailId(number), &source, framing);
                    assert_eq!(encoding, &SourceEncoding::new(&source, framing), "{round}");
                }
            }
            assert_eq!((encodings.made.len(), encodings.order.len()), (KEPT, KEPT));
        }
        encodings.forget(TailId(2 * KEPT as u64 - 2));
        assert_eq!((encodings.made.len(), encodings.order.len()), (KEPT - 2, KEPT - 2));
        let newest = (TailId(2 * KEPT as u64 - 1), Framing::Array);
        let address = std::ptr::from_ref(&encodings.made[&newest]);
        assert_eq!(address, std::ptr::from_ref(encodings.of(newest.0, &source, newest.1)));
    }
}
