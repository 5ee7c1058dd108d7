//! Read: bytes out of files, in order, from the right offset, once.
//!
//! A [`tail`] is one source's files in the order they were written, and one cursor per sink. A
//! [`reader`] thread owns tails outright and visits them in turn, a quantum each. What a file is
//! called, which file comes next and when a name was taken away is told by the registry; who a
//! file is, is [`crate::identity`].

pub mod checksum;
pub mod content;
pub mod cursor;
mod encodings;
mod guarded;
pub mod gzip;
mod nul;
pub mod permits;
pub mod piece;
pub mod pump;
pub mod reader;
pub mod room;
mod sink_lanes;
pub mod tail;
pub mod unpack;
pub mod zeros;
