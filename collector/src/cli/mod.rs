//! cli

pub mod search;
