//! Hands `collector_fuzz::config` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::config::run(data));
