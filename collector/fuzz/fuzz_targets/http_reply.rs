//! Hands `collector_fuzz::http_reply` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::http_reply::run(data));
