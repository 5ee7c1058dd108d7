//! Include and exclude: which logs are wanted.
//!
//! A log matches a filter if any glob of any of its lists matches; an empty include wants
//! everything; exclude wins.

use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::DiscoverError;
use crate::config;

/// Both filters of a kind of source.
#[derive(Debug)]
pub(super) struct Selection {
    include: Rules,
    exclude: Rules,
}

/// A log, as filters see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) pod: Option<&'a str>,
    /// Its container's name and, with Docker, id.
    pub(super) container: [Option<&'a str>; 2],
    /// The live file, as the host calls it.
    pub(super) path: &'a Path,
}

#[derive(Debug)]
struct Rules {
    namespaces: GlobSet,
    pods: GlobSet,
    containers: GlobSet,
    paths: GlobSet,
}

impl Selection {
    /// Compiles both. `key` is where they stand in the configuration.
    pub(super) fn new(
        key: &str,
        include: &config::Filter,
        exclude: &config::Filter,
    ) -> Result<Self, DiscoverError> {
        Ok(Self {
            include: Rules::new(&format!("{key}.include"), include)?,
            exclude: Rules::new(&format!("{key}.exclude"), exclude)?,
        })
    }

    /// Whether the log is wanted.
    pub(super) fn admits(&self, subject: Subject<'_>) -> bool {
        (self.include.is_empty() || self.include.matches(subject)) && !self.exclude.matches(subject)
    }

    /// Whether any log of the pod can be wanted: false only if none can.
    pub(super) fn may_admit_pod(&self, namespace: &str, pod: &str) -> bool {
        let deeper = !self.include.containers.is_empty() || !self.include.paths.is_empty();
        (deeper || self.include.is_empty() || self.include.matches_pod(namespace, pod))
            && !self.exclude.matches_pod(namespace, pod)
    }
}

impl Rules {
    fn new(key: &str, filter: &config::Filter) -> Result<Self, DiscoverError> {
        Ok(Self {
            namespaces: set(&format!("{key}.namespaces"), &filter.namespaces)?,
            pods: set(&format!("{key}.pods"), &filter.pods)?,
            containers: set(&format!("{key}.containers"), &filter.containers)?,
            paths: set(&format!("{key}.paths"), &filter.paths)?,
        })
    }

    fn is_empty(&self) -> bool {
        [&self.namespaces, &self.pods, &self.containers, &self.paths]
            .iter()
            .all(|set| set.is_empty())
    }

    fn matches(&self, subject: Subject<'_>) -> bool {
        let Subject { namespace, pod, container, path } = subject;
        namespace.is_some_and(|name| self.namespaces.is_match(name))
            || pod.is_some_and(|name| self.pods.is_match(name))
            || container.iter().flatten().any(|name| self.containers.is_match(name))
            || self.paths.is_match(path)
    }

    fn matches_pod(&self, namespace: &str, pod: &str) -> bool {
        self.namespaces.is_match(namespace) || self.pods.is_match(pod)
    }
}

/// Compiles globs; `*` stays within one directory, `**` does not.
pub(super) fn set(key: &str, patterns: &[String]) -> Result<GlobSet, DiscoverError> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(glob(key, pattern)?);
    }
    builder.build().map_err(|error| wrong(key, &patterns.join(", "), error.kind().to_string()))
}

/// Compiles one glob.
pub(super) fn glob(key: &str, pattern: &str) -> Result<Glob, DiscoverError> {
    config::glob::compile(pattern).map_err(|reason| wrong(key, pattern, reason))
}

fn wrong(key: &str, pattern: &str, reason: String) -> DiscoverError {
    DiscoverError::Glob { key: key.to_owned(), pattern: pattern.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(
        namespaces: &[&str],
        pods: &[&str],
        containers: &[&str],
        paths: &[&str],
    ) -> config::Filter {
        let own = |list: &[&str]| list.iter().map(|glob| glob.to_string()).collect();
        config::Filter {
            namespaces: own(namespaces),
            pods: own(pods),
            containers: own(containers),
            paths: own(paths),
        }
    }

    fn admits(include: config::Filter, exclude: config::Filter) -> bool {
        let selection = Selection::new("sources.kubernetes", &include, &exclude).unwrap();
        let admitted = selection.admits(Subject {
            namespace: Some("shop"),
            pod: Some("cart-7d4f"),
            container: [Some("app"), None],
            path: Path::new("/var/log/pods/shop_cart-7d4f_1/app/0.log"),
        });
        assert!(!admitted || selection.may_admit_pod("shop", "cart-7d4f"), "pruned too early");
        admitted
    }

    #[test]
    fn include_and_exclude_by_each_of_the_four() {
        let all = config::Filter::default;
        assert!(admits(all(), all()));
        for matching in [
            filter(&["sh*"], &[], &[], &[]),
            filter(&[], &["cart-*"], &[], &[]),
            filter(&[], &[], &["app"], &[]),
            filter(&[], &[], &[], &["/var/log/pods/shop_*/**/*.log"]),
            filter(&["other"], &["cart-{7d4f,8}"], &[], &[]),
        ] {
            assert!(admits(matching.clone(), all()), "{matching:?}");
            assert!(!admits(all(), matching.clone()), "{matching:?}");
            assert!(!admits(matching.clone(), matching), "exclude wins");
        }
        for other in [
            filter(&["shop2"], &[], &[], &[]),
            filter(&[], &["cart"], &[], &[]),
            filter(&[], &[], &["ap"], &[]),
            filter(&[], &[], &[], &["/var/log/pods/*.log"]),
        ] {
            assert!(!admits(other.clone(), all()), "{other:?}");
            assert!(admits(all(), other.clone()), "{other:?}");
        }
    }

    #[test]
    fn what_is_unknown_matches_nothing() {
        let include = filter(&["*"], &["*"], &[], &[]);
        let selection = Selection::new("sources.docker", &include, &config::Filter::default());
        let nameless =
            Subject { namespace: None, pod: None, container: [None; 2], path: Path::new("/x") };
        assert!(!selection.unwrap().admits(nameless));
    }

    #[test]
    fn a_broken_glob_is_named_with_its_key() {
        let broken = filter(&[], &["a[b"], &[], &[]);
        let error = Selection::new("sources.kubernetes", &config::Filter::default(), &broken);
        let said = error.unwrap_err().to_string();
        assert!(
            said.starts_with("`sources.kubernetes.exclude.pods`: `a[b` is not a glob"),
            "{said}"
        );
    }
}
