//! The search for a literal's end, 32 bytes at a time. Unsafe only to load vectors and to call what
//! the processor was found to have.
#![expect(unsafe_code, reason = "vector loads and calls of functions that need AVX2")]

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_set1_epi8,
};

use super::{Extent, escape_len, portable};

/// The extent; the outer None: this processor has no AVX2.
#[inline]
#[expect(clippy::option_option, reason = "the outer one says whether the inner one is known")]
pub(super) fn extent(text: &[u8]) -> Option<Option<Extent>> {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: AVX2 was found just above.
    Some(unsafe { extent_avx2(text) })
}

#[target_feature(enable = "avx2")]
fn extent_avx2(text: &[u8]) -> Option<Extent> {
    let quote = _mm256_set1_epi8(b'"' as i8);
    let backslash = _mm256_set1_epi8(b'\\' as i8);
    let last_control = _mm256_set1_epi8(0x1f);
    let mut at = 0;
    let mut ascii = true;
    'blocks: while let Some(block) = text.get(at..at + 32) {
        // SAFETY: `block` is 32 bytes, and the load needs no alignment.
        let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast::<__m256i>()) };
        let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, last_control), bytes);
        let marks =
            _mm256_or_si256(_mm256_cmpeq_epi8(bytes, quote), _mm256_cmpeq_epi8(bytes, backslash));
        let mut special = _mm256_movemask_epi8(_mm256_or_si256(marks, controls)) as u32;
        let high = _mm256_movemask_epi8(bytes) as u32;
        while special != 0 {
            let place = special.trailing_zeros() as usize;
            match block[place] {
                b'"' => {
                    // Only what stands before the quote belongs to the literal.
                    ascii &= high & ((1 << place) - 1) == 0;
                    return Some(Extent { len: at + place, ascii });
                }
                b'\\' => {
                    let next = place + escape_len(&text[at + place..])?;
                    if next >= 32 {
                        // Escapes are ASCII, so nothing high is skipped beyond this block.
                        ascii &= high == 0;
                        at += next;
                        continue 'blocks;
                    }
                    special &= u32::MAX << next;
                }
                _ => return None,
            }
        }
        ascii &= high == 0;
        at += 32;
    }
    portable::extent(text, at, ascii)
}
