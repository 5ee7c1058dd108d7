//! Hands `collector_fuzz::times` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::times::run(data));
