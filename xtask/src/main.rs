//! Everyline's task runner: `cargo xtask TASK`.
//!
//! Everything a contributor or a CI machine runs, without a shell script. Each task lives in its
//! own module; nothing here is part of the agent.

mod bench;
mod bpf;
mod build;
mod demo;
mod e2e;
mod fuzz;
mod http;
mod packages;
mod process;
mod soak;
mod summary;
mod symbols;
mod test;
mod tidy;
mod vm;
mod workspace;

use anyhow::Result;
use clap::Parser;

/// Builds, tests and shows Everyline.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Build the agent for release
    Build,
    /// Build the eBPF programs alone, which every later build of the agent embeds
    Bpf,
    /// Collect, kill, restart, search, audit: in under half a minute
    Demo,
    /// Run every test and hold the repository to its own law
    Test(test::Args),
    /// Measure the agent beside the machine's bare limits
    Bench(bench::Args),
    /// Run the agent end to end against real writers and a failing sink
    #[command(subcommand)]
    E2e(e2e::Scenario),
    /// Let everything happen to an agent for minutes, all from a seed, and account for every line
    Soak(soak::Args),
    /// Try inputs that nobody thought of, a minute for each fuzz target
    Fuzz(fuzz::Args),
    /// Hold the repository to its own law
    Tidy(tidy::Args),
    /// Run the tests that depend on the kernel inside Debian's 6.1 and 6.12, in QEMU (installs what it needs)
    Vm(vm::Args),
}

fn main() -> Result<()> {
    process::clean_up_on_signals()?;
    match Task::parse() {
        Task::Build => build::run(),
        Task::Bpf => bpf::build().map(|object| println!("{}", object.display())),
        Task::Demo => demo::run(),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::E2e(scenario) => e2e::run(&scenario),
        Task::Soak(args) => soak::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Vm(args) => vm::run(&args),
    }
}
