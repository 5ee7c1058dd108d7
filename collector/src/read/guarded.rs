//! Guards of what is read, compressed or not.

use std::io;

use super::{content::Content, unpack};
use crate::identity::guard::{GUARD_BYTES, Guard};

impl Content {
    /// The guard of an offset, as far as the bytes before it can be read now.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn guard(&self, offset: u64) -> io::Result<Guard> {
        let mut buffer = [0; GUARD_BYTES];
        let wanted = offset.min(GUARD_BYTES as u64) as usize;
        let bytes = self.read_before(offset, &mut buffer[..wanted])?;
        Ok(if bytes == wanted { Guard::of(&buffer[..wanted]) } else { Guard::NONE })
    }

    /// The guard of an offset behind a run of `zeros` NULs.
    pub fn guard_behind_zeros(&self, offset: u64, zeros: u64) -> Guard {
        if zeros >= GUARD_BYTES as u64 {
            return Guard::of(&[0; GUARD_BYTES]);
        }
        self.guard(offset).unwrap_or_default()
    }

    /// Whether the bytes before `offset` can be those that the guard was taken of.
    ///
    /// # Errors
    /// As [`Content::read_at`].
    pub fn is_guarded_by(&self, guard: Guard, offset: u64) -> io::Result<bool> {
        let mut buffer = [0; GUARD_BYTES];
        let wanted = &mut buffer[..guard.length()];
        let bytes = self.read_before(offset, wanted)?;
        Ok(guard.matches(&wanted[..bytes]))
    }

    /// Reads the bytes that end at `offset`; how many of them there are.
    fn read_before(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = offset.saturating_sub(buffer.len() as u64);
        let mut filled = 0;
        while filled < buffer.len() {
            let piece = self.read_at(&mut buffer[filled..], start + filled as u64)?;
            filled += piece.bytes;
            if piece.at_end {
                break;
            }
            if piece.bytes == 0 {
                return Err(unpack::not_yet());
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use super::*;
    use crate::read::{content::gzip_bytes, permits::permit, unpack::Unpacking};

    /// What comes of it once it is unpacked as far as it has to be.
    fn in_the_end<T>(ask: impl Fn() -> io::Result<T>) -> T {
        loop {
            match ask() {
                Err(error) if unpack::is_not_yet(&error) => {}
                done => return done.unwrap(),
            }
        }
    }

    #[test]
    fn a_file_and_its_compressed_copy_have_the_same_guard() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.path().join("a"), &text).unwrap();
        std::fs::write(dir.path().join("a.gz"), gzip_bytes(&text)).unwrap();
        let plain = Content::Plain(Arc::new(File::open(dir.path().join("a")).unwrap()));
        let packed = File::open(dir.path().join("a.gz")).unwrap();
        let tenant = dir.path().to_string_lossy().into();
        let how = Unpacking { state_dir: dir.path().into(), limit: u64::MAX, tenant };
        let permit = permit(Arc::clone(&how.tenant), &packed).unwrap();
        let packed = Content::gzip(packed, how, permit);
        let end = text.len() as u64;
        for offset in [1, 64, 254, 255, 256, 4_096, end - 1, end] {
            let guard = Guard::of(&text[..offset as usize]);
            for content in [&plain, &packed] {
                assert_eq!(in_the_end(|| content.guard(offset)), guard);
                assert!(in_the_end(|| content.is_guarded_by(guard, offset)));
            }
        }
        let guard = Guard::of(&text);
        assert!(!plain.is_guarded_by(guard, end + 1).unwrap(), "the file is shorter");
        assert!(!in_the_end(|| packed.is_guarded_by(guard, end + 1)));
        assert!(!plain.is_guarded_by(guard, end - 1).unwrap(), "other bytes are there");
        assert!(plain.guard(end + 1).unwrap().is_none());
    }
}
