//! Configuration: one YAML file, every key with a default, unknown keys refused.

pub mod schema;
pub mod units;

pub use schema::*;
pub use units::{ByteSize, Span};
