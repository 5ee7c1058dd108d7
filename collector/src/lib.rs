//! Everyline's library: the data's path, one module per stage.
//!
//! `discover → watch → read → decode → batch → deliver → checkpoint`, with the `ledger` accounting for every
//! byte on the way. `archive` is the embedded storage, a sink that can be searched.
//!
//! The ground floor is what all of them talk about: `identity` (who a file is, and how it is opened), `source`
//! (whose a log is), `record` (one log record), `config`, `metrics` and `reason` (why bytes are given up).
//! `registry` knows which files there are, `settle` moves offsets, and the [`supervisor`] wires everything.
//! `cli` and `admin` are what an operator touches.
//!
//! Small modules serve all: `messages` bounds what others can have the agent say, and `held_back` remembers who
//! reached a bound; `causes` has errors say each cause once; `ownership` checks who made a file or directory;
//! `descriptors` shares out the process's descriptors, `known_files` the memory of what is known, and `tenants` counts what each
//! tenant has; `privileges` says what the process may do; `zone` is how times are shown, `shown` how text that others wrote is,
//! `terminal` what may be sent to a terminal.
//!
//! Which module may use which is a table that `cargo xtask tidy` enforces (ARCHITECTURE.md).

pub mod admin;
pub mod archive;
pub mod batch;
pub mod causes;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod decode;
pub mod deliver;
pub mod descriptors;
pub mod discover;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod held_back;
pub mod identity;
pub mod known_files;
pub mod ledger;
pub mod messages;
pub mod metrics;
pub mod ownership;
pub mod privileges;
pub mod read;
pub mod reason;
pub mod record;
pub mod registry;
pub mod settle;
pub mod shown;
pub mod source;
pub mod supervisor;
pub mod tenants;
pub mod terminal;
pub mod watch;
pub mod zone;
