//! The messages that are begun: at most one a stream, and one of what does not parse.

use super::parts::{Opening, Part};
use crate::{
    decode::MESSAGES,
    record::{Origin, Stream, timestamp::Stamp},
};

/// Buffers up to this size are kept for the next message.
const KEPT: usize = 64 * 1024;

/// Where a message is made. What cannot be parsed must not come between the partials of what can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Stdout,
    Stderr,
    Streamless,
    Unparsed,
}

/// All lanes, in the order of their messages.
const LANES: [Lane; MESSAGES] = [Lane::Stdout, Lane::Stderr, Lane::Streamless, Lane::Unparsed];

/// Every message in the making. No room is taken until one opens: most sources never need it.
#[derive(Debug, Default)]
pub(super) struct Messages(Option<Box<Making>>);

#[derive(Debug, Default)]
struct Making {
    /// Indexed by [`Lane`].
    messages: [Message; MESSAGES],
    /// How many were opened so far.
    begun: u64,
}

/// One message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) open: bool,
    /// The bound is passed: the rest is only counted.
    pub(super) cutting: bool,
    /// Orders open messages by age; offsets of different files do not.
    begun: u64,
    pub(super) origin: Option<Origin>,
    /// Where the piece being gathered begins; the first begins at `origin`.
    pub(super) piece_origin: Option<Origin>,
    pub(super) pieces: u32,
    /// Lines and pieces so far.
    pub(super) parts: u32,
    pub(super) cut: u64,
    pub(super) stamp: Stamp,
    pub(super) text: Vec<u8>,
}

impl Messages {
    /// A lane's message, if one was ever opened.
    #[inline]
    pub(super) fn get(&self, lane: Lane) -> Option<&Message> {
        Some(&self.0.as_ref()?.messages[lane as usize])
    }

    /// A lane's message.
    #[inline]
    pub(super) fn get_mut(&mut self, lane: Lane) -> &mut Message {
        &mut self.0.get_or_insert_default().messages[lane as usize]
    }

    /// Those that are begun and not ended.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (Lane, &Message)> {
        let messages = self.0.iter().flat_map(|making| &making.messages);
        LANES.into_iter().zip(messages).filter(|(_, message)| message.open)
    }

    /// The one of these that was begun first.
    pub(super) fn oldest(&self) -> Option<(Lane, &Message)> {
        self.open_ones().min_by_key(|(_, message)| message.begun)
    }

    /// Begins the message of `part`; false if it is begun.
    pub(super) fn open(&mut self, part: Part<'_>) -> bool {
        let making = self.0.get_or_insert_default();
        let message = &mut making.messages[Lane::of(part) as usize];
        if message.open {
            return false;
        }
        let Opening { origin, timestamp, unparsed: _ } = part.opening;
        *message = Message {
            open: true,
            cutting: false,
            begun: making.begun,
            origin: Some(origin),
            piece_origin: Some(origin),
            pieces: 0,
            parts: 0,
            cut: 0,
            stamp: Stamp::new(timestamp),
            text: std::mem::take(&mut message.text),
        };
        making.begun += 1;
        true
    }

    /// Takes back the text of a lane's last record; a large buffer is not kept.
    pub(super) fn clear(&mut self, lane: Lane) {
        let text = &mut self.get_mut(lane).text;
        text.clear();
        text.shrink_to(KEPT);
    }

    /// Gives back what only later messages would use.
    pub(super) fn give_back(&mut self) {
        if self.open_ones().next().is_none() {
            self.0 = None;
        } else if let Some(making) = &mut self.0 {
            for message in making.messages.iter_mut().filter(|message| !message.open) {
                message.text = Vec::new();
            }
        }
    }

    /// Memory that texts hold.
    pub(super) fn bytes(&self) -> usize {
        let messages = self.0.iter().flat_map(|making| &making.messages);
        messages.map(|message| message.text.capacity()).sum()
    }
}

impl Lane {
    pub(super) fn of(part: Part<'_>) -> Self {
        match part.stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
            Stream::None if part.opening.unparsed => Self::Unparsed,
            Stream::None => Self::Streamless,
        }
    }

    pub(super) fn stream(self) -> Stream {
        match self {
            Self::Stdout => Stream::Stdout,
            Self::Stderr => Stream::Stderr,
            Self::Streamless | Self::Unparsed => Stream::None,
        }
    }
}
