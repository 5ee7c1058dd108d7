//! Hands `collector_fuzz::journal` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::journal::run(data));
