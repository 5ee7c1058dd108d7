//! Compression of sealed batches, with contexts and scratch space that are reused.

use std::io::{self, Write};

use bytes::Bytes;

use super::Compression;

/// Compresses for one sink on one thread.
pub struct Compressor {
    kind: Kind,
    scratch: Vec<u8>,
}

enum Kind {
    Zstd(zstd::bulk::Compressor<'static>),
    Gzip(flate2::Compression),
    None,
}

impl Compressor {
    /// A compressor of this kind and level.
    ///
    /// # Errors
    /// zstd refuses the level, or there is no memory for its context.
    pub fn new(compression: Compression, level: i32) -> io::Result<Self> {
        let kind = match compression {
            Compression::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                Kind::Zstd(compressor)
            }
            Compression::Gzip => {
                let level = u32::try_from(level.clamp(1, 9)).unwrap_or(6);
                Kind::Gzip(flate2::Compression::new(level))
            }
            Compression::None => Kind::None,
        };
        Ok(Self { kind, scratch: Vec::new() })
    }

    /// Compresses a payload and empties it. An uncompressed one leaves with its buffer.
    ///
    /// # Errors
    /// The library failed (no memory).
    pub fn compress(&mut self, payload: &mut Vec<u8>) -> io::Result<Bytes> {
        let Self { kind, scratch } = self;
        scratch.clear();
        let bound = zstd::zstd_safe::compress_bound(payload.len());
        // A burst's batches were larger.
        scratch.shrink_to(2 * bound);
        match kind {
            Kind::Zstd(compressor) => {
                scratch.reserve(bound);
                compressor.compress_to_buffer(payload, scratch)?;
            }
            Kind::Gzip(level) => {
                let mut encoder = flate2::write::GzEncoder::new(&mut *scratch, *level);
                encoder.write_all(payload)?;
                encoder.finish()?;
            }
            Kind::None => return Ok(Bytes::from(std::mem::take(payload))),
        }
        payload.clear();
        Ok(Bytes::copy_from_slice(scratch))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_burst_leaves_no_room_behind() {
        for kind in [Compression::Zstd, Compression::Gzip] {
            let mut compressor = Compressor::new(kind, 1).unwrap();
            compressor.compress(&mut vec![b'x'; 4 << 20]).unwrap();
            compressor.compress(&mut b"a line\n".to_vec()).unwrap();
            assert!(compressor.scratch.capacity() < 4 << 10, "{}", compressor.scratch.capacity());
        }
    }

    #[test]
    fn every_kind_round_trips_and_empties_the_payload() {
        let text = b"a line\n".repeat(1000);
        for kind in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let mut compressor = Compressor::new(kind, 1).unwrap();
            for _ in 0..2 {
                let mut payload = text.clone();
                let packed = compressor.compress(&mut payload).unwrap();
                assert!(payload.is_empty());
                let mut unpacked = Vec::new();
                match kind {
                    Compression::Zstd => unpacked = zstd::decode_all(&packed[..]).unwrap(),
                    Compression::Gzip => {
                        flate2::read::GzDecoder::new(&packed[..])
                            .read_to_end(&mut unpacked)
                            .map(drop)
                            .unwrap();
                    }
                    Compression::None => unpacked.extend_from_slice(&packed),
                }
                assert_eq!(unpacked, text);
            }
        }
    }
}
