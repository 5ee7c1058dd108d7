//! Where the output stands: the string the checkpoint keeps for the sink.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::family::Identity;

/// The output file, and how much of it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The configured path under which it was written (it may have been rotated since).
    pub(super) path: PathBuf,
    /// Which file.
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// Orders the files this sink has begun.
    pub(super) serial: u64,
    /// Bytes that count; what is behind them is not acknowledged.
    pub(super) length: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Numbers and a path; a path that is no UTF-8 was refused when the configuration was read.
        f.write_str(&serde_json::to_string(self).map_err(|_unrepresentable| fmt::Error)?)
    }
}

/// What is known of earlier output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: whatever lies there stays.
    Nothing,
    /// That nothing written so far counts.
    Empty,
    /// What counts.
    At(Position),
}

impl Known {
    /// From [`Context::committed`](crate::deliver::Context::committed).
    pub(super) fn parse(sink: &str, committed: Option<&str>) -> Self {
        match committed {
            None => Self::Nothing,
            Some("") => Self::Empty,
            Some(text) => match serde_json::from_str(text) {
                Ok(position) => Self::At(position),
                Err(error) => {
                    tracing::warn!(
                        sink, %error,
                        "The position of the output is not readable (was the sink of another \
                         type?); earlier output is left as it is and a new file is begun."
                    );
                    Self::Nothing
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_as_text() {
        let position = Position {
            path: "/out/a.ndjson".into(),
            identity: Identity { inode: 7, born_ns: -3 },
            serial: 2,
            length: u64::MAX,
        };
        let known = Known::parse("f", Some(&position.to_string()));
        assert_eq!(known, Known::At(position));
        assert_eq!(Known::parse("f", Some("")), Known::Empty);
        assert_eq!(Known::parse("f", Some("{\"segment\":3}")), Known::Nothing);
        assert_eq!(Known::parse("f", None), Known::Nothing);
    }
}
