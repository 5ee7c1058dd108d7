//! What Docker's `config.v2.json` and `hostconfig.json` say of a container.
//!
//! Names, labels and image are chosen by whoever starts the container: each is checked and, if
//! strange, left out by itself. Which of the labels are true is told by `kubelet` and `compose`.

use std::{collections::HashMap, io, io::Read, path::Path};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    compose,
    kubelet::{Claim, Member},
};
use crate::read::{beneath, descriptors};

/// Docker's are a few KiB; large environments make them larger.
const LARGEST: u64 = 4 << 20;

/// The longest value taken over.
const LONGEST: usize = 512;

/// What is known of a container; anything may be missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    /// Of which pod it is, if kubelet made it.
    pub(super) member: Option<Member>,
    pub(super) compose_project: Option<String>,
    pub(super) compose_service: Option<String>,
    /// It says that it is of a pod, and that is not so.
    pub(super) pretends: bool,
}

/// What Docker's file says, as it stands there.
#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Facts {
    /// Without the slash.
    pub(super) name: Option<String>,
    #[serde(rename = "ID")]
    id: Option<String>,
    config: Option<Inner>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Inner {
    image: Option<String>,
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

impl About {
    /// What is told of the container `id`, whose directory this is. Beside what could be learnt: why
    /// that is not all.
    pub(super) fn read(directory: &Path, id: &str) -> (Self, Option<Trouble>) {
        match Facts::read(&directory.join("config.v2.json")) {
            Ok(facts) if facts.id.as_ref().is_some_and(|other| other != id) => {
                let other = "it is another container's".to_owned();
                (Self::default(), Some(Trouble::Unusable(other)))
            }
            Ok(facts) => Self::of(directory, id, facts),
            Err(trouble) => (Self::default(), Some(trouble)),
        }
    }

    fn of(directory: &Path, id: &str, facts: Facts) -> (Self, Option<Trouble>) {
        let service = compose::service(&facts);
        let service = service.map(|(project, service)| (project.to_owned(), service.to_owned()));
        let (compose_project, compose_service) = service.unzip();
        let (member, pretends, trouble) = match Claim::of(directory, id, &facts) {
            Claim::None => (None, false, None),
            Claim::True(member) => (Some(member), false, None),
            Claim::Unproved => (None, true, None),
            // Perhaps Docker is just removing both. What was known before still holds.
            Claim::Unknown(trouble) => (None, true, Some(trouble.unwrap_or(Trouble::Missing))),
        };
        let image = facts.config.and_then(|inner| inner.image).filter(|image| is_plain(image));
        let name = facts.name.filter(|name| is_plain(name));
        (Self { name, image, member, compose_project, compose_service, pretends }, trouble)
    }
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

    fn read(text: &str) -> (About, Option<Trouble>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.v2.json"), text).unwrap();
        About::read(dir.path(), "c0")
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn names_image_and_labels() {
        let (about, trouble) = read(
            r#"{"StreamConfig":{},"ID":"c0","Name":"/shop-web-1","Image":"sha256:1","Config":{"Image":"nginx:1.25",
            "Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}}}"#,
        );
        assert!(trouble.is_none());
        assert_eq!((about.name, about.image), (some("shop-web-1"), some("nginx:1.25")));
        assert_eq!((about.compose_project, about.compose_service), (some("shop"), some("web")));
    }

    #[test]
    fn an_image_cannot_put_its_container_into_a_project() {
        let labels =
            r#""Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}"#;
        let networks =
            |name: &str| format!(r#""NetworkSettings":{{"Networks":{{"{name}":{{}}}}}}"#);
        let of = |name: &str, network: &str| {
            let networks = networks(network);
            let text = format!(r#"{{"Name":"/{name}","Config":{{{labels}}},{networks}}}"#);
            read(&text).0.compose_project
        };
        assert_eq!(of("evil", "bridge"), None);
        assert_eq!(of("shop", "shopping_default"), None);
        assert_eq!(of("named-by-its-owner", "shop_default"), some("shop"));
        assert_eq!(of("shop-web-2", "bridge"), some("shop"));
    }

    #[test]
    fn a_hostile_value_is_left_out_by_itself() {
        let (about, _) = read(
            "{\"Name\":\"/a\\u001b[31m\",\"Config\":{\"Image\":\"ok\",\"Labels\":{\
             \"io.kubernetes.pod.namespace\":\"../x\",\"io.kubernetes.pod.name\":\"fine\"}}}",
        );
        assert_eq!((about.name, about.member), (None, None));
        assert!(about.pretends && about.image == some("ok"));
    }

    #[test]
    fn a_broken_file_is_trouble_and_a_missing_one_is_not() {
        let other = "{\"ID\":\"c1\",\"Name\":\"/web\"}";
        let broken = ["", "{", "7", "{\"Name\":7}", "{\"Config\":{\"Labels\":[]}}", "\u{0}"];
        for text in broken.into_iter().chain([other]) {
            let (about, trouble) = read(text);
            assert!(matches!(trouble, Some(Trouble::Unusable(_))), "{text}");
            assert_eq!(about, About::default());
        }
        let (about, trouble) = About::read(Path::new("/nonexistent"), "c0");
        assert!(matches!(trouble, Some(Trouble::Missing)));
        assert_eq!(about, About::default());
        let (about, trouble) = read("{\"Config\":null}");
        assert!(about == About::default() && trouble.is_none());
    }

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
