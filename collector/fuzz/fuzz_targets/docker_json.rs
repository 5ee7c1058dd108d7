//! Hands `collector_fuzz::docker_json` to the fuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| collector_fuzz::docker_json::run(data));
