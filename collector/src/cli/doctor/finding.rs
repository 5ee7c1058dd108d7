//! One thing that was looked at: its name, how it stands, and what to do about it.

use std::borrow::Cow;

use serde::Serialize;

use crate::config::WatchMode;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Stays from version to version.
    pub(super) name: Cow<'static, str>,
    pub(super) status: Status,
    /// A sentence or two.
    pub(super) found: String,
    /// More of the same kind, one each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
    /// What to do; of everything that is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be, or of no account here.
    Ok,
    /// Something could be better; nothing is lost by it.
    Note,
    /// Lines can be lost by it, or it is not as the configuration asks.
    Problem,
}

impl Finding {
    pub(super) fn ok(name: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: Status::Ok,
            found: found.into(),
            details: Vec::new(),
            advice: None,
        }
    }

    pub(super) fn note(
        name: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::ok(name, found).standing(Status::Note, advice)
    }

    pub(super) fn problem(
        name: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::ok(name, found).standing(Status::Problem, advice)
    }

    /// The same with another status; what is `ok` needs no advice.
    pub(super) fn standing(mut self, status: Status, advice: impl Into<String>) -> Self {
        self.status = status;
        self.advice = (status != Status::Ok).then(|| advice.into());
        self
    }

    pub(super) fn with(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }

    /// How it stands that there is no kernel watch.
    pub(super) fn of_no_kernel_watch(mode: WatchMode) -> Self {
        match mode {
            WatchMode::Kernel => Self::Problem,
            WatchMode::Auto => Self::Note,
            WatchMode::Inotify | WatchMode::Poll => Self::Ok,
        }
    }
}
