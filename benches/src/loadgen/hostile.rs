//! Messages that no sane program prints and that some program prints every day.

use rand::{Rng, seq::IndexedRandom};
use rand_pcg::Pcg64Mcg;

use crate::framing::Format;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hostile {
    /// NUL bytes in it.
    Nul,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A carriage return at its end.
    Return,
    /// Terminal escapes.
    Ansi,
    /// Quotes, backslashes, control characters, line separators.
    Quoting,
    /// Nothing in it, not even a tag.
    Empty,
    /// A physical line without the format's frame.
    Bare,
    /// Longer than 1 MiB, in the runtime's pieces.
    Huge,
    /// Longer than 1 MiB in one physical line.
    HugeLine,
}

const COMMON: [Hostile; 5] =
    [Hostile::Nul, Hostile::Return, Hostile::Ansi, Hostile::Quoting, Hostile::Empty];

/// Which one comes next. Docker never writes invalid UTF-8.
pub(super) fn pick(rng: &mut Pcg64Mcg, format: Format) -> Hostile {
    match rng.random_range(0..100) {
        0 => Hostile::Huge,
        1 if format == Format::Cri => Hostile::HugeLine,
        2..20 => Hostile::Bare,
        20..40 if format == Format::Cri => Hostile::NotUtf8,
        _ => *COMMON.choose(rng).unwrap_or(&Hostile::Nul),
    }
}

/// Makes `message` hostile; returns where its tag may go, given where it could have gone.
pub(super) fn disfigure(kind: Hostile, message: &mut Vec<u8>, place: usize) -> usize {
    let mut insert = |bytes: &[u8]| {
        message.splice(place..place, bytes.iter().copied());
        place
    };
    match kind {
        Hostile::Nul => insert(b"a\0b\0\0c"),
        Hostile::NotUtf8 => insert(b"\xff\xfe half \xe6\xb3 \xc0\xaf \xed\xa0\x80"),
        Hostile::Ansi => insert(b"\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J"),
        Hostile::Quoting => insert("\\\"\\\\ \t\x08\x0c\x7f \u{2028}\u{85} <&> \\u0041".as_bytes()),
        Hostile::Return => {
            message.push(b'\r');
            place
        }
        Hostile::Empty => {
            message.clear();
            0
        }
        Hostile::Bare => {
            let frame = b"not a frame ";
            message.splice(0..0, frame.iter().copied());
            place + frame.len()
        }
        Hostile::Huge | Hostile::HugeLine => {
            let mut filler = 0_u64;
            while message.len() < (1 << 20) + 70_000 {
                filler = filler.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                message.extend_from_slice(format!(" {filler:016x}").as_bytes());
            }
            place
        }
    }
}
