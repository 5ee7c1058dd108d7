//! Hands `collector_fuzz::cri` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::cri::run(data));
