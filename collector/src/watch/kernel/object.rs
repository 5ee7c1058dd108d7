//! The object with the eBPF programs that this build carries, if it carries one.

use std::fmt::Write;

/// The object; empty where the agent was built without (`cargo build` alone).
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/everyline.bpf.o"));

/// The object's bytes.
pub(super) fn bytes() -> Option<&'static [u8]> {
    (!OBJECT.is_empty()).then_some(OBJECT)
}

/// The SHA-256 of the object's bytes in hex; None where there is none.
pub fn digest() -> Option<String> {
    bytes().map(|bytes| hex_digest(&[bytes]))
}

/// The SHA-256 of these parts, one after the other.
pub(super) fn hex_digest(parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
