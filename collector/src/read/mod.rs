//! Read: bytes out of files, in order, from the right offset, once.
//!
//! A [`tail`] is one source's files in the order they were written, and one cursor per sink. A
//! [`reader`] thread owns tails outright and visits them in turn, a quantum each. What a file is
//! called, which file comes next and when a name was taken away is told by the registry; who a
//! file is, is [`identity`].

pub mod beneath;
pub mod checksum;
pub mod content;
pub mod cursor;
pub mod descriptors;
mod encodings;
pub mod guard;
pub mod gzip;
pub mod identity;
pub mod permits;
pub mod prefix;
pub mod pump;
pub mod reader;
pub mod room;
mod sink_lanes;
pub mod sys;
pub mod tail;
pub mod unpack;
pub mod zeros;
