//! Hands `collector_fuzz::frames` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::frames::run(data));
