//! Everyline's library: the data's path, one module per stage.
//!
//! `discover → watch → read → decode → batch → deliver → checkpoint`, with the `ledger` accounting
//! for every byte on the way. A stage knows the next stage's input type and nothing else; only the
//! [`supervisor`] knows all of them. `archive` is the embedded storage (a sink that can be
//! searched); `config`, `cli` and `admin` are what an operator touches; `reason` is the table of why
//! bytes are given up; `messages` bounds what others can have the agent say, `held_back` remembers who reached a bound; `causes` has errors say each cause once, `ownership` has files and directories that nobody else could have planted, `privileges` what this process may do; `zone` is how times are shown to people, `shown` how what others wrote is, `terminal` what
//! else may be sent to theirs.

pub mod admin;
pub mod archive;
pub mod batch;
pub mod causes;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod decode;
pub mod deliver;
pub mod discover;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod held_back;
pub mod ledger;
pub mod messages;
pub mod metrics;
pub mod ownership;
pub mod privileges;
pub mod read;
pub mod reason;
pub mod shown;
pub mod supervisor;
pub mod terminal;
pub mod watch;
pub mod zone;
