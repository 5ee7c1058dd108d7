//! Every sink on its own: names, addresses, credentials, levels.

use std::path::PathBuf;

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};

use super::{Checker, steps};
use crate::{
    batch::Compression,
    config::{Archive, Auth, Config, FileSink, Http, Sink, Tls},
};

/// Headers that a request gets from what it carries.
const OWN_HEADERS: [&str; 5] =
    ["content-encoding", "content-length", "content-type", "host", "transfer-encoding"];

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
                Sink::Console(_) | Sink::Null(_) => {}
                Sink::File(sink) => self.file(name, sink),
                Sink::Http(sink) => self.http(name, sink),
                Sink::Archive(sink) => self.archive(name, sink),
            }
        }
    }

    fn file(&mut self, name: &str, sink: &FileSink) {
        if self.absolute(steps!["sinks", name, "path"], &sink.path)
            && sink.path.file_name().is_none()
        {
            let todo = "name a file, like /var/log/everyline.ndjson";
            self.refuse(steps!["sinks", name, "path"], "this path names no file", todo);
        }
        self.size(steps!["sinks", name, "rotate_size"], sink.rotate_size);
        self.level(name, sink.compression, sink.level);
    }

    fn archive(&mut self, name: &str, sink: &Archive) {
        if let Some(dir) = &sink.dir {
            self.absolute(steps!["sinks", name, "dir"], dir);
        }
        self.size(steps!["sinks", name, "max_bytes"], sink.max_bytes);
        self.span(steps!["sinks", name, "max_age"], sink.max_age);
        self.size(steps!["sinks", name, "segment_bytes"], sink.segment_bytes);
        self.level(name, Compression::Zstd, sink.level);
        if sink.segment_bytes.0 > sink.max_bytes.0 / 2 {
            let todo = "raise max_bytes to at least twice segment_bytes, or lower segment_bytes";
            let what = "max_bytes cannot hold two segments";
            self.refuse(steps!["sinks", name, "max_bytes"], what, todo);
        }
    }

    fn http(&mut self, name: &str, sink: &Http) {
        if let Err(what) = check_url(&sink.url, &["http", "https"]) {
            let what = format!("`{}` is not a URL to POST to: {what}", without_user(&sink.url));
            let todo = "write it like https://logs.example.com:8080/ingest";
            self.refuse(steps!["sinks", name, "url"], what, todo);
        }
        if !sink.proxy.is_empty()
            && let Err(what) = check_url(&without_user(&sink.proxy), &["http"])
        {
            let what = format!("this is not a proxy's URL: {what}");
            self.refuse(steps!["sinks", name, "proxy"], what, "write it like http://proxy:3128");
        }
        self.level(name, sink.compression, sink.level);
        self.headers(name, sink);
        self.auth(name, &sink.auth);
        self.tls(name, &sink.tls, sink.url.starts_with("http://"));
        self.span(steps!["sinks", name, "timeout"], sink.timeout);
        self.span(steps!["sinks", name, "backoff_base"], sink.backoff_base);
        if sink.backoff_max < sink.backoff_base {
            let what = "backoff_max is less than backoff_base";
            self.refuse(steps!["sinks", name, "backoff_max"], what, "raise it");
        }
        self.at_least_one(steps!["sinks", name, "concurrency"], sink.concurrency);
    }

    fn headers(&mut self, sink: &str, http: &Http) {
        for (name, value) in &http.headers {
            let path = steps!["sinks", sink, "headers", name];
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let what = format!("`{}` is no name for a header", name.escape_debug());
                self.refuse_key(path, what, "use letters, digits and -");
            } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                let what = format!("the header `{name}` follows from the body and the URL");
                self.refuse_key(path, what, "leave it out; see body, compression and url");
            } else if HeaderValue::from_str(value).is_err() {
                let what = format!("the value of the header `{name}` has control characters");
                self.refuse(path, what, "take them out");
            }
        }
    }

    fn auth(&mut self, sink: &str, auth: &Auth) {
        let Auth { basic_user, basic_password_file, bearer_token_file, .. } = auth;
        let at = |key: &str| steps!["sinks", sink, "auth", key].to_vec();
        let basic = !basic_user.is_empty() || basic_password_file.is_some();
        let header = !auth.header_name.is_empty() || auth.header_value_file.is_some();
        if u8::from(basic) + u8::from(bearer_token_file.is_some()) + u8::from(header) > 1 {
            let path = steps!["sinks", sink, "auth"];
            self.refuse_key(
                path,
                "more than one kind of credentials",
                "keep basic, bearer or header",
            );
        }
        if basic && (basic_user.is_empty() || basic_password_file.is_none()) {
            let present = if basic_user.is_empty() { "basic_password_file" } else { "basic_user" };
            let what = "basic credentials are incomplete";
            self.refuse_key(&at(present), what, "give both basic_user and basic_password_file");
        }
        if header && (auth.header_name.is_empty() || auth.header_value_file.is_none()) {
            let lone = auth.header_name.is_empty();
            let present = if lone { "header_value_file" } else { "header_name" };
            let what = "header credentials are incomplete";
            self.refuse_key(&at(present), what, "give both header_name and header_value_file");
        }
        if !auth.header_name.is_empty()
            && HeaderName::from_bytes(auth.header_name.as_bytes()).is_err()
        {
            let what = format!("`{}` is no name for a header", auth.header_name.escape_debug());
            self.refuse(&at("header_name"), what, "use letters, digits and -");
        }
        let files = [
            ("basic_password_file", basic_password_file),
            ("bearer_token_file", bearer_token_file),
            ("header_value_file", &auth.header_value_file),
        ];
        for (key, file) in files {
            self.optional(&at(key), file.as_ref());
        }
    }

    fn tls(&mut self, sink: &str, tls: &Tls, plain: bool) {
        let Tls { ca_file, cert_file, key_file, server_name } = tls;
        let at = |key: &str| steps!["sinks", sink, "tls", key].to_vec();
        for (key, file) in [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)]
        {
            self.optional(&at(key), file.as_ref());
        }
        match (cert_file, key_file) {
            (Some(_), None) => {
                let what = "a client certificate without its key";
                self.refuse_key(&at("cert_file"), what, "add key_file, or leave cert_file out");
            }
            (None, Some(_)) => {
                let what = "a key without its client certificate";
                self.refuse_key(&at("key_file"), what, "add cert_file, or leave key_file out");
            }
            _ => {}
        }
        if plain && *tls != Tls::default() {
            let what = "certificates are given, but the URL begins with http://";
            self.refuse_key(steps!["sinks", sink, "tls"], what, "use https:// or leave tls out");
        }
        let name = rustls_pki_types::ServerName::try_from(server_name.as_str());
        if !server_name.is_empty() && name.is_err() {
            let what = format!("`{}` is no name for a server", server_name.escape_debug());
            self.refuse(&at("server_name"), what, "give a DNS name or an IP address");
        }
    }

    fn optional(&mut self, path: &[String], file: Option<&PathBuf>) {
        if let Some(file) = file {
            self.absolute(path, file);
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

fn check_url(url: &str, schemes: &[&str]) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !schemes.contains(&scheme) {
        return Err(format!("it must begin with {}://", schemes.join(":// or ")));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("credentials do not belong there (use auth)".to_owned())
        }
        Some(authority) if !authority.host().is_empty() => Ok(()),
        _ => Err("it names no host".to_owned()),
    }
}

/// The URL without what may be a password.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('@') {
            Some((_, host)) => format!("{scheme}://{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}
