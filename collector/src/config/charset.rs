//! How the characters of a file are encoded, by the names that the web uses for encodings.
//!
//! Left out are encodings in which a byte means something else after an escape sequence (ISO-2022-JP):
//! there a line's pieces could not be read by themselves.

use encoding_rs::{self as known, Encoding};

/// An encoding that files can be in. Small, as every source has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Charset(u8);

/// In the order that they are listed in; the first is the default.
static ALL: [&Encoding; 34] = [
    known::UTF_8,
    known::UTF_16LE,
    known::UTF_16BE,
    known::GBK,
    known::GB18030,
    known::BIG5,
    known::EUC_JP,
    known::SHIFT_JIS,
    known::EUC_KR,
    known::WINDOWS_874,
    known::WINDOWS_1250,
    known::WINDOWS_1251,
    known::WINDOWS_1252,
    known::WINDOWS_1253,
    known::WINDOWS_1254,
    known::WINDOWS_1255,
    known::WINDOWS_1256,
    known::WINDOWS_1257,
    known::WINDOWS_1258,
    known::ISO_8859_2,
    known::ISO_8859_3,
    known::ISO_8859_4,
    known::ISO_8859_5,
    known::ISO_8859_6,
    known::ISO_8859_7,
    known::ISO_8859_8,
    known::ISO_8859_10,
    known::ISO_8859_13,
    known::ISO_8859_14,
    known::ISO_8859_15,
    known::ISO_8859_16,
    known::KOI8_R,
    known::KOI8_U,
    known::IBM866,
];

impl Charset {
    /// What text is in unless something else is said.
    pub const UTF_8: Self = Self(0);
    /// UTF-16, the low byte of a code unit first.
    pub const UTF_16LE: Self = Self(1);
    /// UTF-16, the high byte of a code unit first.
    pub const UTF_16BE: Self = Self(2);

    /// The encoding of this name, or of one of its other names (`latin1`, `sjis`, `utf-16`).
    ///
    /// # Errors
    /// What can be written instead.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Encoding::for_label(name.trim().as_bytes());
        found.and_then(Self::of).ok_or_else(|| {
            let names: Vec<String> = ALL.iter().map(|known| known.name().to_lowercase()).collect();
            format!("`{name}` is not an encoding that can be read; use one of {}", names.join(", "))
        })
    }

    fn of(encoding: &'static Encoding) -> Option<Self> {
        let at = ALL.iter().position(|known| *known == encoding)?;
        u8::try_from(at).ok().map(Self)
    }

    /// The encoding's tables.
    pub fn encoding(self) -> &'static Encoding {
        ALL.get(usize::from(self.0)).copied().unwrap_or(known::UTF_8)
    }

    /// Whether a character is made of pairs of bytes.
    pub fn is_wide(self) -> bool {
        self == Self::UTF_16LE || self == Self::UTF_16BE
    }
}

impl Default for Charset {
    fn default() -> Self {
        Self::UTF_8
    }
}

impl serde::Serialize for Charset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encoding().name().to_lowercase())
    }
}

impl<'de> serde::Deserialize<'de> for Charset {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::named(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_goes_by_its_own_name_and_by_others() {
        for encoding in ALL {
            let charset = Charset::named(encoding.name()).unwrap();
            assert_eq!(charset.encoding(), encoding);
        }
        for (name, charset) in [
            ("utf8", Charset::UTF_8),
            (" UTF-16 ", Charset::UTF_16LE),
            ("unicodefffe", Charset::UTF_16BE),
            ("gb2312", Charset::named("gbk").unwrap()),
            ("latin1", Charset::named("windows-1252").unwrap()),
        ] {
            assert_eq!(Charset::named(name), Ok(charset), "{name}");
        }
        assert!(Charset::UTF_16LE.is_wide() && Charset::UTF_16BE.is_wide());
        assert!(!Charset::UTF_8.is_wide() && !Charset::named("gbk").unwrap().is_wide());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_can() {
        for name in ["klingon", "", "utf-32", "utf-7", "iso-2022-jp", "replacement", "hz-gb-2312"] {
            let said = Charset::named(name).unwrap_err();
            assert!(said.contains("utf-16le") && said.contains("gbk") && said.contains("big5"));
        }
    }

    /// No byte of another character is a newline: a search for that byte finds lines.
    #[test]
    fn a_newline_is_a_byte_of_its_own_in_all_but_utf_16() {
        for encoding in ALL.into_iter().filter(|known| !Charset::of(known).unwrap().is_wide()) {
            for lead in 0..=255_u8 {
                for second in [None, Some(0x30), Some(0x81)] {
                    let bytes: Vec<u8> = [Some(lead), second, Some(b'\n'), Some(b'a')]
                        .into_iter()
                        .flatten()
                        .collect();
                    let (text, _) = encoding.decode_without_bom_handling(&bytes);
                    assert!(text.ends_with("\na"), "{} {bytes:x?}", encoding.name());
                }
            }
        }
    }
}
