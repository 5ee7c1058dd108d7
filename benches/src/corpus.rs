//! Messages in the proportions of real clusters, from a seed.
//!
//! JSON application logs, nginx access logs, Java text with stack frames, logfmt, klog and lines
//! full of random ids; a quarter KiB on average, some up to 4 KiB, a few longer than the 16 KiB at
//! which runtimes split. Every body has one place where a sequence tag can be put without breaking
//! its syntax. The same seed gives the same messages.

use std::io::Write;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One JSON object, as structured application loggers write.
    Json,
    /// nginx's combined format.
    Access,
    /// Java text: time, level, thread, class, message.
    Java,
    /// One frame of a stack trace.
    Frame,
    /// `key=value` pairs.
    Logfmt,
    /// Kubernetes components' format.
    Klog,
    /// Mostly random identifiers: hard to compress.
    Ids,
}

/// Out of 1,000 messages, how many are of each kind.
const SHARES: [(Kind, u32); 7] = [
    (Kind::Json, 380),
    (Kind::Access, 220),
    (Kind::Java, 120),
    (Kind::Frame, 80),
    (Kind::Logfmt, 100),
    (Kind::Klog, 60),
    (Kind::Ids, 40),
];

/// An endless source of messages.
#[derive(Debug)]
pub struct Corpus {
    rng: Pcg64Mcg,
    clock_ms: u64,
}

impl Corpus {
    /// Messages that follow from `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { rng: Pcg64Mcg::seed_from_u64(seed), clock_ms: 1_790_000_000_000 }
    }

    /// Appends one message to `out`: no newline, valid UTF-8, not empty. Returns its kind and the
    /// place (an index into `out`) where text without quotes or backslashes may be inserted.
    pub fn append(&mut self, out: &mut Vec<u8>) -> (Kind, usize) {
        self.clock_ms += self.rng.random_range(0..20);
        let mut roll = self.rng.random_range(0..1000);
        let mut kind = Kind::Json;
        for (candidate, share) in SHARES {
            kind = candidate;
            if roll < share {
                break;
            }
            roll -= share;
        }
        let place = match kind {
            Kind::Json => self.json(out),
            Kind::Access => self.access(out),
            Kind::Java => self.java(out),
            Kind::Frame => self.frame(out),
            Kind::Logfmt => self.logfmt(out),
            Kind::Klog => self.klog(out),
            Kind::Ids => self.ids(out),
        };
        (kind, place)
    }

    fn json(&mut self, out: &mut Vec<u8>) -> usize {
        let (level, service) = (self.pick(&LEVELS), self.pick(&SERVICES));
        put(out, format_args!(r#"{{"ts":"{}","level":"{level}","#, self.clock()));
        put(out, format_args!(r#""logger":"{service}","msg":""#));
        self.sentence(out);
        self.padding(out);
        let place = out.len();
        let (trace, span) = (self.rng.random::<u128>(), self.rng.random::<u64>());
        put(out, format_args!(r#"","trace_id":"{trace:032x}","span_id":"{span:016x}""#));
        if self.rng.random_ratio(1, 2) {
            let (verb, path) = (self.pick(&VERBS), self.pick(&PATHS));
            let (status, took) = (self.pick(&STATUSES), self.rng.random_range(0.1..900.0_f64));
            put(out, format_args!(r#","http":{{"method":"{verb}","path":"{path}","#));
            put(out, format_args!(r#""status":{status},"duration_ms":{took:.3}}}"#));
        }
        if self.rng.random_ratio(1, 4) {
            let user = self.rng.random_range(1..2_000_000_u32);
            put(out, format_args!(r#","user":{{"id":{user},"plan":"pro\tplus"}}"#));
        }
        out.push(b'}');
        place
    }

    fn access(&mut self, out: &mut Vec<u8>) -> usize {
        let [a, b, c, d]: [u8; 4] = self.rng.random();
        let (verb, path, status) = (self.pick(&VERBS), self.pick(&PATHS), self.pick(&STATUSES));
        let (item, size) = (self.rng.random_range(0..90_000), self.rng.random_range(0..200_000));
        let second = self.clock_ms / 1000 % 60;
        put(out, format_args!("{a}.{b}.{c}.{d} - - [22/Nov/2026:02:09:{second:02} +0000] "));
        put(out, format_args!("\"{verb} {path}/{item}?page={} HTTP/1.1\" ", d % 9));
        put(out, format_args!("{status} {size} \"https://shop.example{path}\" "));
        out.extend_from_slice(b"\"");
        out.extend_from_slice(self.pick(&AGENTS).as_bytes());
        let place = out.len();
        out.extend_from_slice(b"\"");
        place
    }

    fn java(&mut self, out: &mut Vec<u8>) -> usize {
        let (level, class) = (self.pick(&LEVELS), self.pick(&CLASSES));
        let thread = self.rng.random_range(1..64);
        put(out, format_args!("{} {level:5} 1 --- [nio-8080-exec-{thread}] ", self.clock()));
        put(out, format_args!("{class} : "));
        self.sentence(out);
        self.padding(out);
        out.len()
    }

    fn frame(&mut self, out: &mut Vec<u8>) -> usize {
        let (class, method) = (self.pick(&CLASSES), self.pick(&METHODS));
        let file = class.rsplit('.').next().unwrap_or(class);
        let line = self.rng.random_range(10..900);
        put(out, format_args!("\tat {class}.{method}({file}.java:{line})"));
        out.len()
    }

    fn logfmt(&mut self, out: &mut Vec<u8>) -> usize {
        let (level, service) = (self.pick(&LEVELS), self.pick(&SERVICES));
        put(out, format_args!("time={} level={level} caller={service}.go:", self.clock()));
        put(out, format_args!("{} msg=\"", self.rng.random_range(10..900)));
        self.sentence(out);
        let place = out.len();
        let took = self.rng.random_range(1..90_000);
        put(out, format_args!("\" took={took}us shard={}", took % 32));
        place
    }

    fn klog(&mut self, out: &mut Vec<u8>) -> usize {
        let letter = ["I", "I", "I", "W", "E"][self.rng.random_range(0..5)];
        let (file, line) = (self.pick(&SERVICES), self.rng.random_range(10..1900));
        put(out, format_args!("{letter}1122 02:09:05.{:06} ", self.clock_ms % 1_000_000));
        put(out, format_args!("      1 {file}.go:{line}] \""));
        self.sentence(out);
        let place = out.len();
        let pod = self.rng.random::<u32>();
        put(out, format_args!("\" pod=\"shop/web-{pod:08x}\" err=null"));
        place
    }

    fn ids(&mut self, out: &mut Vec<u8>) -> usize {
        put(out, format_args!("batch {:016x}:", self.rng.random::<u64>()));
        for _ in 0..self.rng.random_range(2..9) {
            put(out, format_args!(" {:032x}", self.rng.random::<u128>()));
        }
        self.padding(out);
        out.len()
    }

    fn sentence(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.rng.random_range(4..14) {
            if index > 0 {
                out.push(b' ');
            }
            if self.rng.random_ratio(1, 8) {
                put(out, format_args!("{}", self.rng.random_range(0..100_000)));
            } else {
                out.extend_from_slice(self.pick(&WORDS).as_bytes());
            }
        }
    }

    /// Makes one message in 100 long, and one in 10,000 longer than a runtime's 16 KiB.
    fn padding(&mut self, out: &mut Vec<u8>) {
        let roll = self.rng.random_range(0..10_000);
        let length = match roll {
            0 => self.rng.random_range(16_500..60_000),
            1..100 => self.rng.random_range(400..4_000),
            _ => return,
        };
        let end = out.len() + length;
        while out.len() < end {
            out.push(b' ');
            self.sentence(out);
        }
    }

    fn clock(&self) -> String {
        let ms = self.clock_ms;
        let (hour, minute) = (ms / 3_600_000 % 24, ms / 60_000 % 60);
        format!("2026-11-22T{hour:02}:{minute:02}:{:02}.{:03}Z", ms / 1000 % 60, ms % 1000)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector cannot fail");
}

const LEVELS: [&str; 8] = ["INFO", "INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"];
const VERBS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const STATUSES: [u16; 10] = [200, 200, 200, 200, 200, 201, 204, 304, 404, 500];
const SERVICES: [&str; 10] = [
    "checkout",
    "catalog",
    "payments",
    "ingress",
    "reconciler",
    "scheduler",
    "auth",
    "mailer",
    "search",
    "inventory",
];
const PATHS: [&str; 8] = [
    "/api/v1/orders",
    "/api/v1/products",
    "/cart",
    "/healthz",
    "/static/js/app.3f9c1.js",
    "/login",
    "/api/v2/search",
    "/images/thumb",
];
const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "kube-probe/1.34",
    "curl/8.5.0",
    "Go-http-client/2.0",
];
const CLASSES: [&str; 8] = [
    "com.example.shop.order.OrderService",
    "com.example.shop.payment.CardGateway",
    "org.springframework.web.servlet.DispatcherServlet",
    "org.hibernate.engine.jdbc.spi.SqlExceptionHelper",
    "com.zaxxer.hikari.pool.HikariPool",
    "java.util.concurrent.ThreadPoolExecutor",
    "io.netty.channel.nio.NioEventLoop",
    "com.example.shop.cart.CartController",
];
const METHODS: [&str; 6] = ["handle", "invoke0", "runWorker", "doFilter", "execute", "lambda$0"];
const WORDS: [&str; 64] = [
    "request",
    "accepted",
    "user",
    "order",
    "failed",
    "to",
    "connect",
    "retrying",
    "after",
    "timeout",
    "cache",
    "miss",
    "for",
    "key",
    "updated",
    "row",
    "in",
    "table",
    "queue",
    "drained",
    "message",
    "published",
    "topic",
    "partition",
    "offset",
    "committed",
    "leader",
    "elected",
    "node",
    "pod",
    "evicted",
    "volume",
    "mounted",
    "reconciling",
    "deployment",
    "scaled",
    "from",
    "replicas",
    "the",
    "session",
    "expired",
    "token",
    "refreshed",
    "payment",
    "authorised",
    "by",
    "gateway",
    "with",
    "status",
    "invalid",
    "argument",
    "größer",
    "als",
    "erlaubt",
    "注文",
    "完了",
    "🚀",
    "deadline",
    "exceeded",
    "while",
    "waiting",
    "upstream",
    "response",
    "closed",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn same_seed_same_messages() {
        let make = |seed| {
            let (mut corpus, mut out) = (Corpus::new(seed), Vec::new());
            for _ in 0..500 {
                corpus.append(&mut out);
            }
            out
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn messages_are_realistic_text() {
        let mut corpus = Corpus::new(1);
        let (mut total, mut longest, mut kinds) = (0, 0, BTreeSet::new());
        let count = 40_000;
        for _ in 0..count {
            let mut out = Vec::new();
            let (kind, place) = corpus.append(&mut out);
            let text = std::str::from_utf8(&out).expect("UTF-8");
            assert!(!text.is_empty() && !text.contains('\n') && !text.contains("seq="));
            assert!(text.is_char_boundary(place));
            if kind == Kind::Json {
                let mut tagged = text.to_owned();
                tagged.insert_str(place, " seq=w1o:2:00000000");
                serde_json::from_str::<serde_json::Value>(&tagged).expect("JSON around the tag");
            }
            total += out.len();
            longest = longest.max(out.len());
            kinds.insert(kind);
        }
        let average = total / count;
        assert!((150..=250).contains(&average), "{average} B on average");
        assert!(longest > 16 * 1024, "{longest} B at most");
        assert_eq!(kinds.len(), SHARES.len());
    }
}
