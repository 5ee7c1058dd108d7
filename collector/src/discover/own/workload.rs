//! Which workload a pod belongs to, as far as its name tells: the agent asks no API server.
//!
//! A DaemonSet's pod is called `NAME-xxxxx`, a Deployment's `NAME-hash-xxxxx`. Both ends are drawn from
//! an alphabet without vowels, so a name that somebody chose is hardly ever taken for one.

/// As Kubernetes draws random ends of names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The random end of a pod's name.
const RANDOM: usize = 5;
/// The hash of a Deployment's pod template.
const HASH: std::ops::RangeInclusive<usize> = 6..=10;

/// The pods of one namespace that one workload makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    namespace: String,
    name: String,
    /// Whether there is a hash between name and random end.
    hashed: bool,
}

impl Workload {
    /// The workload of a pod; none if its name is no workload's.
    pub(super) fn of(namespace: &str, pod: &str) -> Option<Self> {
        let (name, random) = pod.rsplit_once('-')?;
        if random.len() != RANDOM || !is_drawn(random) || name.is_empty() {
            return None;
        }
        let hashed = name.rsplit_once('-').filter(|(name, hash)| {
            !name.is_empty() && HASH.contains(&hash.len()) && is_drawn(hash)
        });
        let (name, hashed) = hashed.map_or((name, false), |(name, _)| (name, true));
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), hashed })
    }

    /// Whether a pod is one of its own.
    pub(super) fn has(&self, namespace: &str, pod: &str) -> bool {
        // Nearly every pod is of another namespace: nothing is allocated for those.
        self.namespace == namespace
            && pod.starts_with(&self.name)
            && Self::of(namespace, pod).as_ref() == Some(self)
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}-*", self.namespace, self.name)
    }
}

fn is_drawn(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_workload_know_each_other_and_nobody_else() {
        let agent = Workload::of("logging", "everyline-x2x4z").unwrap();
        assert_eq!(agent.to_string(), "logging/everyline-*");
        assert!(agent.has("logging", "everyline-x2x4z") && agent.has("logging", "everyline-9bcdf"));
        for (namespace, pod) in [
            ("shop", "everyline-x2x4z"),
            ("logging", "everyline"),
            ("logging", "everyline-"),
            ("logging", "everyline-tools"),
            ("logging", "everyline-x2x4"),
            ("logging", "everyline-x2x4z9"),
            ("logging", "everyline-agent-x2x4z"),
            ("logging", "everyline2-x2x4z"),
            ("logging", "everyline-6d4b75cb6d-x2x4z"),
            ("logging", "x-everyline-x2x4z"),
        ] {
            assert!(!agent.has(namespace, pod), "{namespace}/{pod}");
        }
        let deployed = Workload::of("logging", "everyline-6d4b75cb6d-x2x4z").unwrap();
        assert!(deployed.has("logging", "everyline-7c5f9d8b4-9bcdf"), "a roll changes the hash");
        assert!(!deployed.has("logging", "everyline-x2x4z"));
        for pod in ["everyline-0", "everyline", "-x2x4z", ""] {
            assert_eq!(Workload::of("logging", pod), None, "{pod}");
        }
    }
}
