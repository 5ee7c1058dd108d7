//! What Everyline's eBPF programs and its user space will share.
//!
//! Deliberately empty: the kernel watch is not built yet, and the agent watches files by inotify
//! and by polling. The crate holds the place in the workspace where its types will live.
#![no_std]
