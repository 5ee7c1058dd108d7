//! Everyline's load generator, delivery oracle and benchmarks.
//!
//! [`corpus`] makes messages like real clusters', [`tag`] seals each with a sequence number and a
//! checksum, [`loadgen`] writes them as a container runtime would, [`oracle`] receives what the
//! agent made of them and says what was lost, doubled, reordered or damaged. [`measure`] compares
//! the agent with what the machine can do at best. Nothing here is part of the agent, and nothing
//! here knows how the agent works: only what goes in and what must come out.

pub mod corpus;
pub mod framing;
pub mod loadgen;
pub mod measure;
pub mod oracle;
pub mod tag;
