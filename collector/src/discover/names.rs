//! Kubelet's names for log directories and links, to and fro.
//!
//! `NAMESPACE_POD_UID/CONTAINER/N.log` under the pods directory (kubelet's `BuildPodLogsDirectory`
//! and `BuildContainerLogsDirectory`), `POD_NAMESPACE_CONTAINER-ID.log` for the older links
//! (`LogSymlink`). None of the parts but a container's name (here: leniently) may hold an
//! underscore, so there is one way to take them apart. A link's name that would be longer than a
//! filesystem allows kubelet cuts, wherever that is.

use std::fmt;

/// The longest name of a file, and what is left of it before `.log`.
const LONGEST_FILE: usize = 255;
const LONGEST_STEM: usize = LONGEST_FILE - ".log".len();
/// Digits of the ids that containerd, CRI-O and Docker give.
const ID_DIGITS: usize = 64;
/// So many hexadecimal digits at the end of a cut name are an id's beginning; fewer may be part of a
/// container's name (`app-beef`).
const SURELY_DIGITS: usize = 8;

/// The longest names the API server admits.
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_POD: usize = 253;
const LONGEST_CONTAINER: usize = 63;
const LONGEST_UID: usize = 128;
const LONGEST_ID: usize = 128;

/// `NAMESPACE_POD_UID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodDirectory {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// A UUID; of a static pod the hash of its manifest, see [`is_uid`].
    pub(crate) uid: String,
}

/// `POD_NAMESPACE_CONTAINER-ID.log`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// None: cut off, or so cut that it may be another one's.
    pub(crate) container: Option<String>,
    /// None: cut off, if only in part.
    pub(crate) id: Option<String>,
}

impl PodDirectory {
    /// Takes a directory's name apart; `None` if kubelet would not have given it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let fine = parts.next().is_none()
            && is_name(namespace, LONGEST_NAMESPACE)
            && is_name(pod, LONGEST_POD)
            && is_name(uid, LONGEST_UID);
        fine.then(|| Self { namespace: namespace.into(), pod: pod.into(), uid: uid.into() })
    }
}

impl fmt::Display for PodDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.namespace, self.pod, self.uid)
    }
}

impl Link {
    /// Takes a link's name apart; `None` if kubelet would not have given it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".log")?.splitn(3, '_');
        let (pod, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if !is_name(namespace, LONGEST_NAMESPACE) || !is_name(pod, LONGEST_POD) {
            return None;
        }
        let is_whole = |id: &str| id.len() == ID_DIGITS && is_hex(id);
        let split = rest.rsplit_once('-');
        if name.len() >= LONGEST_FILE && !split.is_some_and(|(_, id)| is_whole(id)) {
            return Self::cut(namespace, pod, rest);
        }
        let (container, id) = split?;
        let fine = is_container(container) && is_id(id);
        let (namespace, pod) = (namespace.into(), pod.into());
        let (container, id) = (Some(container.into()), Some(id.into()));
        fine.then_some(Self { namespace, pod, container, id })
    }

    /// Of a name that kubelet cut in the container's name or the id.
    fn cut(namespace: &str, pod: &str, rest: &str) -> Option<Self> {
        let split = rest.rsplit_once('-');
        let whole = split.filter(|(_, id)| id.len() >= SURELY_DIGITS && is_hex(id));
        let container = whole.map(|(container, _)| container).filter(|it| is_container(it));
        rest.bytes().all(in_container).then(|| Self {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.map(Into::into),
            id: None,
        })
    }

    /// Whether the link's name has room for the whole id of such a container.
    pub(super) fn tells_id_of(namespace: &str, pod: &str, container: &str) -> bool {
        namespace.len() + pod.len() + container.len() + "__-".len() + ID_DIGITS <= LONGEST_STEM
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, pod, container, id } = self;
        let (container, id) = (container.as_deref().unwrap_or_default(), id.as_deref());
        let name = format!("{pod}_{namespace}_{container}-{}", id.unwrap_or_default());
        write!(f, "{:.*}.log", LONGEST_STEM, name)
    }
}

/// Whether that is a pod's uid as the API server has it. A static pod has none when its directory is made: what
/// kubelet calls it by is the hash of its manifest (the annotation `kubernetes.io/config.hash`), and the
/// pod that the API server shows for it has another one.
pub(super) fn is_uid(uid: &str) -> bool {
    uid.len() != 32 || !is_hex(uid)
}

/// The restart count in `N.log`.
pub(super) fn restart_count(name: &str) -> Option<u32> {
    let count = name.strip_suffix(".log")?;
    let digits = !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit());
    // `007.log` is nobody's seventh restart.
    let canonical = digits && (count == "0" || !count.starts_with('0'));
    canonical.then(|| count.parse().ok())?
}

/// Whether a container may be called so.
pub(super) fn is_container(name: &str) -> bool {
    is_sized(name, LONGEST_CONTAINER) && name.bytes().all(in_container)
}

fn in_container(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-._".contains(&c)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether a runtime may have given a container this id.
pub(super) fn is_id(id: &str) -> bool {
    is_sized(id, LONGEST_ID) && id.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a namespace or pod may be called so: what the API server admits, in either case.
pub(super) fn is_name(name: &str, longest: usize) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-.".contains(&c);
    is_sized(name, longest) && name.bytes().all(allowed) && !name.starts_with('.')
}

/// As [`is_name`], of namespaces.
pub(super) fn is_namespace(name: &str) -> bool {
    is_name(name, LONGEST_NAMESPACE)
}

/// As [`is_name`], of pods.
pub(super) fn is_pod(name: &str) -> bool {
    is_name(name, LONGEST_POD)
}

fn is_sized(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pods_and_static_pods() {
        let pod = PodDirectory::parse("shop_cart-7d4f.x_3b2c6a1e-0000-4000-8000-1234567890ab");
        let pod = pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.pod.as_str()), ("shop", "cart-7d4f.x"));
        let mirror = PodDirectory::parse("kube-system_etcd-node1_0123456789abcdef0123456789abcdef");
        assert_eq!(mirror.unwrap().uid, "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn a_manifests_hash_is_no_uid() {
        assert!(!is_uid("0123456789abcdef0123456789abcdef"));
        for uid in
            ["3b2c6a1e-0000-4000-8000-1234567890ab", "uid-1", &"z".repeat(32), &"a".repeat(31)]
        {
            assert!(is_uid(uid), "{uid}");
        }
    }

    #[test]
    fn of_a_cut_link_only_what_is_whole_is_told() {
        let (namespace, pod) = ("n".repeat(40), "p".repeat(120));
        let cut = |container: &str| {
            let (container, id) = (Some(container.to_owned()), Some("d".repeat(64)));
            let link = Link { namespace: namespace.clone(), pod: pod.clone(), container, id };
            let name = link.to_string();
            (name.len(), Link::parse(&name).unwrap())
        };
        let container = |length: usize| "c".repeat(length - 1) + "x";
        // The last one with a whole id, then 63 digits of it, and fewer and fewer.
        let (length, link) = cut(&container(24));
        assert_eq!((length, link.id), (255, Some("d".repeat(64))));
        for long in [25, 40, 63] {
            let (length, link) = cut(&container(long));
            assert_eq!(
                (length, link.id, link.container),
                (255, None, Some(container(long))),
                "{long}"
            );
        }
        let longer = |pod: &str, container: &str| {
            let (container, id) = (Some(container.to_owned()), Some("d".repeat(64)));
            let link = Link { namespace: namespace.clone(), pod: pod.to_owned(), container, id };
            Link::parse(&link.to_string()).unwrap().container
        };
        assert_eq!(longer(&"p".repeat(150), &container(58)), None, "one digit is left");
        assert_eq!(longer(&"p".repeat(170), "worker-beef-and-more-than-there-is-room-for"), None);
    }

    #[test]
    fn strange_names_are_refused() {
        let long = "a".repeat(64);
        for name in [
            "",
            "_",
            "__",
            "a_b",
            "a_b_",
            "a_b_c_d",
            "a b_c_d",
            "a_b/c_d",
            "a_\u{1b}[31m_d",
            "a_é_d",
            ".._b_c",
            "a_._c",
            &format!("{long}_b_c"),
        ] {
            assert_eq!(PodDirectory::parse(name), None, "{name}");
        }
        for name in ["a_b_c.log", "a_b_-1.log", "a_b_c-.log", "a_b_c-1", "a_b_c-x y.log", ".log"] {
            assert_eq!(Link::parse(name), None, "{name}");
        }
        for name in
            ["", ".log", "x.log", "-1.log", "00.log", "1.log.1", "99999999999.log", "+1.log"]
        {
            assert_eq!(restart_count(name), None, "{name}");
        }
        assert_eq!(restart_count("12.log"), Some(12));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_rendered_pod_directory_is_parsed_back(
            namespace in "[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?",
            pod in "[a-z0-9]([-.a-z0-9]{0,120}[a-z0-9])?",
            uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}",
        ) {
            let names = PodDirectory { namespace, pod, uid };
            prop_assert_eq!(PodDirectory::parse(&names.to_string()), Some(names));
        }

        #[test]
        fn a_rendered_link_is_parsed_back(
            namespace in "[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?",
            pod in "[a-z0-9]([-.a-z0-9]{0,100}[a-z0-9])?",
            container in "[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?",
            id in "[0-9a-f]{64}",
        ) {
            let link = Link { namespace, pod, container: Some(container), id: Some(id) };
            prop_assert_eq!(Link::parse(&link.to_string()), Some(link));
        }

        /// However long the names are: an id that is told is the container's, and so is a name.
        #[test]
        fn a_cut_link_tells_nothing_wrong(
            namespace in "[a-z0-9][-a-z0-9]{40,61}[a-z0-9]",
            pod in "[a-z0-9][-.a-z0-9]{60,150}[a-z0-9]",
            container in "[a-z0-9][-a-z0-9]{0,61}[a-z0-9]",
            id in "[0-9a-f]{64}",
        ) {
            let link = Link { namespace, pod, container: Some(container), id: Some(id) };
            let name = link.to_string();
            prop_assert!(name.len() <= LONGEST_FILE);
            let Link { namespace, pod, container, id } = link;
            let whole = Link::tells_id_of(&namespace, &pod, container.as_deref().unwrap());
            let parsed = Link::parse(&name).unwrap();
            prop_assert_eq!((&parsed.namespace, &parsed.pod), (&namespace, &pod));
            prop_assert_eq!(parsed.id.is_some(), whole);
            prop_assert!(parsed.id.is_none() || parsed.id == id);
            let surely_another = container.as_deref().unwrap().rsplit('-').next().unwrap();
            if surely_another.len() < SURELY_DIGITS || !is_hex(&surely_another[..SURELY_DIGITS]) {
                prop_assert!(parsed.container.is_none() || parsed.container == container);
            }
        }

        #[test]
        fn no_name_is_a_panic(name in "\\PC{0,60}|[a-z0-9_.\\-]{0,60}(\\.log)?") {
            let _ = (PodDirectory::parse(&name), Link::parse(&name), restart_count(&name));
        }
    }
}
