//! What Docker's `config.v2.json` and `hostconfig.json` say of a container.
//!
//! Names, labels and image are chosen by whoever starts the container: each is checked and, if
//! strange, left out by itself. Which of the labels are true is told by `kubelet` and `compose`.

use std::path::Path;

use super::{
    compose,
    facts::{Facts, Trouble, is_plain},
    kubelet::{Claim, Member},
};

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
}
