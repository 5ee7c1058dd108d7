//! Hands `collector_fuzz::globs` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::globs::run(data));
