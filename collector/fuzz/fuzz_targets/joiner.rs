//! Hands `collector_fuzz::joiner` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::joiner::run(data));
