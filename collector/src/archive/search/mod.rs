//! Search: the wanted lines of an archive, in the order of their times.
//!
//! [`extents`] cuts the archive into pieces and passes over what cannot match; a [`pool`] of threads
//! decompresses and [`scan`]s them; [`merge`] puts what they find in order; [`context`] reads the
//! lines around it; [`run`] writes it. Memory is bounded whatever the archive's size, and however many
//! logs are in it.
//!
//! Knows nothing of arguments or exit codes; see `cli::search`.

mod candidates;
mod context;
mod extents;
mod merge;
mod pattern;
mod pool;
mod query;
mod record;
mod run;
mod scan;
mod show;
mod summary;

pub use pattern::{Options, Pattern};
pub use query::{Excluded, Names, Query};
pub use run::{Order, Search};
pub use show::Show;
pub use summary::{Error, Summary};
