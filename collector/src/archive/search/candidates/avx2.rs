//! A literal and `\u` in one pass, 32 bytes at a time. Unsafe only to load vectors and to call what the
//! processor was found to have.
//!
//! A place is looked at if two of the literal's bytes stand where they would have to if the literal began
//! there, or if `\u` does. Which two depends on what is searched: what every line has in common, as its
//! attributes, makes bytes frequent that are rare in other text. So the first block decides.
#![expect(unsafe_code, reason = "vector loads and calls of functions that need AVX2")]

use std::{
    arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    },
    sync::OnceLock,
};

use memchr::arch::all::packedpair::Pair;

use super::hides;

/// Longest literal, bytes: of a longer one too much could be compared in vain, place after place.
const LONGEST: usize = 64;
/// Bytes in a vector.
const VECTOR: usize = 32;
/// Places that are tested at once.
const GROUP: usize = 8 * VECTOR;
/// As much of a block as it is judged by.
const SAMPLE: usize = 64 << 10;

/// Looks for a literal and for `\u`. There is one only where the processor has AVX2.
#[derive(Debug, Clone)]
pub struct OnePass {
    literal: Box<[u8]>,
    /// Which two of its bytes are compared at every place, once a block was seen.
    pair: OnceLock<[usize; 2]>,
}

impl OnePass {
    /// For `literal`. None: this processor has no AVX2, or the literal's length is not for it.
    pub(super) fn new(literal: &[u8]) -> Option<Self> {
        let fits = (2..=LONGEST).contains(&literal.len());
        (fits && std::arch::is_x86_feature_detected!("avx2"))
            .then(|| Self { literal: literal.into(), pair: OnceLock::new() })
    }

    /// The first candidate at or behind `from`.
    #[inline]
    pub(super) fn next(&self, block: &[u8], from: usize) -> Option<usize> {
        // SAFETY: without AVX2 there would be no `self`.
        unsafe { self.next_avx2(block, from) }
    }

    #[target_feature(enable = "avx2")]
    fn next_avx2(&self, block: &[u8], from: usize) -> Option<usize> {
        let pair = *self.pair.get_or_init(|| rarest(&self.literal, block));
        let marks = Marks::new(&self.literal, pair);
        let mut at = from;
        while at + GROUP + marks.reach <= block.len() {
            let mut any = _mm256_setzero_si256();
            for offset in (0..GROUP).step_by(VECTOR) {
                any = _mm256_or_si256(any, marks.of(block, at + offset));
            }
            if _mm256_movemask_epi8(any) != 0
                && let Some(found) = self.first(&marks, block, at, GROUP)
            {
                return Some(found);
            }
            at += GROUP;
        }
        while at + VECTOR + marks.reach <= block.len() {
            if let Some(found) = self.first(&marks, block, at, VECTOR) {
                return Some(found);
            }
            at += VECTOR;
        }
        (at..block.len()).find(|at| self.is_candidate(block, *at))
    }

    /// The first candidate among the `count` places from `at` on, and at least `reach` bytes behind
    /// these. Seldom needed: it stays out of the loop's way.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn first(&self, marks: &Marks, block: &[u8], at: usize, count: usize) -> Option<usize> {
        for vector in (at..at + count).step_by(VECTOR) {
            let mut marked = _mm256_movemask_epi8(marks.of(block, vector)) as u32;
            while marked != 0 {
                let place = vector + marked.trailing_zeros() as usize;
                if self.is_candidate(block, place) {
                    return Some(place);
                }
                marked &= marked - 1;
            }
        }
        None
    }

    fn is_candidate(&self, block: &[u8], at: usize) -> bool {
        let rest = &block[at..];
        rest.starts_with(&self.literal) || rest.strip_prefix(b"\\u").is_some_and(hides)
    }
}

/// Which two bytes of a literal stand together most seldom in a block, so far from each other: the one
/// that is rarest and another. Where the block does not tell, those that are rarest in usual text.
fn rarest(literal: &[u8], block: &[u8]) -> [usize; 2] {
    let usual = Pair::new(literal).map(|pair| [pair.index1(), pair.index2()].map(usize::from));
    let [one, other] = usual.unwrap_or([0, 1]);
    let sample = &block[..block.len().min(SAMPLE)];
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let count = |index: usize| counts[usize::from(literal[index])];
    let first =
        (0..literal.len()).min_by_key(|index| (count(*index), *index != one)).unwrap_or(one);
    let mut together = [0_u32; LONGEST];
    for at in memchr::memchr_iter(literal[first], sample) {
        let begin = at.checked_sub(first);
        let Some(place) = begin.and_then(|begin| sample.get(begin..begin + literal.len())) else {
            continue;
        };
        for ((together, wanted), byte) in together.iter_mut().zip(literal).zip(place) {
            *together += u32::from(wanted == byte);
        }
    }
    let others = (0..literal.len()).filter(|index| *index != first);
    let seldom =
        |index: &usize| (together[*index], count(*index), *index != one && *index != other);
    [first, others.min_by_key(seldom).unwrap_or(other)]
}

/// Marks places.
struct Marks {
    bytes: [__m256i; 2],
    offsets: [usize; 2],
    /// How many bytes from a place on may be looked at.
    reach: usize,
    backslash: __m256i,
    letter: __m256i,
}

impl Marks {
    #[target_feature(enable = "avx2")]
    fn new(literal: &[u8], pair: [usize; 2]) -> Self {
        let [first, second] = pair.map(|index| literal[index] as i8);
        Self {
            bytes: [_mm256_set1_epi8(first), _mm256_set1_epi8(second)],
            offsets: pair,
            reach: literal.len(),
            backslash: _mm256_set1_epi8(b'\\' as i8),
            letter: _mm256_set1_epi8(b'u' as i8),
        }
    }

    /// The 32 places from `at` on, each all ones if it is to be looked at. `block` goes on for at
    /// least `reach` bytes behind them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, block: &[u8], at: usize) -> __m256i {
        debug_assert!(at + VECTOR + self.reach <= block.len(), "all loads are in the block");
        let [first, second] = self.offsets;
        let load = |from: usize| {
            // SAFETY: `from` is less than `reach` behind `at`, and every caller has seen that the block
            // goes on for `reach` bytes behind the vector at `at`. Loads need no alignment.
            unsafe { _mm256_loadu_si256(block.as_ptr().add(from).cast()) }
        };
        let literal = _mm256_and_si256(
            _mm256_cmpeq_epi8(load(at + first), self.bytes[0]),
            _mm256_cmpeq_epi8(load(at + second), self.bytes[1]),
        );
        let escape = _mm256_and_si256(
            _mm256_cmpeq_epi8(load(at), self.backslash),
            _mm256_cmpeq_epi8(load(at + 1), self.letter),
        );
        _mm256_or_si256(literal, escape)
    }
}
