//! Receives what the agent delivers and says what became of every line.
//!
//! Per writer and stream: each number exactly once and in order, payload as sealed, metadata that
//! of the writer, and on a resend the same `log.record.uid`. Knows nothing of the agent but the
//! record layout. Lean: a stream that arrives in order costs a few words, however long it is.

mod account;
mod faults;
mod ranges;
mod record;
mod report;
mod server;
mod verify;
mod writers;

pub use self::{
    account::{Limits, Oracle},
    faults::{Fault, Faults},
    report::{Report, WriterReport},
    server::{Server, serve},
    verify::verify_files,
};
