//! What every sink promises, run against every sink: each batch is settled exactly once, in the
//! order of its lane, and when the queue is closed everything is settled and the task ends.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tokio::runtime;

use super::{testing::*, *};
use crate::{
    batch::{Framing, Outcome},
    config::{self, Compression},
    supervisor::kinds::{encoding, start},
};

const LANES: u32 = 3;
const BATCHES: usize = 40;
const LINES: u32 = 5;

/// Runs the promises against a sink that was started with `context`.
async fn conforms(config: &config::Sink, start: impl FnOnce(Context) -> Handle) {
    let sink = start(context("tested", Some("")));
    let encoding = encoding(config, &config::Batch::default(), 2);
    let receipts = Receipts::new();
    let mut files: Vec<TestFile> = (0..LANES).map(|lane| receipts.file(lane)).collect();
    for _ in 0..BATCHES {
        for file in &mut files {
            file.framing = encoding.framing;
            file.compression = encoding.compression;
            sink.queue.send(file.batch(LINES)).unwrap();
        }
        tokio::task::yield_now().await;
    }
    drop(sink.queue);
    let ended = tokio::time::timeout(Duration::from_secs(30), sink.task).await;
    ended.expect("the task must end once the queue is closed").unwrap();

    let mut ends: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for receipt in receipts.all() {
        assert_eq!(receipt.outcome, Outcome::Delivered);
        assert_eq!(receipt.lines, LINES);
        let [range] = &receipt.ranges[..] else { panic!("{receipt:?}") };
        ends.entry(range.file.id.0).or_default().push(range.end);
    }
    let step = u64::from(LINES) * 100;
    let expected: Vec<u64> = (1..=BATCHES as u64).map(|n| n * step).collect();
    assert_eq!(ends.len(), LANES as usize);
    for (file, ends) in ends {
        assert_eq!(ends, expected, "file {file:x}: each once, in order");
    }
}

/// Starts through the public function.
async fn conforms_as_configured(config: &config::Sink, state_dir: &Path) {
    let runtime = runtime::Handle::current();
    conforms(config, |context| start(config, state_dir, context, &runtime).unwrap()).await;
    let idle = start(config, state_dir, context("idle", None), &runtime).unwrap();
    drop(idle.queue);
    tokio::time::timeout(Duration::from_secs(5), idle.task).await.expect("an idle end").unwrap();
}

fn parse(config: serde_json::Value) -> config::Sink {
    let text = json!({"sinks": {"it": config}}).to_string();
    config::Config::parse(&text, "test").unwrap().sinks["it"].clone()
}

#[tokio::test]
async fn null_conforms() {
    let dir = tempfile::tempdir().unwrap();
    for compression in ["none", "zstd"] {
        let config = parse(json!({"type": "null", "compression": compression}));
        conforms_as_configured(&config, dir.path()).await;
    }
}

#[tokio::test]
async fn file_conforms() {
    for (compression, rotate) in [("none", "1GiB"), ("zstd", "2KiB"), ("gzip", "2KiB")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        let config = parse(json!({
            "type": "file", "path": path, "compression": compression, "rotate_size": rotate,
        }));
        conforms_as_configured(&config, dir.path()).await;
    }
}

#[tokio::test]
async fn console_conforms() {
    for (format, template) in [("human", ""), ("json", ""), ("human", "{container}: {body}")] {
        let config = parse(json!({"type": "console", "format": format, "template": template}));
        let config::Sink::Console(console) = &config else { unreachable!("it is a console") };
        let out = Buffer::default();
        conforms(&config, |context| {
            let runtime = runtime::Handle::current();
            console::start_on(out.clone(), console, false, context, &runtime).unwrap()
        })
        .await;
        let shown = out.0.lock().unwrap();
        let lines = shown.iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(lines, LANES as usize * BATCHES * LINES as usize);
    }
}

#[tokio::test]
async fn http_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let url = accept_two_of_three();
    for (body, compression) in [("ndjson", "zstd"), ("json", "gzip"), ("ndjson", "none")] {
        let config = parse(json!({
            "type": "http", "url": url, "body": body, "compression": compression,
            "backoff_base": "1ms", "backoff_max": "3ms", "concurrency": 2,
        }));
        conforms_as_configured(&config, dir.path()).await;
    }
}

#[test]
fn encodings_follow_the_configuration() {
    let batch = config::Batch::default();
    let of = |config, threads| encoding(&parse(config), &batch, threads);
    let http = json!({"type": "http", "url": "http://x/", "concurrency": 8, "body": "json"});
    let http = of(http, 3);
    assert_eq!(
        (http.lanes, http.framing, http.compression),
        (3, Framing::Array, Compression::Zstd)
    );
    let file = of(json!({"type": "file", "path": "/x", "compression": "gzip"}), 3);
    assert_eq!(
        (file.lanes, file.framing, file.compression),
        (1, Framing::Lines, Compression::Gzip)
    );
    let console = of(json!({"type": "console"}), 3);
    assert_eq!((console.lanes, console.compression), (1, Compression::None));
}

#[test]
fn memory_is_shared_out_so_that_no_lane_can_take_anothers() {
    let mut http =
        encoding(&parse(json!({"type": "http", "url": "http://x/"})), &config::Batch::default(), 2);
    let roomy = http.fit(16 << 20, 2);
    assert_eq!((http.lanes, http.max_bytes, roomy), (4, 1 << 20, 2 << 20));
    // Where not even one lane a thread has room for two batches, batches are smaller.
    let tight = http.fit(2 << 20, 4);
    assert_eq!((http.lanes, http.max_bytes, tight), (1, 256 << 10, 512 << 10));
    let mut file =
        encoding(&parse(json!({"type": "file", "path": "/x"})), &config::Batch::default(), 4);
    assert_eq!((file.fit(2 << 20, 4), file.max_bytes), (2 << 20, 1 << 20));
}

/// A writer that can be looked at.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that answers every third request with 503. One connection a request.
fn accept_two_of_three() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // The end of the head and Content-Length bytes more.
            while let Ok(read) = stream.read(&mut chunk)
                && read > 0
            {
                request.extend_from_slice(&chunk[..read]);
                let Some(head) = memchr::memmem::find(&request, b"\r\n\r\n") else { continue };
                let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
                let length = text.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if request.len() >= head + 4 + length {
                    break;
                }
            }
            let status = if number % 3 == 0 { "503 Busy" } else { "200 OK" };
            let reply =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    });
    url
}
