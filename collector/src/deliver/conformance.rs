//! What every sink promises, run against every sink.
