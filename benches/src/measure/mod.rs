//! What measuring needs: CPU clocks, the agent as a child process, sinks that only count, and the
//! bare limits of the machine on the same bytes. Which cases there are and what they compare is the
//! binary `bench`'s business.

mod agent;
mod arrivals;
mod clock;
mod cpus;
mod limits;
mod sink;

pub use self::{
    agent::Agent,
    arrivals::{Arrival, Arrivals, Poster},
    clock::{process_cpu, thread_cpu},
    cpus::{pin_process, pin_thread},
    limits::{page_cache_read, read_split_copy, simd_json_tape, zstd_pieces},
    sink::{CountingSink, StalledSink},
};
