//! The ledger: what became of every byte.
//!
//! `seen = acknowledged + in flight + unread + dropped(reason) + lost(reason)`, per file and sink.
//! A [`FileAccount`] is shared by whoever moves bytes (reader, receipts) and whoever reports;
//! [`Accounts`] holds them all, and the totals that outlive them. Nothing here does I/O but a
//! `stat` of a file that is held open.

mod account;
mod accounts;
pub mod copies;
pub mod cuts;
pub mod originals;
pub mod prefixes;
pub mod report;
mod sink;
mod sinks;
pub mod truncation;

pub use account::FileAccount;
pub use accounts::Accounts;
pub use sink::SinkAccount;
pub use sinks::{SinkSlot, is_settled};

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
