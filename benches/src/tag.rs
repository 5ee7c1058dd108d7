//! Who wrote a message and which one it is, sealed into the message itself.
//!
//! A tag is ` seq=w12o:345:9abcdef0`: writer 12, its standard output, message 345, and the CRC-32C
//! of everything else in the message. Whoever holds a message can tell its writer's pod without
//! asking anybody, because a writer's names follow from its number.

use memchr::memmem;

const MARK: &[u8] = b" seq=w";

/// One writer: a container and its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer(pub u32);

impl Writer {
    /// Its Kubernetes namespace.
    pub fn namespace(self) -> String {
        format!("team-{}", self.0 % 5)
    }

    /// Its pod's name.
    pub fn pod(self) -> String {
        format!("app-{}", self.0)
    }

    /// Its pod's uid.
    pub fn uid(self) -> String {
        format!("5eed0000-0000-4000-8000-{:012x}", self.0)
    }

    /// Its container's name.
    pub fn container(self) -> String {
        format!("main{}", self.0 % 3)
    }

    /// Its container's id, as Docker names its directory.
    pub fn container_id(self) -> String {
        let spread = u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{spread:016x}{:048x}", self.0)
    }
}

/// Which of a writer's sequences a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A physical line without the format's frame; the whole line is the message.
    Bare,
}

impl Stream {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Bare];

    /// A small number for arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in logs and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Bare => "bare",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Stdout => 'o',
            Self::Stderr => 'e',
            Self::Bare => 'b',
        }
    }
}

/// What a tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Who wrote it.
    pub writer: Writer,
    /// To which stream.
    pub stream: Stream,
    /// Which message of that stream, from 0.
    pub number: u64,
}

/// What was found in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// A tag, and the rest of the message is as it was sealed.
    Intact(Tag),
    /// A tag, but the rest is not what was sealed.
    Damaged(Tag),
    /// No tag.
    None,
}

/// Puts `tag` into the message `message[start..]` at `place`, sealing the rest.
pub fn seal(message: &mut Vec<u8>, start: usize, place: usize, tag: Tag) {
    let crc = checksum(&message[start..place], &message[place..], tag);
    let text = format!(" seq=w{}{}:{}:{crc:08x}", tag.writer.0, tag.stream.letter(), tag.number);
    message.extend_from_slice(text.as_bytes());
    message[place..].rotate_right(text.len());
}

/// Finds the tag in a message and checks the rest against it.
pub fn open(message: &[u8]) -> Finding {
    for at in memmem::find_iter(message, MARK) {
        let Some((tag, crc, length)) = parse(&message[at + MARK.len()..]) else { continue };
        let rest = &message[at + MARK.len() + length..];
        return if checksum(&message[..at], rest, tag) == crc {
            Finding::Intact(tag)
        } else {
            Finding::Damaged(tag)
        };
    }
    Finding::None
}

fn checksum(before: &[u8], after: &[u8], tag: Tag) -> u32 {
    let mut who = [0; 13];
    who[..4].copy_from_slice(&tag.writer.0.to_le_bytes());
    who[4] = tag.stream.index() as u8;
    who[5..].copy_from_slice(&tag.number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&who), before), after)
}

/// `12o:345:9abcdef0…` to the tag, its checksum and how long it is.
fn parse(text: &[u8]) -> Option<(Tag, u32, usize)> {
    let (writer, at) = digits(text, 0)?;
    let stream = match text.get(at)? {
        b'o' => Stream::Stdout,
        b'e' => Stream::Stderr,
        b'b' => Stream::Bare,
        _ => return None,
    };
    let (number, at) = digits(text, colon(text, at + 1)?)?;
    let at = colon(text, at)?;
    let crc = std::str::from_utf8(text.get(at..at + 8)?).ok()?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    let writer = Writer(u32::try_from(writer).ok()?);
    Some((Tag { writer, stream, number }, crc, at + 8))
}

fn colon(text: &[u8], at: usize) -> Option<usize> {
    (*text.get(at)? == b':').then_some(at + 1)
}

fn digits(text: &[u8], from: usize) -> Option<(u64, usize)> {
    let count = text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[from..from + count]).ok()?.parse().ok()?;
    Some((number, from + count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag { writer: Writer(12), stream: Stream::Stderr, number: 345 };

    #[test]
    fn sealed_anywhere_opens_and_names_its_writer() {
        for place in 3..=14 {
            let mut message = b"abcsome message".to_vec();
            seal(&mut message, 3, place, TAG);
            assert_eq!(&message[..3], b"abc");
            assert_eq!(open(&message[3..]), Finding::Intact(TAG));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let mut message = b"some message".to_vec();
        seal(&mut message, 0, 4, TAG);
        for index in 0..message.len() {
            let mut damaged = message.clone();
            damaged[index] ^= 0x01;
            assert_ne!(open(&damaged), Finding::Intact(TAG), "byte {index}");
        }
        message.truncate(message.len() - 1);
        assert_eq!(open(&message), Finding::Damaged(TAG));
    }

    #[test]
    fn untagged_text_is_nothing() {
        for text in [&b""[..], b" seq=w", b"x seq=w12o", b" seq=w12o:1", b" seq=w12q:1:00000000"] {
            assert_eq!(open(text), Finding::None);
        }
    }
}
