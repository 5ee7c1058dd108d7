//! A payload opened and packed again: for sinks that must look at records (the console) or send
//! them in smaller pieces (HTTP after a 413). The plain path never comes here.

use std::{
    borrow::Cow,
    io::{self, Read as _, Write as _},
    ops::Range,
};

use bytes::Bytes;

use crate::{batch::Framing, config::Compression};

/// The payload before compression. Only for payloads of our own making: the size is not bounded.
pub(super) fn decompress(payload: &[u8], compression: Compression) -> io::Result<Cow<'_, [u8]>> {
    Ok(match compression {
        Compression::None => Cow::Borrowed(payload),
        Compression::Zstd => Cow::Owned(zstd::decode_all(payload)?),
        Compression::Gzip => {
            let mut raw = Vec::new();
            flate2::read::MultiGzDecoder::new(payload).read_to_end(&mut raw)?;
            Cow::Owned(raw)
        }
    })
}

/// The inverse of [`decompress`].
pub(super) fn compress(raw: Vec<u8>, compression: Compression, level: i32) -> io::Result<Bytes> {
    Ok(match compression {
        Compression::None => raw.into(),
        Compression::Zstd => zstd::encode_all(raw.as_slice(), level)?.into(),
        Compression::Gzip => {
            let level = flate2::Compression::new(level.clamp(0, 9).unsigned_abs());
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&raw)?;
            encoder.finish()?.into()
        }
    })
}

/// Where each record stands in an uncompressed payload, without newline and comma.
pub(super) fn records(raw: &[u8], framing: Framing) -> Vec<Range<usize>> {
    let mut records = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', raw).chain(std::iter::once(raw.len())) {
        let line = &raw[start..end];
        let bracket = framing == Framing::Array && matches!(line, b"[" | b"]");
        if !line.is_empty() && !bracket {
            let comma = framing == Framing::Array && line.ends_with(b",");
            records.push(start..end - usize::from(comma));
        }
        start = (end + 1).min(raw.len());
    }
    records
}

/// Lays records side by side again, as `framing` says.
pub(super) fn frame(raw: &[u8], records: &[Range<usize>], framing: Framing) -> Vec<u8> {
    let size: usize = records.iter().map(|record| record.len() + 2).sum();
    let mut out = Vec::with_capacity(size + 4);
    if framing == Framing::Array {
        out.extend_from_slice(b"[\n");
    }
    for (number, record) in records.iter().enumerate() {
        out.extend_from_slice(&raw[record.clone()]);
        if framing == Framing::Array && number + 1 < records.len() {
            out.push(b',');
        }
        out.push(b'\n');
    }
    if framing == Framing::Array {
        out.extend_from_slice(b"]\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_array_is_taken_apart_and_laid_out_again() {
        let raw = b"[\n{\"a\":1},\n{\"a\":2}\n]\n";
        let found = records(raw, Framing::Array);
        assert_eq!(&raw[found[1].clone()], b"{\"a\":2}");
        assert_eq!(frame(raw, &found, Framing::Array), raw);
        assert_eq!(frame(raw, &found[..1], Framing::Array), b"[\n{\"a\":1}\n]\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_packed_comes_back(
            bodies in proptest::collection::vec("[a-z,\\[\\]]{0,20}", 1..20),
            array: bool,
            compression in prop_oneof![
                Just(Compression::None), Just(Compression::Zstd), Just(Compression::Gzip)
            ],
        ) {
            let framing = if array { Framing::Array } else { Framing::Lines };
            let lines: Vec<String> = bodies.iter().map(|b| format!("{{\"body\":\"{b}\"}}")).collect();
            let joined = lines.join("\n");
            let raw = frame(joined.as_bytes(), &records(joined.as_bytes(), Framing::Lines), framing);
            let packed = compress(raw.clone(), compression, 1).unwrap();
            let back = decompress(&packed, compression).unwrap();
            prop_assert_eq!(&*back, &raw[..]);
            let found = records(&back, framing);
            let texts: Vec<&[u8]> = found.iter().map(|r| &back[r.clone()]).collect();
            prop_assert_eq!(texts, lines.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
    }
}
