//! Tests of the checkpoint as a whole: a model of an agent that commits what its sinks acknowledged
//! ([`world`]), and what becomes of its journal after every kind of accident.

mod damage;
mod disk;
mod durable;
mod format;
mod memory;
mod world;
