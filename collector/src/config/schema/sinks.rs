//! Where records go: each type of sink, and its keys.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{GIB, MIB};
use crate::config::{Auth, ByteSize, Compression, Headers, Proxy, Span, Template, Tls, Url};

/// One destination. In YAML a mapping whose key `type` names the variant (see `typed`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there are a handful, read once")]
pub enum Sink {
    /// Standard output.
    Console(Console),
    /// A local file.
    File(FileSink),
    /// HTTP POST.
    Http(Http),
    /// The embedded, searchable archive.
    Archive(Archive),
    /// Nowhere: acknowledged at once. For measuring.
    Null(Null),
}

impl Sink {
    /// The word that `type` has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Console(_) => "console",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Archive(_) => "archive",
            Self::Null(_) => "null",
        }
    }
}

impl Serialize for Sink {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Content<'a> {
            Console(&'a Console),
            File(&'a FileSink),
            Http(&'a Http),
            Archive(&'a Archive),
            Null(&'a Null),
        }
        #[derive(Serialize)]
        struct Tagged<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            content: Content<'a>,
        }
        let content = match self {
            Self::Console(sink) => Content::Console(sink),
            Self::File(sink) => Content::File(sink),
            Self::Http(sink) => Content::Http(sink),
            Self::Archive(sink) => Content::Archive(sink),
            Self::Null(sink) => Content::Null(sink),
        };
        Tagged { r#type: self.kind(), content }.serialize(serializer)
    }
}

/// Standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// `human` or `json`.
    pub format: ConsoleFormat,
    /// Whether to colour.
    pub color: Color,
    /// Lines of one's own making in place of `human`. Empty: none.
    pub template: Template,
}

/// How the console shows records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleFormat {
    /// A line for people: time (UTC), pod, stream, message.
    #[default]
    Human,
    /// One JSON object a line, as other sinks get it.
    Json,
}

/// Whether the console colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A local file of NDJSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file being written; with compression, `.zst` or `.gz` is added if it does not end so.
    pub path: PathBuf,
    /// Rotated when larger than this.
    #[serde(default = "default_rotate_size")]
    pub rotate_size: ByteSize,
    /// Former files kept; 0: all.
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// `none`, `zstd` or `gzip`.
    #[serde(default = "no_compression")]
    pub compression: Compression,
    /// The compressor's level.
    #[serde(default = "default_level")]
    pub level: i32,
}

impl FileSink {
    /// The file that is written: `path`, and the ending of its compression if it does not have it.
    pub fn written(&self) -> PathBuf {
        let ending = self.compression.ending();
        let mut name = self.path.clone().into_os_string();
        if !name.as_encoded_bytes().ends_with(ending.as_bytes()) {
            name.push(ending);
        }
        name.into()
    }
}

/// HTTP POST of batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where to POST, `http://` or `https://`.
    pub url: Url,
    /// `ndjson` or `json` (an array).
    #[serde(default)]
    pub body: HttpBody,
    /// `zstd`, `gzip` or `none`; named in Content-Encoding.
    #[serde(default)]
    pub compression: Compression,
    /// The compressor's level.
    #[serde(default = "default_level")]
    pub level: i32,
    /// Further request headers.
    #[serde(default)]
    pub headers: Headers,
    /// Credentials.
    #[serde(default)]
    pub auth: Auth,
    /// Certificates.
    #[serde(default)]
    pub tls: Tls,
    /// `http://[USER:PASSWORD@]HOST:PORT`. Empty: HTTPS_PROXY, HTTP_PROXY and NO_PROXY are respected.
    #[serde(default)]
    pub proxy: Proxy,
    /// Bound on one whole attempt, connect to last byte of the reply.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// First pause after a failure; doubles up to `backoff_max`, with full jitter.
    #[serde(default = "default_backoff_base")]
    pub backoff_base: Span,
    /// Longest pause; also bounds what Retry-After may ask for.
    #[serde(default = "default_backoff_max")]
    pub backoff_max: Span,
    /// Most deliveries at once; adapts below it.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// What to do with a record that the server refuses for its content (400, 409, 413, 422, 451).
    #[serde(default)]
    pub on_reject: OnReject,
}

/// What a POST's body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum HttpBody {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// One JSON array.
    Json,
}

/// What to do with a record refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OnReject {
    /// Try again until it is taken; nothing is lost, the rest of its log waits.
    #[default]
    Retry,
    /// Drop it, counted, loudly.
    Drop,
}

/// The embedded archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Where segments lie. Empty: `archive` under the state directory.
    pub dir: Option<PathBuf>,
    /// What all segments may take, at every moment; the oldest go first.
    pub max_bytes: ByteSize,
    /// Segments whose last line was stored longer ago are removed, while the clock can be trusted.
    pub max_age: Span,
    /// A new segment is begun beyond this.
    pub segment_bytes: ByteSize,
    /// The compressor's level.
    pub level: i32,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            dir: None,
            max_bytes: ByteSize(GIB),
            max_age: Span(Duration::from_secs(7 * 86_400)),
            segment_bytes: ByteSize(32 * MIB),
            level: 1,
        }
    }
}

impl Archive {
    /// Where it lies: the configured directory, else `archive` under the state directory.
    pub fn directory(&self, state_dir: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| state_dir.join("archive"))
    }
}

/// Acknowledges everything, keeps nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Null {
    /// Whether to compress before throwing away, and how.
    pub compression: Option<Compression>,
}

fn default_rotate_size() -> ByteSize {
    ByteSize(100 * MIB)
}

fn default_keep() -> u32 {
    5
}

fn no_compression() -> Compression {
    Compression::None
}

fn default_level() -> i32 {
    1
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(30))
}

fn default_backoff_base() -> Span {
    Span(Duration::from_millis(200))
}

fn default_backoff_max() -> Span {
    Span(Duration::from_secs(30))
}

fn default_concurrency() -> u32 {
    8
}
