//! The configuration's shape and its defaults. Keys and their documentation are written once, here.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Auth, ByteSize, Charset, Compression, FollowLinks, Headers, HostName, Listen, Proxy, Span,
    Template, Tls, Url,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name in every record. Empty: the environment's NODE_NAME, else the host's name.
    pub node_name: String,
    /// Where checkpoints, the lock and the archive live.
    pub state_dir: PathBuf,
    /// Where the host's root is mounted; log paths below are looked up under it.
    pub host_root: PathBuf,
    /// Where logs are.
    pub sources: Sources,
    /// How they are read.
    pub read: Read,
    /// How changes are noticed.
    pub watch: Watch,
    /// How records are grouped.
    pub batch: Batch,
    /// Bytes that may be between reader and acknowledgement, all sinks together.
    pub memory_budget: ByteSize,
    /// How often acknowledged offsets are made durable.
    pub checkpoint_interval: Span,
    /// How long a stopping agent goes on delivering what it has read.
    pub drain_timeout: Span,
    /// Where records go, by name. None configured: an archive under the state directory.
    pub sinks: BTreeMap<String, Sink>,
    /// Metrics, health and status over HTTP.
    pub admin: Admin,
    /// The agent's own log (standard error).
    pub log: Log,
}

/// Where logs are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Kubernetes: the kubelet's pod log directory.
    pub kubernetes: Kubernetes,
    /// Docker's json-file logs.
    pub docker: Docker,
    /// Other files, by pattern.
    pub files: Vec<Files>,
}

/// Kubernetes container logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether to look at all.
    pub enabled: bool,
    /// `NAMESPACE_POD_UID/CONTAINER/N.log` lie here.
    pub pods_dir: PathBuf,
    /// `*.log` links to the same files (older layouts); resolved, never counted twice.
    pub containers_dir: PathBuf,
    /// How long a new container's first lines wait for its link there, which tells `container.id`.
    pub wait_for_id: Span,
    /// A new log with more names (hard links) than this is refused. 0: any number.
    pub max_links: u32,
    /// Only what matches (empty: everything).
    pub include: Filter,
    /// Nothing that matches; wins over include.
    pub exclude: Filter,
}

/// Docker's json-file logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// Whether to look at all.
    pub enabled: bool,
    /// `ID/ID-json.log` lie here. Pods' links to logs are followed to here and nowhere else.
    pub containers_dir: PathBuf,
    /// A new log with more names (hard links) than this is refused. 0: any number.
    pub max_links: u32,
    /// Only what matches (empty: everything). `container` matches the name and the id.
    pub include: Filter,
    /// Nothing that matches; wins over include.
    pub exclude: Filter,
}

/// Which logs. Each list holds globs; a log matches the filter if it matches any glob of any list
/// that is not empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Kubernetes namespaces.
    pub namespaces: Vec<String>,
    /// Pod names.
    pub pods: Vec<String>,
    /// Container names.
    pub containers: Vec<String>,
    /// Paths of log files.
    pub paths: Vec<String>,
}

/// Files named by pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Globs of absolute paths; `**` spans directories.
    pub paths: Vec<String>,
    /// Globs of paths to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How lines are laid out.
    #[serde(default)]
    pub format: FileFormat,
    /// How the characters of plain files are encoded that do not say so by a byte-order mark.
    #[serde(default)]
    pub encoding: Charset,
    /// Where matching links may lead.
    #[serde(default)]
    pub follow_links: FollowLinks,
    /// A new file with more names (hard links) than this is refused. 0: any number.
    #[serde(default)]
    pub max_links: u32,
    /// Attributes added to every record.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// How lines of a statically configured file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// One message a line.
    #[default]
    Plain,
    /// The CRI log format.
    Cri,
    /// Docker's json-file.
    DockerJson,
}

/// How logs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Read {
    /// Where to start in a file seen for the first time.
    pub start: Start,
    /// Reader threads. 0: one a core, at most 4.
    pub threads: usize,
    /// A message longer than this is split or cut.
    pub max_line_bytes: ByteSize,
    /// What to do with a longer one.
    pub long_lines: LongLines,
    /// A message whose end is not there is ended when nothing has followed it for this long.
    pub unfinished_after: Span,
    /// Bytes read from one file before the next file's turn.
    pub quantum: ByteSize,
    /// What one compressed former file may unpack to; what is beyond it is not read.
    pub max_unpacked_bytes: ByteSize,
    /// What all compressed files may take on disk while they are unpacked.
    pub unpacking_bytes: ByteSize,
}

/// Where to start in a file seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At its first byte.
    #[default]
    Beginning,
    /// At its end, for what is there when the agent first starts; files born later are read whole.
    End,
}

/// What to do with a message longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LongLines {
    /// Deliver it in numbered pieces.
    #[default]
    Split,
    /// Deliver its beginning and count the rest as dropped.
    Cut,
}

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Which mechanism.
    pub mode: WatchMode,
    /// How often polled files and directories are looked at.
    pub poll_interval: Span,
    /// How often everything is looked at, whatever the mode (writes that nothing notices: mmap,
    /// network filesystems).
    pub sweep_interval: Span,
    /// The kernel watch.
    pub kernel: KernelWatch,
}

/// Which mechanism notices changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    /// The best that works here.
    #[default]
    Auto,
    /// The kernel's own tally, inotify where it does not reach.
    Kernel,
    /// inotify, polling what it cannot cover.
    Inotify,
    /// Polling only.
    Poll,
}

/// The kernel watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelWatch {
    /// Which kind of hook sees writes.
    pub hook: KernelHook,
    /// Where programs and tallies are pinned (a bpffs), to go on while no agent runs.
    pub pin_dir: PathBuf,
    /// Files and directories watched at most; the rest is left to inotify.
    pub max_files: u32,
}

/// Which kind of hook sees writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum KernelHook {
    /// The best that the kernel takes.
    #[default]
    Auto,
    /// The end of the filesystem's write function.
    Fexit,
    /// The filesystem's tracepoints.
    Tracepoint,
}

impl std::fmt::Display for KernelHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fexit => "fexit",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// How records are grouped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Bytes before compression.
    pub max_bytes: ByteSize,
    /// Records.
    pub max_lines: u32,
    /// Age of the first record; 0: as soon as nothing is left to read. Lines that are written without
    /// pause are looked for twice in that time, where the kernel watches.
    pub max_age: Span,
}

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

/// Acknowledges everything, keeps nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Null {
    /// Whether to compress before throwing away, and how.
    pub compression: Option<Compression>,
}

/// Metrics, health and status over HTTP, GET only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Whether to listen.
    pub enabled: bool,
    /// Address and port.
    pub listen: Listen,
    /// Names that it is asked under, besides addresses and this machine's own names.
    pub hosts: Vec<HostName>,
}

/// The agent's own log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How much is said in the agent's own log: what is named and everything more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Lines are lost, or an operator is needed.
    Error,
    /// Something went wrong and was mended.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How the agent's own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            state_dir: "/var/lib/everyline".into(),
            host_root: "/".into(),
            sources: Sources::default(),
            read: Read::default(),
            watch: Watch::default(),
            batch: Batch::default(),
            memory_budget: ByteSize(16 * MIB),
            checkpoint_interval: Span(Duration::from_secs(1)),
            drain_timeout: Span(Duration::from_secs(25)),
            sinks: BTreeMap::new(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: true,
            pods_dir: "/var/log/pods".into(),
            containers_dir: "/var/log/containers".into(),
            wait_for_id: Span(Duration::from_secs(2)),
            max_links: 0,
            include: Filter::default(),
            exclude: Filter::default(),
        }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            enabled: true,
            containers_dir: "/var/lib/docker/containers".into(),
            max_links: 0,
            include: Filter::default(),
            exclude: Filter::default(),
        }
    }
}

impl Default for Read {
    fn default() -> Self {
        Self {
            start: Start::Beginning,
            threads: 0,
            max_line_bytes: ByteSize(MIB),
            long_lines: LongLines::Split,
            unfinished_after: Span(Duration::from_secs(5)),
            quantum: ByteSize(MIB),
            max_unpacked_bytes: ByteSize(4 * GIB),
            unpacking_bytes: ByteSize(64 * MIB),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            mode: WatchMode::Auto,
            poll_interval: Span(Duration::from_millis(250)),
            sweep_interval: Span(Duration::from_secs(5)),
            kernel: KernelWatch::default(),
        }
    }
}

impl Default for KernelWatch {
    fn default() -> Self {
        let pin_dir = "/sys/fs/bpf/everyline".into();
        Self { hook: KernelHook::Auto, pin_dir, max_files: collector_ebpf::SLOTS }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_bytes: ByteSize(MIB), max_lines: 10_000, max_age: Span(Duration::from_secs(1)) }
    }
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

impl Default for Admin {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9477));
        Self { enabled: true, listen: Listen(listen), hosts: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
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
