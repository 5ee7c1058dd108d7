//! What Docker's files say of a container, as it stands there: nothing of it is checked yet.

use std::{collections::HashMap, io, io::Read, path::Path};

use serde::{Deserialize, de::IgnoredAny};

use crate::{descriptors, identity::beneath};

/// Docker's are a few KiB; large environments make them larger.
const LARGEST: u64 = 4 << 20;

/// The longest value taken over.
const LONGEST: usize = 512;

/// What Docker's file says, as it stands there.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Facts {
    /// Without the slash.
    pub(super) name: Option<String>,
    #[serde(rename = "ID")]
    pub(super) id: Option<String>,
    pub(super) config: Option<Inner>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Inner {
    pub(super) image: Option<String>,
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<HashMap<String, IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

/// Why something is missing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no such file: Docker is just making or removing the container.
    Missing,
    /// There is no descriptor to look with.
    Shortage(io::Error),
    /// What is wrong with it, in words.
    Unusable(String),
}

impl Facts {
    /// Reads a container's `config.v2.json`.
    ///
    /// # Errors
    /// Why it says nothing.
    pub(super) fn read(path: &Path) -> Result<Self, Trouble> {
        let mut facts: Self = parse(path)?;
        if let Some(name) = facts.name.as_mut().filter(|name| name.starts_with('/')) {
            name.remove(0);
        }
        Ok(facts)
    }

    /// A label's value.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The names of the networks that it is in.
    pub(super) fn networks(&self) -> impl Iterator<Item = &String> {
        let networks = self.network_settings.iter().flat_map(|settings| &settings.networks);
        networks.flat_map(HashMap::keys)
    }
}

/// Whose network a container has, as its `hostconfig.json` says.
///
/// # Errors
/// Why it says nothing.
pub(super) fn network_mode(path: &Path) -> Result<Option<String>, Trouble> {
    parse(path).map(|config: HostConfig| config.network_mode)
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Trouble> {
    let text = slurp(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Trouble::Missing,
        _ if descriptors::is_shortage(&error) => Trouble::Shortage(error),
        _ => Trouble::Unusable(error.to_string()),
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        // Not the parser's words: they quote what may be hostile and long.
        let (line, column) = (error.line(), error.column());
        Trouble::Unusable(format!("unexpected at line {line}, column {column}"))
    })
}

/// Whether a text can be shown as it is.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control)
}

fn slurp(path: &Path) -> io::Result<Vec<u8>> {
    let (file, _) = beneath::open(path)?;
    let mut text = Vec::new();
    if file.take(LARGEST + 1).read_to_end(&mut text)? as u64 > LARGEST {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn neither_links_nor_pipes_nor_giants_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        fs::File::create(path("giant")).unwrap().set_len(LARGEST + 1).unwrap();
        for name in ["pipe", "giant"] {
            assert!(matches!(Facts::read(&path(name)), Err(Trouble::Unusable(_))), "{name}");
        }
        assert!(matches!(Facts::read(&path("link")), Err(Trouble::Missing)));
    }
}
