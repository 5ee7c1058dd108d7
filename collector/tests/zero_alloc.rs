//! Counts allocations on the plain path: a chunk of whole lines, decoded and encoded into a buffer
//! that is large enough, must make none. Alone in its binary, for the allocator counts everything.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use collector::{
    batch::{
        Framing,
        encode::{self, SourceEncoding, UidPrefix},
        times::TimeTracker,
    },
    config::LongLines,
    decode::{Decoder, Limits, Step},
    identity::FileId,
    source::{Format, Source},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(format: Format, line: &str) -> usize {
    let chunk = line.repeat(1000);
    let source = Source {
        attributes: [("k8s.pod.name", "a")].into_iter().collect(),
        ..Source::anonymous("/var/log/pods/a_b_c/d/0.log", format)
    };
    let encoding = SourceEncoding::new(&source, Framing::Lines);
    let limits = Limits { max_line_bytes: 1 << 20, long_lines: LongLines::Split };
    let mut decoder = Decoder::new(format, limits);
    let (mut times, mut uid) = (TimeTracker::default(), UidPrefix::default());
    let mut out = Vec::with_capacity(4 << 20);
    let before = ALLOCATIONS.get();
    let (mut at, mut lines) = (0, 0);
    while let Step::Record { record, consumed } =
        decoder.next(FileId(7), at as u64, &chunk.as_bytes()[at..])
    {
        encode::append(&mut out, &encoding, &mut uid, &record, b"2026-01-01T00:00:00Z");
        times.add(record.timestamp, 0);
        at += consumed;
        lines += 1;
    }
    let made = ALLOCATIONS.get() - before;
    assert_eq!((at, lines), (chunk.len(), 1000));
    assert!(times.bounds().is_some() && out.len() > chunk.len());
    made
}

#[test]
fn whole_lines_are_decoded_and_encoded_without_allocating() {
    let counted = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert!(ALLOCATIONS.get() > counted, "the allocator counts");
    let message = "GET /a?b=\\\"c\\\" \u{e9} \\\\ done";
    let docker = format!(
        "{{\"log\":\"{message}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-22T01:42:33.123456789Z\"}}\n"
    );
    assert_eq!(allocations(Format::DockerJson, &docker), 0);
    let cri = format!("2026-11-22T01:42:33.123456789Z stdout F {message}\n");
    assert_eq!(allocations(Format::Cri, &cri), 0);
    assert_eq!(allocations(Format::Cri, &cri.replace('\u{e9}', "\u{1b}[0m")), 0);
    assert_eq!(allocations(Format::Cri, "no header, so it passes whole, like all its kind\n"), 0);
    assert_eq!(allocations(Format::Plain, "plain\n"), 0);
}
