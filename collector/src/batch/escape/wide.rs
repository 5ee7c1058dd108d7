//! Escaping 32 bytes at a time on x86-64. Unsafe only to load and store vectors and to call what the
//! processor was found to have.
//!
//! With AVX-512 VBMI2 a block costs the same however many escapes it has: every byte is widened to a
//! pair of backslash and byte, and the backslashes that are not wanted are squeezed out. With AVX2
//! the block is stored once for every escape in it, each time shifted by one. Control characters
//! without a letter (`\u001b`) are rare enough to be appended one by one.
#![expect(unsafe_code, reason = "vector loads and stores into a vector's spare room")]

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
    _mm256_cmpeq_epi8_mask, _mm256_cmplt_epu8_mask, _mm256_loadu_si256, _mm256_mask_shuffle_epi8,
    _mm256_maskz_loadu_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_movepi8_mask,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_storeu_si256, _mm512_cvtepu8_epi16,
    _mm512_maskz_compress_epi8, _mm512_or_si512, _mm512_set1_epi16, _mm512_slli_epi16,
    _mm512_storeu_si512, _pdep_u64,
};

use super::{LETTERS, append_escape};

/// Appends `bytes`, escaped. True if they are all ASCII. None (and nothing done): this processor
/// has neither.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Option<bool> {
    append_with_avx512(out, bytes).or_else(|| append_with_avx2(out, bytes))
}

/// [`append`] with AVX-512 VBMI2 only.
#[inline]
pub(super) fn append_with_avx512(out: &mut Vec<u8>, bytes: &[u8]) -> Option<bool> {
    let found = std::arch::is_x86_feature_detected!("avx512vbmi2")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("popcnt");
    // SAFETY: everything that the function enables was found just above.
    found.then(|| unsafe { avx512(out, bytes) })
}

/// [`append`] with AVX2 only.
#[inline]
pub(super) fn append_with_avx2(out: &mut Vec<u8>, bytes: &[u8]) -> Option<bool> {
    // SAFETY: AVX2 was found.
    std::arch::is_x86_feature_detected!("avx2").then(|| unsafe { avx2(out, bytes) })
}

#[target_feature(enable = "avx512vbmi2,avx512vl,avx512bw,bmi2,popcnt")]
fn avx512(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    // SAFETY: LETTERS is 256 bytes.
    let letters = unsafe { _mm_loadu_si128(LETTERS.as_ptr().cast()) };
    let letters = _mm256_broadcastsi128_si256(letters);
    let quote = _mm256_set1_epi8(b'"' as i8);
    let backslash = _mm256_set1_epi8(b'\\' as i8);
    let space = _mm256_set1_epi8(b' ' as i8);
    let backslashes = _mm512_set1_epi16(i16::from(b'\\'));
    let mut high = 0;
    let mut at = 0;
    out.reserve(bytes.len() * 2 + SLACK);
    let mut len = out.len();
    while at < bytes.len() {
        let left = bytes.len() - at;
        let present = if left >= 32 { u32::MAX } else { (1 << left) - 1 };
        // SAFETY: lanes that are not present are not read; the others are bytes[at..at + left].
        let block = unsafe { _mm256_maskz_loadu_epi8(present, bytes.as_ptr().add(at).cast()) };
        let controls = _mm256_cmplt_epu8_mask(block, space) & present;
        let mut escapes = controls
            | _mm256_cmpeq_epi8_mask(block, quote)
            | _mm256_cmpeq_epi8_mask(block, backslash);
        let mut taken = left.min(32);
        let mut lettered = block;
        let mut odd = None;
        if controls != 0 {
            odd = first_without_letter(&bytes[at..at + taken], controls);
            // The letters of 0x00..=0x0f; what is left of the higher ones is never stored.
            lettered = _mm256_mask_shuffle_epi8(block, controls, letters, block);
            if let Some(place) = odd {
                taken = place;
                escapes &= (1 << place) - 1;
            }
        }
        high |= _mm256_movepi8_mask(block);
        // Little-endian pairs: the low byte, the backslash, comes first.
        let pairs =
            _mm512_or_si512(_mm512_slli_epi16::<8>(_mm512_cvtepu8_epi16(lettered)), backslashes);
        let wanted = _pdep_u64(u64::from(escapes), 0x5555_5555_5555_5555) | 0xAAAA_AAAA_AAAA_AAAA;
        let squeezed = _mm512_maskz_compress_epi8(wanted, pairs);
        // SAFETY: room for 64 more bytes than twice what is left was reserved, and `len` has grown
        // by at most twice what was taken; the first `taken` + escapes bytes are meant.
        unsafe {
            _mm512_storeu_si512(out.as_mut_ptr().add(len).cast(), squeezed);
            len += taken + escapes.count_ones() as usize;
            out.set_len(len);
        }
        at += taken;
        if odd.is_some() {
            append_escape(out, bytes[at]);
            at += 1;
            out.reserve((bytes.len() - at) * 2 + SLACK);
            len = out.len();
        }
    }
    high == 0
}

#[target_feature(enable = "avx2")]
fn avx2(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let quote = _mm256_set1_epi8(b'"' as i8);
    let backslash = _mm256_set1_epi8(b'\\' as i8);
    let last_control = _mm256_set1_epi8(0x1f);
    let mut high = 0;
    let mut at = 0;
    out.reserve(bytes.len() * 2 + SLACK);
    while at < bytes.len() {
        let mut tail = [b' '; 32];
        let block: &[u8; 32] = match bytes[at..].first_chunk() {
            Some(block) => block,
            None => {
                tail[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                &tail
            }
        };
        let end = (bytes.len() - at).min(32);
        // SAFETY: `block` is 32 bytes, and the load needs no alignment.
        let vector = unsafe { _mm256_loadu_si256(block.as_ptr().cast::<__m256i>()) };
        let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(vector, last_control), vector);
        let marks =
            _mm256_or_si256(_mm256_cmpeq_epi8(vector, quote), _mm256_cmpeq_epi8(vector, backslash));
        let mut escapes = _mm256_movemask_epi8(_mm256_or_si256(marks, controls)) as u32;
        high |= _mm256_movemask_epi8(vector);
        let mut done = 0;
        while escapes != 0 {
            let place = escapes.trailing_zeros() as usize;
            escapes &= escapes - 1;
            append_clean(out, &block[done..place], &bytes[at + done..]);
            append_escape(out, block[place]);
            done = place + 1;
        }
        append_clean(out, &block[done..end], &bytes[at + done..]);
        at += end;
        out.reserve((bytes.len() - at) * 2 + SLACK);
    }
    high == 0
}

/// Appends `clean`, which is at most 32 bytes long and a prefix of `rest`, as one vector where
/// `rest` is long enough to be read as one.
#[inline]
#[target_feature(enable = "avx2")]
fn append_clean(out: &mut Vec<u8>, clean: &[u8], rest: &[u8]) {
    let Some(block) = rest.first_chunk::<32>() else {
        out.extend_from_slice(clean);
        return;
    };
    debug_assert!(clean.len() <= 32 && block.starts_with(clean));
    out.reserve(32);
    // SAFETY: `block` is 32 bytes; room for 32 was reserved; only `clean`'s, a prefix of the 32
    // that were written, are taken into the length.
    unsafe {
        let vector = _mm256_loadu_si256(block.as_ptr().cast::<__m256i>());
        _mm256_storeu_si256(out.as_mut_ptr().add(out.len()).cast::<__m256i>(), vector);
        out.set_len(out.len() + clean.len());
    }
}

/// The first control character whose escape is not a backslash and a letter.
#[inline]
fn first_without_letter(block: &[u8], mut controls: u32) -> Option<usize> {
    while controls != 0 {
        let place = controls.trailing_zeros() as usize;
        if LETTERS[usize::from(block[place])] == b'u' {
            return Some(place);
        }
        controls &= controls - 1;
    }
    None
}

/// A vector may be stored this far beyond what is meant.
const SLACK: usize = 64;
