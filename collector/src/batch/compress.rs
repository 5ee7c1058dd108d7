//! Compression of sealed batches, with contexts and scratch space that are reused.

use std::io::{self, Write};

use bytes::Bytes;

use crate::config::Compression;

/// After so many small payloads in a row zstd's context is made anew. At the least it takes some
/// 100 KiB, after a full batch above 1 MiB.
const SMALL: u32 = 16;

/// Compresses for one sink on one thread.
pub struct Compressor {
    kind: Kind,
    scratch: Vec<u8>,
}

enum Kind {
    Zstd(Zstd),
    Gzip(flate2::Compression),
    None,
}

/// A context, which is as large as the largest payload it has seen wanted it.
struct Zstd {
    context: zstd::bulk::Compressor<'static>,
    level: i32,
    largest: usize,
    /// Payloads in a row that were far smaller.
    small: u32,
}

impl Zstd {
    fn context(level: i32) -> io::Result<zstd::bulk::Compressor<'static>> {
        let mut context = zstd::bulk::Compressor::new(level)?;
        context.include_checksum(true)?;
        Ok(context)
    }

    /// The context, made anew once it is far too large for what comes.
    fn context_for(&mut self, len: usize) -> io::Result<&mut zstd::bulk::Compressor<'static>> {
        self.small = if len < self.largest / 8 { self.small + 1 } else { 0 };
        if self.small == SMALL {
            self.context = Self::context(self.level)?;
            (self.largest, self.small) = (0, 0);
        }
        self.largest = self.largest.max(len);
        Ok(&mut self.context)
    }
}

impl Compressor {
    /// A compressor of this kind and level.
    ///
    /// # Errors
    /// zstd refuses the level, or there is no memory for its context.
    pub fn new(compression: Compression, level: i32) -> io::Result<Self> {
        let kind = match compression {
            Compression::Zstd => {
                Kind::Zstd(Zstd { context: Zstd::context(level)?, level, largest: 0, small: 0 })
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
        scratch.shrink_to(bound);
        match kind {
            Kind::Zstd(zstd) => {
                scratch.reserve(bound);
                zstd.context_for(payload.len())?.compress_to_buffer(payload, scratch)?;
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
    fn a_context_is_made_anew_after_small_payloads_only() {
        let level = 1;
        let context = Zstd::context(level).unwrap();
        let mut zstd = Zstd { context, level, largest: 0, small: 0 };
        zstd.context_for(1 << 20).unwrap();
        for _ in 1..SMALL {
            zstd.context_for(100).unwrap();
        }
        zstd.context_for(1 << 20).unwrap();
        assert_eq!((zstd.largest, zstd.small), (1 << 20, 0));
        for _ in 0..SMALL {
            zstd.context_for(100).unwrap();
        }
        assert_eq!((zstd.largest, zstd.small), (100, 0));
    }

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
