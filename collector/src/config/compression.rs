//! How payloads and files are compressed.

/// Compression of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// One zstd frame a batch.
    #[default]
    Zstd,
    /// One gzip member a batch.
    Gzip,
    /// As encoded.
    None,
}

impl Compression {
    /// What a file's name ends in that is compressed like this; nothing for one that is not.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }
}
