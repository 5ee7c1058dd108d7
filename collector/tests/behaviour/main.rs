//! What an operator would see: the real binary against real files, killed, rotated, filled and
//! starved. One test binary; a module per kind of trouble.
#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

mod admin;
mod claims;
mod copies;
mod crash;
mod descriptors;
mod doctor;
mod encodings;
mod floods;
mod harness;
mod holes;
mod identity;
mod input;
mod isolation;
mod kernel;
mod late;
mod ledger;
mod links;
mod lost;
mod memory;
mod messages;
mod names;
mod outputs;
mod own;
mod planted;
mod quotas;
mod receiver;
mod refused;
mod reload;
mod renewal;
mod rotation;
mod rules;
mod runtimes;
mod screen;
mod search;
mod seccomp;
mod state;
mod stop;
mod storms;
mod swapped;
mod terminal;
mod times;
mod truncation;
mod unfinished;
mod wakeups;
