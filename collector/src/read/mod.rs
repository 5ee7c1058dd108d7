//! Read: bytes out of files, in order, from the right offset, once.

pub mod identity;
