//! How changes look in the journal: ids as sixteen hex digits, as in `log.record.uid`, handles in hex
//! too, paths as text, and offsets, of which there are thousands a second, as short arrays. Shapes
//! only; no framing, no I/O.

/// For `skip_serializing_if`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// For `skip_serializing_if`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero_crc(value: &u32) -> bool {
    *value == 0
}

/// For `skip_serializing_if`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

/// A file's id as sixteen hex digits.
pub(super) mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::identity::FileId;

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

/// A path as text.
pub(super) mod path {
    use std::{path::Path, sync::Arc};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        path: &Arc<Path>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Path>, D::Error> {
        String::deserialize(deserializer).map(|text| Path::new(&text).into())
    }
}

/// A sink's name.
pub(super) mod name {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        name: &Arc<str>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

/// A handle as `[TYPE,BYTES]`, the bytes in hex. What is not hex is no handle: a file is found without
/// one too.
pub(super) mod handle {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::identity::sys::Handle;

    pub(crate) fn serialize<S: Serializer>(
        handle: &Option<Handle>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let written = handle.as_ref().map(|handle| (handle.kind(), hex(handle.bytes())));
        written.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Handle>, D::Error> {
        let written = <Option<(i32, String)>>::deserialize(deserializer)?;
        Ok(written.and_then(|(kind, text)| Some(Handle::new(kind, &unhex(&text)?))))
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;

        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            write!(text, "{byte:02x}").expect("a string takes anything");
        }
        text
    }

    fn unhex(text: &str) -> Option<Box<[u8]>> {
        if !text.len().is_multiple_of(2) || !text.is_ascii() {
            return None;
        }
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
        (0..text.len()).step_by(2).map(byte).collect()
    }
}

/// `Change::Offset` as `[FILE,SINK,SETTLED,RESUME,DROPPED,LOST,SIZE]`, and `GUARD` where there is one. What
/// a later version puts behind these is ignored.
pub(super) mod offset {
    use std::{fmt, sync::Arc};

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, IgnoredAny, SeqAccess, Visitor},
    };

    use crate::{
        checkpoint::Offset,
        identity::{FileId, guard::Guard},
    };

    /// A file's id, written by [`super::hex_id`].
    #[derive(Serialize, Deserialize)]
    pub(super) struct Hex(#[serde(with = "super::hex_id")] pub(super) FileId);

    pub(crate) fn serialize<S: Serializer>(
        file: &FileId,
        sink: &str,
        offset: &Offset,
        size: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Offset { settled, resume, dropped, lost, guard } = offset;
        let file = Hex(*file);
        if guard.is_none() {
            return (file, sink, settled, resume, dropped, lost, size).serialize(serializer);
        }
        (file, sink, settled, resume, dropped, lost, size, guard).serialize(serializer)
    }

    type Moved = (FileId, Arc<str>, Offset, u64);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Moved, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Moved;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[FILE,SINK,SETTLED,RESUME,DROPPED,LOST,SIZE,GUARD]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Moved, A::Error> {
                let Hex(file) = next(&mut list)?;
                let sink: String = next(&mut list)?;
                let [settled, resume, dropped, lost, size] = [
                    next(&mut list)?,
                    next(&mut list)?,
                    next(&mut list)?,
                    next(&mut list)?,
                    next(&mut list)?,
                ];
                let guard: Guard = list.next_element()?.unwrap_or_default();
                while list.next_element::<IgnoredAny>()?.is_some() {}
                let offset = Offset { settled, resume, dropped, lost, guard };
                Ok((file, sink.into(), offset, size))
            }
        }

        fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(list: &mut A) -> Result<T, A::Error> {
            list.next_element()?.ok_or_else(|| A::Error::custom("an offset is cut short"))
        }

        deserializer.deserialize_seq(List)
    }
}

/// `Change::Cuts` as `[FILE,[OFFSET,…]]`.
pub(super) mod cuts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::offset::Hex;
    use crate::identity::FileId;

    pub(crate) fn serialize<S: Serializer>(
        file: &FileId,
        at: &[u64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (Hex(*file), at).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(FileId, Box<[u64]>), D::Error> {
        let (Hex(file), at) = <(Hex, Vec<u64>)>::deserialize(deserializer)?;
        Ok((file, at.into()))
    }
}
