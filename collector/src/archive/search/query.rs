//! Query: which lines are wanted, and what a frame's header already says about that.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;

use super::{
    pattern::Pattern,
    record::{Record, Text},
};
use crate::archive::segment::{Header, Label, Labels};

/// Which lines are wanted. The default wants all.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// What the body must match.
    pub pattern: Option<Pattern>,
    /// Wanted are the lines whose body does not match.
    pub invert: bool,
    /// Not logged before.
    pub since: Option<Timestamp>,
    /// Not logged after.
    pub until: Option<Timestamp>,
    /// Kubernetes namespaces.
    pub namespaces: Names,
    /// Pods.
    pub pods: Names,
    /// Containers.
    pub containers: Names,
    /// What is left out, whatever else is wanted.
    pub excluded: Excluded,
    /// `stdout` or `stderr`.
    pub stream: Option<String>,
}

/// Names of which none may be a line's.
#[derive(Debug, Clone, Default)]
pub struct Excluded {
    /// Kubernetes namespaces.
    pub namespaces: Names,
    /// Pods.
    pub pods: Names,
    /// Containers.
    pub containers: Names,
}

/// Names, exact or globs; any of them. None at all: every name, and none.
#[derive(Debug, Clone, Default)]
pub struct Names(Option<GlobSet>);

/// What a frame's header leaves to be checked line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Times: the frame lies partly outside the bounds.
    pub times: bool,
    /// Labels: some of the frame's containers are not wanted.
    pub labels: bool,
}

impl Names {
    /// From what a user gave. An error says which glob is wrong.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        if globs.is_empty() {
            return Ok(Self(None));
        }
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(GlobBuilder::new(glob).literal_separator(false).build()?);
        }
        Ok(Self(Some(set.build()?)))
    }

    /// Whether it is one of these names; there are some.
    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(name))
    }

    fn is_match(&self, name: Option<&str>) -> bool {
        let Some(set) = &self.0 else { return true };
        name.is_some_and(|name| set.is_match(name))
    }

    fn is_text_match(&self, text: Option<Text<'_>>) -> bool {
        let Some(set) = &self.0 else { return true };
        let Some(value) = text.map(Text::value) else { return false };
        std::str::from_utf8(&value).is_ok_and(|name| set.is_match(name))
    }
}

impl Excluded {
    fn is_empty(&self) -> bool {
        [&self.namespaces, &self.pods, &self.containers].iter().all(|names| names.0.is_none())
    }

    fn has(&self, label: &Label) -> bool {
        let named = |names: &Names, name: &Option<Box<str>>| {
            name.as_deref().is_some_and(|name| names.has(name))
        };
        named(&self.namespaces, &label.namespace)
            || named(&self.pods, &label.pod)
            || named(&self.containers, &label.container)
    }

    fn has_line(&self, record: &Record<'_>) -> bool {
        let named = |names: &Names, text: Option<Text<'_>>| {
            let Some(value) = text.filter(|_| names.0.is_some()).map(Text::value) else {
                return false;
            };
            std::str::from_utf8(&value).is_ok_and(|name| names.has(name))
        };
        named(&self.namespaces, record.namespace)
            || named(&self.pods, record.pod)
            || named(&self.containers, record.container)
    }
}

impl Query {
    /// What is left to check in a frame's lines. `None`: nothing in it can be wanted.
    pub fn frame(&self, header: &Header) -> Option<Checks> {
        let (from, to) = (header.times.from, header.times.to);
        // Bounds are whole seconds that contain the times: the second `to` may be full.
        if self.since.is_some_and(|since| to < since.as_second())
            || self.until.is_some_and(|until| from > until.as_second())
        {
            return None;
        }
        let times = self.since.is_some_and(|since| from <= since.as_second())
            || self.until.is_some_and(|until| to >= until.as_second());
        let labels = match &header.labels {
            Labels::Any => self.has_labels(),
            Labels::Known(labels) => {
                let wanted = labels.iter().filter(|label| self.wants(label)).count();
                // A frame without any label holds lines without names, which no exclusion is about.
                let none = labels.is_empty() && self.names_nothing();
                if wanted == 0 && self.has_labels() && !none {
                    return None;
                }
                wanted < labels.len()
            }
        };
        Some(Checks { times, labels })
    }

    /// Whether a line's body is wanted.
    pub fn matches(&self, body: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(body) != self.invert)
    }

    /// Whether a line is wanted, its body aside.
    pub fn line(&self, record: &Record<'_>, checks: Checks) -> bool {
        (!checks.times || self.is_in_time(record.time))
            && (!checks.labels
                || self.namespaces.is_text_match(record.namespace)
                    && self.pods.is_text_match(record.pod)
                    && self.containers.is_text_match(record.container)
                    && !self.excluded.has_line(record))
            && self.stream.as_ref().is_none_or(|wanted| {
                record.stream.is_some_and(|stream| stream.raw == wanted.as_bytes())
            })
    }

    /// Whether fields behind the body have to be known.
    pub fn needs_attributes(&self, checks: Checks) -> bool {
        checks.labels || self.stream.is_some()
    }

    fn names_nothing(&self) -> bool {
        [&self.namespaces, &self.pods, &self.containers].iter().all(|names| names.0.is_none())
    }

    fn has_labels(&self) -> bool {
        !self.names_nothing() || !self.excluded.is_empty()
    }

    fn wants(&self, label: &Label) -> bool {
        self.namespaces.is_match(label.namespace.as_deref())
            && self.pods.is_match(label.pod.as_deref())
            && self.containers.is_match(label.container.as_deref())
            && !self.excluded.has(label)
    }

    /// A line whose time nobody can tell is in time: better one line too many than one too few.
    fn is_in_time(&self, text: Option<Text<'_>>) -> bool {
        let parse = |text: Text<'_>| std::str::from_utf8(text.raw).ok()?.parse::<Timestamp>().ok();
        let Some(time) = text.and_then(parse) else { return true };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TimeBounds;

    fn header(from: i64, to: i64, pods: &[&str]) -> Header {
        let label = |pod: &&str| Label {
            namespace: Some("shop".into()),
            pod: Some((*pod).into()),
            container: None,
        };
        Header::new(b"", 0, 0, TimeBounds { from, to }, pods.iter().map(label).collect())
    }

    fn at(milliseconds: i64) -> Option<Timestamp> {
        Timestamp::from_millisecond(milliseconds).ok()
    }

    #[test]
    fn a_header_outside_the_times_is_skipped() {
        let header = header(10, 20, &[]);
        let times = |since, until| {
            let query = Query { since, until, ..Query::default() };
            query.frame(&header).map(|checks| checks.times)
        };
        assert_eq!(times(None, None), Some(false));
        assert_eq!(times(at(21_000), None), None);
        assert_eq!(times(at(20_999), None), Some(true), "20.9995 is in the second 20");
        assert_eq!(times(at(9_999), None), Some(false));
        assert_eq!(times(at(10_000), None), Some(true));
        assert_eq!(times(None, at(9_999)), None);
        assert_eq!(times(None, at(10_000)), Some(true));
        assert_eq!(times(None, at(21_000)), Some(false));
    }

    #[test]
    fn a_header_without_a_wanted_label_is_skipped() {
        let labels = |pods: &[&str], wanted: &str| {
            let pods_wanted = Names::new(&[wanted.to_owned()]).unwrap();
            let query = Query { pods: pods_wanted, ..Query::default() };
            query.frame(&header(0, 0, pods)).map(|checks| checks.labels)
        };
        assert_eq!(labels(&["web-1", "web-2"], "web-*"), Some(false));
        assert_eq!(labels(&["web-1", "db-0"], "web-*"), Some(true));
        assert_eq!(labels(&["db-0"], "web-*"), None);
        assert_eq!(labels(&["web-1"], "web"), None);
        assert_eq!(labels(&[], "web"), None);
        assert_eq!(Query::default().frame(&header(0, 0, &[])).map(|it| it.labels), Some(false));
    }
}
