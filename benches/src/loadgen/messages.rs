//! Tagged messages of one writer, before any runtime has framed them.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::hostile::{self, Hostile};
use crate::{
    corpus::Corpus,
    framing::Format,
    tag::{Stream, Tag, Writer, seal},
};

/// One writer's endless messages: what a container's processes print.
#[derive(Debug)]
pub struct Messages {
    writer: Writer,
    corpus: Corpus,
    pub(super) rng: Pcg64Mcg,
    numbers: [u64; 3],
}

impl Messages {
    /// The messages of `writer`, following from `seed`.
    pub fn new(writer: Writer, seed: u64) -> Self {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(writer.0);
        Self {
            writer,
            corpus: Corpus::new(seed),
            rng: Pcg64Mcg::seed_from_u64(!seed),
            numbers: [0; 3],
        }
    }

    /// Replaces `out` by the next message of `stream`.
    pub fn next(&mut self, stream: Stream, out: &mut Vec<u8>) {
        out.clear();
        let (_, place) = self.corpus.append(out);
        self.seal(stream, place, out);
    }

    /// Messages per stream so far.
    pub fn counts(&self) -> [u64; 3] {
        self.numbers
    }

    /// Standard error in `per_mille` of 1,000 cases, else standard output.
    pub fn stream(&mut self, per_mille: u32) -> Stream {
        if self.chance(per_mille) { Stream::Stderr } else { Stream::Stdout }
    }

    /// True in `per_mille` of 1,000 cases.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.random_range(0..1000) < per_mille
    }

    /// Replaces `out` by a hostile message of `stream` (or of no stream).
    pub(super) fn hostile(&mut self, format: Format, out: &mut Vec<u8>) -> Hostile {
        let kind = hostile::pick(&mut self.rng, format);
        out.clear();
        let (_, place) = self.corpus.append(out);
        let place = hostile::disfigure(kind, out, place);
        match kind {
            Hostile::Empty => {}
            Hostile::Bare => self.seal(Stream::Bare, place, out),
            _ => {
                let stream = Stream::Stdout;
                self.seal(stream, place, out);
            }
        }
        kind
    }

    fn seal(&mut self, stream: Stream, place: usize, out: &mut Vec<u8>) {
        let number = self.numbers[stream.index()];
        self.numbers[stream.index()] += 1;
        seal(out, 0, place, Tag { writer: self.writer, stream, number });
    }
}
