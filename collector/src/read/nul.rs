//! Whether there is a NUL among bytes, which is asked of every chunk and hardly ever so.
//!
//! Therefore no place is looked for: the least byte is. That is half as many instructions as a search.

/// Whether there is one.
pub(super) fn is_any(bytes: &[u8]) -> bool {
    // Unoptimised, the compiler makes no vectors of it, and the tests' agents read many megabytes.
    #[cfg(all(target_arch = "x86_64", not(debug_assertions)))]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a call of a function that needs AVX2")]
        // SAFETY: AVX2 was found.
        return unsafe { least_with_avx2(bytes) } == 0;
    }
    memchr::memchr(0, bytes).is_some()
}

/// The compiler makes vectors of it.
#[cfg(all(target_arch = "x86_64", any(test, not(debug_assertions))))]
#[target_feature(enable = "avx2")]
fn least_with_avx2(bytes: &[u8]) -> u8 {
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is asked here, and in an optimised build.
    fn is_told(bytes: &[u8]) -> bool {
        let told = is_any(bytes);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "a call of a function that needs AVX2")]
            // SAFETY: AVX2 was found.
            let least = unsafe { least_with_avx2(bytes) };
            assert_eq!(least == 0, told);
        }
        told
    }

    #[test]
    fn a_nul_is_found_wherever_it_is() {
        for len in 0..300 {
            let mut bytes = vec![0x80; len];
            assert!(!is_told(&bytes), "{len}");
            for at in 0..len {
                bytes[at] = 0;
                assert!(is_told(&bytes), "{at} of {len}");
                bytes[at] = 1;
                assert!(!is_told(&bytes), "{at} of {len}");
            }
        }
    }
}
