//! Everyline.
fn main() {}
