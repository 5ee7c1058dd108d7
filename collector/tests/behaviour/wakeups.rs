//! No wake-up is lost: a line that is written while the agent goes to sleep is delivered all the
//! same, and by nothing but its own wake-up. `cargo xtask e2e wakeups` does the same at length.

use std::{
    fs::OpenOptions,
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    harness::{World, body, patience},
    receiver::Receiver,
};

const LINES: usize = 20_000;

/// Each line is followed by a pause as long as the agent needs for one, more or less; after some,
/// everything has to be there before the next is written.
fn every_line_wakes(watch: &'static str) {
    let mut world = World::new(watch);
    let receiver = Receiver::start(&[]);
    (world.sinks, world.max_age, world.sweep_interval) = (receiver.sink(), "0s", "1h");
    let path = world.path("plain/0.log");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let agent = world.start();
    world.wait_for_first_look();
    if watch == "kernel" && !world.log().contains("The kernel tells which file was written") {
        println!("skipped: there is no kernel watch here\n{}", world.log());
        return;
    }
    // Knuth's MMIX generator: the same every time.
    let mut state = 7_u64;
    let mut below = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut wait_at = 0;
    for number in 0..LINES {
        writeln!(file, "{number}").unwrap();
        if number == wait_at || number + 1 == LINES {
            let deadline = Instant::now() + patience();
            while receiver.count() <= number {
                assert!(Instant::now() < deadline, "line {number} lies there\n{}", world.log());
                std::hint::spin_loop();
            }
            wait_at += 1 + below(60) as usize;
        }
        let pause = Duration::from_micros(below(100));
        let begun = Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
    }
    assert_eq!(agent.stop(), Some(0));
    let numbers: Vec<usize> =
        receiver.records().iter().map(|record| body(record).parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(0..LINES), "not every line, in order, once");
}

#[test]
fn no_wake_up_of_the_kernel_watch_is_lost() {
    every_line_wakes("kernel");
}

#[test]
fn no_wake_up_of_inotify_is_lost() {
    every_line_wakes("inotify");
}
