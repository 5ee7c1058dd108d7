//! The one table of reasons: why a byte of a log was not delivered.
//!
//! Whoever gives bytes up names one of these; ledger, audit, `status`, metrics and
//! `deploy/METRICS.md` take names, kinds and meanings from here. To add a reason, add its row.

use std::fmt;

/// Whether the operator chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Given up, as the configuration says.
    Dropped,
    /// Written, and gone before it could be delivered.
    Lost,
}

macro_rules! reasons {
    ($($variant:ident, $kind:ident, $name:literal, $meaning:literal;)*) => {
        /// Why bytes were not delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// As metrics, ledger and checkpoint call it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it says, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// Dropped or lost.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
}

reasons! {
    LineTooLong, Dropped, "line_too_long",
        "the end of a message longer than `read.max_line_bytes`, with `long_lines: cut`";
    Rejected, Dropped, "rejected",
        "refused by a sink with `on_reject: drop`";
    TooLarge, Dropped, "too_large",
        "a single record larger than a sink with `on_reject: drop` takes";
    BeforeStart, Dropped, "before_start",
        "there before the agent's first start, with `read.start: end`";
    Hole, Dropped, "hole",
        "NULs that are no text: a hole in a file, or what a power cut left of data that was not written yet";
    NotCollected, Dropped, "not_collected",
        "there, but no longer collected: excluded by now, or the agent's own";
    SinkRemoved, Dropped, "sink_removed",
        "not delivered when its file went, and its sink was no longer configured";
    Truncated, Lost, "truncated",
        "truncated under the reader, or while no agent ran";
    DeletedWhileDown, Lost, "deleted_while_down",
        "deleted while no agent ran";
    DeletedUnseen, Lost, "deleted_unseen",
        "written and deleted between two looks, as far as the kernel watch or a last look tells";
    DamagedGzip, Lost, "damaged_gzip",
        "in a compressed file that could not be unpacked to its end";
}

impl Reason {
    /// All reasons of one kind.
    pub fn of(kind: Kind) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |reason| reason.kind() == kind)
    }

    /// The reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why more may be lost than is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nobody counted while no agent ran.
    NoTally,
    /// Of a file that is gone the kernel did not say enough to tell whether it was a log.
    Unsure,
    /// A file was truncated that nobody counts.
    Truncated,
    /// What waited for a place was deleted.
    DeletedWaiting,
}

impl Unknown {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoTally, Self::Unsure, Self::Truncated, Self::DeletedWaiting];

    /// As ledger and checkpoint call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoTally => "no_tally",
            Self::Unsure => "unsure",
            Self::Truncated => "truncated",
            Self::DeletedWaiting => "deleted_waiting",
        }
    }

    /// What is not known, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NoTally => "Files that were born and deleted while no agent ran are not known.",
            Self::Unsure => {
                "Files are gone of which the kernel does not tell whether they were logs."
            }
            Self::Truncated => "Files were truncated, and what they held before is not known.",
            Self::DeletedWaiting => {
                "Files or directories were deleted while they waited for a place (read.known_files), \
                 unread: how much they held is not known."
            }
        }
    }
}

/// Bytes by reason. Takes one word where none were given up, as is usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByReason(Option<Box<[u64; Reason::ALL.len()]>>);

impl ByReason {
    /// Adds bytes.
    pub fn add(&mut self, reason: Reason, bytes: u64) {
        if bytes > 0 {
            let sums = self.0.get_or_insert_default();
            sums[reason as usize] = sums[reason as usize].saturating_add(bytes);
        }
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: &Self) {
        for (reason, bytes) in other.iter() {
            self.add(reason, bytes);
        }
    }

    /// Those of which there are any.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        let sums = self.0.as_deref();
        Reason::ALL.into_iter().filter_map(move |reason| {
            let bytes = sums.map_or(0, |sums| sums[reason as usize]);
            (bytes > 0).then_some((reason, bytes))
        })
    }

    /// Bytes under all reasons.
    pub fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// Bytes under all reasons of a kind.
    pub fn sum_of(&self, kind: Kind) -> u64 {
        let of_kind = self.iter().filter(|(reason, _)| reason.kind() == kind);
        of_kind.fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// Whether nothing was given up.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reason_is_known_by_its_name() {
        let names: BTreeSet<_> = Reason::ALL.map(Reason::name).into();
        assert_eq!(names.len(), Reason::ALL.len(), "two reasons share a name");
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.name()), Some(reason));
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(reason.name().chars().all(plain), "{reason} is a label and part of a total");
        }
        assert_eq!(Reason::named("sunspots"), None);
    }

    #[test]
    fn sums_are_by_reason_and_cost_a_word_while_there_are_none() {
        assert_eq!(size_of::<ByReason>(), size_of::<usize>());
        let mut sums = ByReason::default();
        sums.add(Reason::Truncated, 0);
        assert!(sums.is_empty());
        sums.add(Reason::Truncated, 2);
        sums.add(Reason::Rejected, 3);
        let mut twice = sums.clone();
        twice.merge(&sums);
        assert_eq!(
            twice.iter().collect::<Vec<_>>(),
            [(Reason::Rejected, 6), (Reason::Truncated, 4)]
        );
        let parts = (twice.sum_of(Kind::Dropped), twice.sum_of(Kind::Lost), twice.sum());
        assert_eq!(parts, (6, 4, 10));
    }

    /// `deploy/METRICS.md` has a table of them: this one.
    #[test]
    fn every_reason_is_documented() {
        let text = include_str!("../../deploy/METRICS.md");
        let (_, table) = text.split_once("## Reasons").unwrap();
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| `")).collect();
        let ours: Vec<_> = Reason::ALL
            .map(|reason| {
                let kind = format!("{:?}", reason.kind()).to_lowercase();
                let meaning = reason.meaning();
                let mut meaning = meaning[..1].to_uppercase() + &meaning[1..];
                meaning.push('.');
                format!("| `{}` | {kind} | {meaning} |", reason.name())
            })
            .into();
        assert_eq!(rows, ours);
    }
}
