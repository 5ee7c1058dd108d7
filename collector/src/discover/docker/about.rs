//! What Docker's `config.v2.json` says of a container.
//!
//! Names, labels and image are chosen by whoever starts the container: each is checked and, if
//! strange, left out by itself.

use std::{collections::HashMap, fs, io, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use serde::Deserialize;

use crate::{
    discover::kubernetes::{is_container, is_namespace, is_pod},
    read::descriptors,
};

/// Docker's are a few KiB; large environments make them larger.
const LARGEST: u64 = 4 << 20;

/// The longest value taken over.
const LONGEST: usize = 512;

/// What is known of a container; anything may be missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) pod: Option<String>,
    pub(super) uid: Option<String>,
    /// The name Kubernetes has for it.
    pub(super) container: Option<String>,
    pub(super) restarts: Option<String>,
    pub(super) compose_project: Option<String>,
    pub(super) compose_service: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ConfigV2 {
    name: Option<String>,
    config: Option<Inner>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Inner {
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
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
    /// Reads the file. Beside what could be learnt: why that is not all.
    pub(super) fn read(path: &Path) -> (Self, Option<Trouble>) {
        match slurp(path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(config) => (Self::of(config), None),
                Err(error) => {
                    // Not the parser's words: they quote what may be hostile and long.
                    let (line, column) = (error.line(), error.column());
                    let place = format!("unexpected at line {line}, column {column}");
                    (Self::default(), Some(Trouble::Unusable(place)))
                }
            },
            Err(error) => {
                let trouble = match error.kind() {
                    io::ErrorKind::NotFound => Trouble::Missing,
                    _ if descriptors::is_shortage(&error) => Trouble::Shortage(error),
                    _ => Trouble::Unusable(error.to_string()),
                };
                (Self::default(), Some(trouble))
            }
        }
    }

    fn of(config: ConfigV2) -> Self {
        let inner = config.config.unwrap_or_default();
        let mut labels = inner.labels.unwrap_or_default();
        let mut label = |name: &str| labels.remove(name);
        let name = config.name.map(|name| name.trim_start_matches('/').to_owned());
        Self {
            name: name.filter(|name| is_plain(name)),
            image: inner.image.filter(|image| is_plain(image)),
            namespace: label("io.kubernetes.pod.namespace").filter(|name| is_namespace(name)),
            pod: label("io.kubernetes.pod.name").filter(|name| is_pod(name)),
            uid: label("io.kubernetes.pod.uid").filter(|uid| is_pod(uid)),
            container: label("io.kubernetes.container.name").filter(|name| is_container(name)),
            restarts: label("annotation.io.kubernetes.container.restartCount")
                .filter(|count| count.parse::<u32>().is_ok()),
            compose_project: label("com.docker.compose.project").filter(|name| is_plain(name)),
            compose_service: label("com.docker.compose.service").filter(|name| is_plain(name)),
        }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control)
}

fn slurp(path: &Path) -> io::Result<Vec<u8>> {
    // Neither through a link nor waiting for the writer of a pipe.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    if file.take(LARGEST + 1).read_to_end(&mut text)? as u64 > LARGEST {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (About, Option<Trouble>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c"), text).unwrap();
        About::read(&dir.path().join("c"))
    }

    #[test]
    fn names_image_and_labels() {
        let (about, trouble) = read(
            r#"{"StreamConfig":{},"Name":"/web_1","Image":"sha256:1","Config":{"Image":"nginx:1.25",
            "Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}}}"#,
        );
        assert!(trouble.is_none());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!((about.name, about.image), (some("web_1"), some("nginx:1.25")));
        assert_eq!((about.compose_project, about.compose_service), (some("shop"), some("web")));
    }

    #[test]
    fn a_hostile_value_is_left_out_by_itself() {
        let (about, _) = read(
            "{\"Name\":\"/a\\u001b[31m\",\"Config\":{\"Image\":\"ok\",\"Labels\":{\
             \"io.kubernetes.pod.namespace\":\"../x\",\"io.kubernetes.pod.name\":\"fine\"}}}",
        );
        assert_eq!((about.name, about.namespace), (None, None));
        assert_eq!((about.image.as_deref(), about.pod.as_deref()), (Some("ok"), Some("fine")));
    }

    #[test]
    fn a_broken_file_is_trouble_and_a_missing_one_is_not() {
        for text in ["", "{", "7", "{\"Name\":7}", "{\"Config\":{\"Labels\":[]}}", "\u{0}"] {
            let (about, trouble) = read(text);
            assert!(matches!(trouble, Some(Trouble::Unusable(_))), "{text}");
            assert_eq!(about, About::default());
        }
        let (about, trouble) = About::read(Path::new("/nonexistent/c"));
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
        for name in ["link", "pipe", "giant"] {
            assert!(matches!(About::read(&path(name)).1, Some(Trouble::Unusable(_))), "{name}");
        }
    }
}
