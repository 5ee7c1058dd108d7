//! Search: the wanted lines of an archive, in its order.
//!
//! A walker goes through the headers and passes over what cannot match; workers, one a core, read,
//! decompress and scan frames; the caller's thread writes what they found, in order. Work in flight
//! is bounded, so memory is a few frames a core whatever the archive's size.
//!
//! Knows nothing of arguments or exit codes; see `cli::search`.

mod pattern;
mod pipeline;
mod query;
mod record;
mod scan;
mod show;

pub use pattern::{Options, Pattern};
pub use pipeline::{Error, Search, Summary};
pub use query::{Names, Query};
pub use show::Show;
