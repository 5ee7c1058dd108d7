//! The `everyline` binary: an allocator and the command line, nothing else.

use std::process::ExitCode;

// musl's allocator is slow under threads, and glibc's keeps what a burst took.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // A fail point panics; the process must end there and then, as by SIGKILL.
    #[cfg(feature = "failpoints")]
    let _points = {
        std::panic::set_hook(Box::new(|_| std::process::abort()));
        fail::FailScenario::setup()
    };
    collector::cli::main(std::env::args_os())
}
