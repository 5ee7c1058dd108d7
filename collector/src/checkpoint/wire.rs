//! How changes look in the journal: ids as sixteen hex digits, as in `log.record.uid`, and offsets,
//! of which there are thousands a second, as short arrays. Shapes only; no framing, no I/O.

/// For `skip_serializing_if`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A file's id as sixteen hex digits.
pub(super) mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::read::identity::FileId;

    pub(crate) fn serialize<S: Serializer>(id: &FileId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FileId, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map(FileId)
            .map_err(|error| D::Error::custom(format!("`{text}` is not a file id: {error}")))
    }
}

/// `Change::Offset` as `[FILE,SINK,SETTLED,RESUME,DROPPED,LOST,SIZE]`.
pub(super) mod offset {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::{checkpoint::Offset, read::identity::FileId};

    /// A file's id, written by [`super::hex_id`].
    #[derive(Serialize, Deserialize)]
    struct Hex(#[serde(with = "super::hex_id")] FileId);

    pub(crate) fn serialize<S: Serializer>(
        file: &FileId,
        sink: &str,
        offset: &Offset,
        size: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Offset { settled, resume, dropped, lost } = offset;
        (Hex(*file), sink, settled, resume, dropped, lost, size).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(FileId, String, Offset, u64), D::Error> {
        let (Hex(file), sink, settled, resume, dropped, lost, size) =
            <(Hex, String, u64, u64, u64, u64, u64)>::deserialize(deserializer)?;
        Ok((file, sink, Offset { settled, resume, dropped, lost }, size))
    }
}
