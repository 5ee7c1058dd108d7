//! Criterion for the hot functions: decoding, escaping, encoding, each beside its bare limit.
//!
//! Everything runs on bytes that lie in memory, chunk by chunk, as a reader hands them on. How fast
//! the agent is as a whole is `cargo xtask bench`'s business.

use std::hint::black_box;

use collector::{
    batch::{
        Framing,
        encode::{self, SourceEncoding, UidPrefix},
        escape,
    },
    config::LongLines,
    decode::{Decoder, Limits, Step},
    identity::FileId,
    source::{Format, Source},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_pcg::Pcg64Mcg;

fn cri(c: &mut Criterion) {
    let messages = messages();
    let corpus = lines(&messages, |out, message| {
        out.extend_from_slice(b"2026-11-22T01:42:33.123456789Z stdout F ");
        out.extend_from_slice(message.as_bytes());
    });
    let mut group = c.benchmark_group("cri");
    group.throughput(Throughput::Bytes(corpus.len() as u64));
    group.bench_function("limit: scan for newlines", |b| {
        b.iter(|| memchr::memchr_iter(b'\n', black_box(&corpus)).count());
    });
    group.bench_function("limit: copy, split, copy", |b| {
        let (mut chunk, mut out) = (vec![0; CHUNK], Vec::with_capacity(2 * BATCH));
        b.iter(|| {
            for bytes in corpus.chunks(CHUNK) {
                chunk[..bytes.len()].copy_from_slice(bytes);
                let mut rest = &chunk[..bytes.len()];
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    out.extend_from_slice(&rest[..=end]);
                    rest = &rest[end + 1..];
                    empty(&mut out);
                }
            }
        });
    });
    group.bench_function("decode", |b| b.iter(|| decode(Format::Cri, &corpus, |_| ())));
    group.bench_function("decode and encode", |b| encoded(b, Format::Cri, &corpus));
    group.finish();
}

fn docker(c: &mut Criterion) {
    let messages = messages();
    let corpus = lines(&messages, |out, message| {
        let log = serde_json::to_string(&format!("{message}\n")).expect("text is JSON");
        out.extend_from_slice(b"{\"log\":");
        out.extend_from_slice(log.replace('&', "\\u0026").replace('<', "\\u003c").as_bytes());
        out.extend_from_slice(
            b",\"stream\":\"stdout\",\"time\":\"2026-11-22T01:42:33.123456789Z\"}",
        );
    });
    let mut group = c.benchmark_group("docker");
    group.throughput(Throughput::Bytes(corpus.len() as u64));
    group.bench_function("limit: simd-json tape of each line", |b| {
        let (mut line, mut buffers) = (Vec::new(), simd_json::Buffers::default());
        b.iter(|| {
            for bytes in corpus.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                line.clear();
                line.extend_from_slice(bytes);
                let tape = simd_json::to_tape_with_buffers(&mut line, &mut buffers);
                black_box(tape.expect("the corpus is JSON"));
            }
        });
    });
    group.bench_function("decode", |b| b.iter(|| decode(Format::DockerJson, &corpus, |_| ())));
    group.bench_function("decode and encode", |b| encoded(b, Format::DockerJson, &corpus));
    group.finish();
}

fn escaping(c: &mut Criterion) {
    let messages = messages();
    let bytes = messages.iter().map(String::len).sum::<usize>();
    let mut group = c.benchmark_group("escape");
    group.throughput(Throughput::Bytes(bytes as u64));
    let mut out = Vec::with_capacity(2 * BATCH);
    group.bench_function("limit: copy", |b| {
        b.iter(|| {
            for message in &messages {
                out.extend_from_slice(black_box(message.as_bytes()));
                empty(&mut out);
            }
        });
    });
    group.bench_function("append", |b| {
        b.iter(|| {
            for message in &messages {
                black_box(escape::append(&mut out, message.as_bytes()));
                empty(&mut out);
            }
        });
    });
    group.finish();
}

fn encoded(b: &mut criterion::Bencher<'_>, format: Format, corpus: &[u8]) {
    let encoding = SourceEncoding::new(&source(format), Framing::Lines);
    let mut uid = UidPrefix::default();
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::with_capacity(2 * BATCH);
    b.iter(|| {
        // As if read: copied into the reader's buffer first.
        for bytes in corpus.chunks(CHUNK) {
            chunk[..bytes.len()].copy_from_slice(bytes);
            decode(format, &chunk[..bytes.len()], |record| {
                encode::append(&mut out, &encoding, &mut uid, record, b"2026-01-01T00:00:00Z");
                empty(&mut out);
            });
        }
    });
}

fn decode(format: Format, corpus: &[u8], mut each: impl FnMut(&collector::record::Record<'_>)) {
    let limits = Limits { max_line_bytes: 1 << 20, long_lines: LongLines::Split };
    let mut decoder = Decoder::new(format, limits);
    let mut at = 0;
    loop {
        match decoder.next(FileId(0x0123_4567_89ab_cdef), at as u64, &corpus[at..]) {
            Step::Record { record, consumed } => {
                each(black_box(&record));
                at += consumed;
            }
            Step::Consumed(consumed) | Step::Skipped(consumed) => at += consumed,
            Step::NeedMore => return,
        }
    }
}

/// As a sealed batch leaves an empty buffer behind.
fn empty(out: &mut Vec<u8>) {
    if out.len() > BATCH {
        black_box(&out);
        out.clear();
    }
}

fn source(format: Format) -> Source {
    let attributes = [
        ("k8s.namespace.name", "payments-production"),
        ("k8s.pod.name", "checkout-7d9c6b5f4-x2x7q"),
        ("k8s.pod.uid", "0e8f3c1a-5b7d-4c2e-9f60-1a2b3c4d5e6f"),
        ("k8s.container.name", "checkout"),
        ("k8s.container.restart_count", "0"),
        ("k8s.node.name", "ip-10-0-12-34.eu-west-1.compute.internal"),
        ("log.file.path", "/var/log/pods/payments-production_checkout/checkout/0.log"),
    ];
    Source {
        attributes: attributes.into_iter().collect(),
        ..Source::anonymous("/var/log/pods/a_b_c/d/0.log", format)
    }
}

/// Whole lines up to the end of each chunk, so that chunks can be decoded on their own.
fn lines(messages: &[String], write: impl Fn(&mut Vec<u8>, &str)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = Vec::new();
    for message in messages {
        line.clear();
        write(&mut line, message);
        let left = CHUNK - out.len() % CHUNK;
        if line.len() + 1 > left {
            // Pads the chunk's last line.
            let end = out.pop();
            let pad = if out.last() == Some(&b'}') { b' ' } else { b'.' };
            out.extend(std::iter::repeat_n(pad, left));
            out.extend(end);
        }
        out.extend_from_slice(&line);
        out.push(b'\n');
    }
    out
}

/// What clusters log: JSON, access logs, Java, logfmt, klog.
fn messages() -> Vec<String> {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let words = ["request", "user", "cache", "timeout", "accepted", "order", "retry", "shard"];
    (0..40_000)
        .map(|number| {
            let text: Vec<_> = (0..random.random_range(4..16))
                .filter_map(|_| words.choose(&mut random).copied())
                .collect();
            let (text, id): (_, u64) = (text.join(" "), random.random());
            match random.random_range(0..10) {
                0..3 => format!(
                    "{{\"level\":\"info\",\"ts\":{number}.5,\"msg\":\"{text}\",\"trace_id\":\"{id:016x}\",\"status\":200,\"path\":\"/api/v1/{id:x}\"}}"
                ),
                3..5 => format!(
                    "10.1.2.3 - - [22/Nov/2026:01:42:33 +0000] \"GET /api/v1/{id:x}?a=1&b=2 HTTP/1.1\" 200 {number} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\""
                ),
                5 => format!("\tat com.example.{text}.Handler.handle(Handler.java:{number})").replace(' ', "."),
                6 => format!("2026-11-22 01:42:33,123 INFO  [main-{number}] c.e.Service - {text} <{id:x}>"),
                7..9 => format!("level=info msg=\"{text}\" id={id:016x} n={number} took=1.5ms"),
                _ => format!("I1122 01:42:33.123456       1 controller.go:{number}] {text} é {id:x}"),
            }
        })
        .collect()
}

const CHUNK: usize = 256 * 1024;
const BATCH: usize = 1024 * 1024;

criterion_group!(benches, cri, docker, escaping);
criterion_main!(benches);
