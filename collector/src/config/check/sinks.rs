//! Every sink on its own: names, places, bounds, levels. What a URL, a header or credentials may be, their
//! types say.

use std::time::Duration;

use super::{Checker, DAY, HOUR, MILLISECOND, steps};
use crate::config::{
    Archive, Compression, Config, Console, ConsoleFormat, FileSink, Http, Sink, Tls,
};

/// Bytes of an output's name: with a number and an ending it must still be one.
const LONGEST_NAME: usize = 220;
const MOST_DELIVERIES: u32 = 1_024;

impl Checker<'_> {
    pub(super) fn sinks(&mut self, config: &Config) {
        for (name, sink) in &config.sinks {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
                let what = format!("`{}` is no name for a sink", name.escape_debug());
                let todo = "use 1 to 63 of a-z, 0-9, _ and -";
                self.refuse_key(steps!["sinks", name], what, todo);
            }
            match sink {
                Sink::Console(sink) => self.console(name, sink),
                Sink::Null(_) => {}
                Sink::File(sink) => self.file(name, sink),
                Sink::Http(sink) => self.http(name, sink),
                Sink::Archive(sink) => self.archive(name, sink),
            }
        }
    }

    fn console(&mut self, name: &str, sink: &Console) {
        if sink.format == ConsoleFormat::Json && !sink.template.is_empty() {
            let what =
                "`template` says how lines look, and `format: json` says otherwise".to_owned();
            self.refuse(steps!["sinks", name, "template"], what, "leave out one of them");
        }
    }

    fn file(&mut self, name: &str, sink: &FileSink) {
        let path = steps!["sinks", name, "path"];
        if self.place(path, &sink.path) {
            let text = sink.path.as_os_str().as_encoded_bytes();
            let file = sink.path.file_name().filter(|_| !text.ends_with(b"/"));
            let todo = "name a file, like /var/log/everyline.ndjson";
            match file.map(|file| file.len()) {
                None => self.refuse(path, "this path names no file", todo),
                Some(LONGEST_NAME..) => {
                    let what = "with a number behind it the file's name is too long";
                    self.refuse(path, what, format!("use less than {LONGEST_NAME} bytes"));
                }
                Some(_) => {}
            }
        }
        self.size(steps!["sinks", name, "rotate_size"], sink.rotate_size, 1..=u64::MAX);
        self.level(name, sink.compression, sink.level);
    }

    fn archive(&mut self, name: &str, sink: &Archive) {
        if let Some(dir) = &sink.dir {
            self.own_directory(steps!["sinks", name, "dir"], dir);
        }
        self.size(steps!["sinks", name, "max_bytes"], sink.max_bytes, 1..=u64::MAX);
        let age = Duration::from_secs(1)..=36_500 * DAY;
        self.span(steps!["sinks", name, "max_age"], sink.max_age, age);
        self.size(steps!["sinks", name, "segment_bytes"], sink.segment_bytes, 1..=u64::MAX);
        self.level(name, Compression::Zstd, sink.level);
        if sink.segment_bytes.0 > sink.max_bytes.0 / 2 {
            let todo = "raise max_bytes to at least twice segment_bytes, or lower segment_bytes";
            let what = "max_bytes cannot hold two segments";
            self.refuse(steps!["sinks", name, "max_bytes"], what, todo);
        }
    }

    fn http(&mut self, name: &str, sink: &Http) {
        self.level(name, sink.compression, sink.level);
        if let Some((key, file)) = sink.auth.file() {
            self.absolute(steps!["sinks", name, "auth", key], file);
        }
        self.tls(name, &sink.tls, sink.url.is_https());
        self.span(steps!["sinks", name, "timeout"], sink.timeout, MILLISECOND..=HOUR);
        self.span(steps!["sinks", name, "backoff_base"], sink.backoff_base, MILLISECOND..=HOUR);
        self.span(steps!["sinks", name, "backoff_max"], sink.backoff_max, Duration::ZERO..=DAY);
        if sink.backoff_max < sink.backoff_base {
            let what = "backoff_max is less than backoff_base";
            self.refuse(steps!["sinks", name, "backoff_max"], what, "raise it");
        }
        let concurrency = steps!["sinks", name, "concurrency"];
        self.at_least_one(concurrency, sink.concurrency);
        if sink.concurrency > MOST_DELIVERIES {
            let todo = format!("use at most {MOST_DELIVERIES}");
            self.refuse(concurrency, "no server takes so many deliveries at once", todo);
        }
    }

    fn tls(&mut self, sink: &str, tls: &Tls, secure: bool) {
        for (key, file) in tls.files() {
            self.absolute(steps!["sinks", sink, "tls", key], file);
        }
        if !secure && *tls != Tls::default() {
            let what = "certificates are given, but the URL begins with http://";
            self.refuse_key(steps!["sinks", sink, "tls"], what, "use https:// or leave tls out");
        }
    }

    fn level(&mut self, name: &str, compression: Compression, level: i32) {
        let (kind, range) = match compression {
            Compression::Zstd => ("zstd", -7..=22),
            Compression::Gzip => ("gzip", 0..=9),
            Compression::None => return,
        };
        if !range.contains(&level) {
            let what = format!("{kind} has no level {level}");
            let todo = format!("use {} to {}; 1 is fast and good", range.start(), range.end());
            self.refuse(steps!["sinks", name, "level"], what, todo);
        }
    }
}
