//! Configuration: one YAML file, every key with a default, unknown keys refused.
//!
//! Text → [`tree`] → [`typed`] → `check`: each step reports everything it can with line, column and
//! what to do. This is the only set of rules for values: a [`Config`] that left here starts an agent, and the
//! rest of the agent takes its values as they are (a URL, a header, an address is parsed here and nowhere
//! else). Whether files, directories and servers work shows when they are used, or when `deliver::check` is
//! asked. Changes nothing and opens nothing but the file itself.

mod charset;
mod check;
mod compression;
mod credentials;
mod destination;
pub mod glob;
mod headers;
mod host_name;
mod links;
mod listen;
mod problem;
pub mod schema;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod typed;
pub mod units;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub use charset::Charset;
pub use compression::Compression;
pub use credentials::{Auth, Identity, Tls};
pub use destination::{Proxy, Url};
pub use headers::{BATCH_ID, Headers};
pub use host_name::HostName;
pub use links::FollowLinks;
pub use listen::Listen;
pub use problem::{At, ConfigError, Problem, Report};
pub use schema::*;
pub use template::{Field, Part, Template};
pub use units::{ByteSize, Span};

/// Every key with its default and what it means, as `everyline config default` prints it.
pub const DEFAULT_YAML: &str = include_str!("default.yaml");

/// Where a configuration is looked for if none is named.
pub const DEFAULT_PATH: &str = "/etc/everyline/everyline.yaml";

/// Names a configuration file where the command line does not.
pub const PATH_VARIABLE: &str = "EVERYLINE_CONFIG";

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// The file it came from; None: no file was named and there is none at [`DEFAULT_PATH`].
    pub path: Option<PathBuf>,
}

impl Config {
    /// Reads the configuration from `path`, else from the file that `EVERYLINE_CONFIG` names, else
    /// from [`DEFAULT_PATH`] if that exists, else takes the defaults. `-` is standard input.
    pub fn load(path: Option<&Path>) -> Result<Loaded, ConfigError> {
        let named = path.map(Path::to_owned).or_else(|| {
            env::var_os(PATH_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
        });
        match named {
            Some(path) => Self::read(&path),
            None if Path::new(DEFAULT_PATH).exists() => Self::read(Path::new(DEFAULT_PATH)),
            None => Ok(Loaded { config: Self::default(), path: None }),
        }
    }

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let piped = path == Path::new("-");
        let name = if piped { "standard input".into() } else { path.display().to_string() };
        let bytes = if piped { stdin() } else { fs::read(path) };
        let bytes = bytes.map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        if bytes.is_empty() {
            // Most likely somebody is writing it: the defaults would collect other things elsewhere.
            let problem = Problem::new(
                "the file is empty",
                "write the configuration into it, or {} to have every default",
            );
            return Err(ConfigError::Invalid(Report::new(&name, "", vec![problem])));
        }
        let config = Self::parse_bytes(&bytes, &name)?;
        Ok(Loaded { config, path: Some(path.to_owned()) })
    }

    /// Reads a configuration from its text; `name` is what messages call it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut problems = Vec::new();
        let config = parse_into(text, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Invalid(Report::new(name, text, problems))),
        }
    }

    /// The same from any bytes.
    pub(crate) fn parse_bytes(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return Self::parse(text, name),
            Err(error) => error,
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let at = At {
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            length: 1,
        };
        let problem = Problem::new("not UTF-8 text", "save the file as UTF-8").at(at);
        Err(ConfigError::Invalid(Report::new(name, &text, vec![problem])))
    }

    /// This node's name: as configured, else the environment's `NODE_NAME`, else the host's name.
    pub fn resolved_node_name(&self) -> String {
        if !self.node_name.is_empty() {
            return self.node_name.clone();
        }
        match env::var("NODE_NAME") {
            Ok(name) if !name.is_empty() => name,
            _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }
}

fn parse_into(text: &str, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut root = match tree::read(text, problems) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    // What is refused is taken out of the tree.
    let whole = root.clone();
    let config = typed::read(&mut root, problems);
    if let Some(config) = &config {
        check::check(config, &root, problems);
    }
    check::check_variables(&whole, problems);
    config
}

fn stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes)?;
    Ok(bytes)
}
