//! Kubelet's names for log directories and links, to and fro.
//!
//! `NAMESPACE_POD_UID/CONTAINER/N.log` under the pods directory (kubelet's `BuildPodLogsDirectory`
//! and `BuildContainerLogsDirectory`), `POD_NAMESPACE_CONTAINER-ID.log` for the older links
//! (`LogSymlink`). None of the parts but a container's name (here: leniently) may hold an
//! underscore, so there is one way to take them apart.

use std::fmt;

/// The longest names the API server admits.
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_POD: usize = 253;
const LONGEST_CONTAINER: usize = 63;
const LONGEST_UID: usize = 128;
const LONGEST_ID: usize = 128;

/// `NAMESPACE_POD_UID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodDirectory {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// A UUID; of a static pod the hash of its manifest.
    pub(crate) uid: String,
}

/// `POD_NAMESPACE_CONTAINER-ID.log`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) id: String,
}

impl PodDirectory {
    /// Takes a directory's name apart; `None` if kubelet would not have given it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
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
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".log")?.splitn(3, '_');
        let (pod, namespace) = (parts.next()?, parts.next()?);
        let (container, id) = parts.next()?.rsplit_once('-')?;
        let fine = is_name(namespace, LONGEST_NAMESPACE)
            && is_name(pod, LONGEST_POD)
            && is_container(container)
            && is_id(id);
        fine.then(|| Self {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
            id: id.into(),
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}-{}.log", self.pod, self.namespace, self.container, self.id)
    }
}

/// The restart count in `N.log`.
pub(crate) fn restart_count(name: &str) -> Option<u32> {
    let count = name.strip_suffix(".log")?;
    let digits = !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit());
    // `007.log` is nobody's seventh restart.
    let canonical = digits && (count == "0" || !count.starts_with('0'));
    canonical.then(|| count.parse().ok())?
}

/// Whether a container may be called so.
pub(crate) fn is_container(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    is_sized(name, LONGEST_CONTAINER) && name.bytes().all(allowed)
}

/// Whether a runtime may have given a container this id.
pub(crate) fn is_id(id: &str) -> bool {
    is_sized(id, LONGEST_ID) && id.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a namespace or pod may be called so: what the API server admits, in either case.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-.".contains(&c);
    is_sized(name, longest) && name.bytes().all(allowed) && !name.starts_with('.')
}

/// As [`is_name`], of namespaces.
pub(crate) fn is_namespace(name: &str) -> bool {
    is_name(name, LONGEST_NAMESPACE)
}

/// As [`is_name`], of pods.
pub(crate) fn is_pod(name: &str) -> bool {
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
            let link = Link { namespace, pod, container, id };
            prop_assert_eq!(Link::parse(&link.to_string()), Some(link));
        }

        #[test]
        fn no_name_is_a_panic(name in "\\PC{0,60}|[a-z0-9_.\\-]{0,60}(\\.log)?") {
            let _ = (PodDirectory::parse(&name), Link::parse(&name), restart_count(&name));
        }
    }
}
