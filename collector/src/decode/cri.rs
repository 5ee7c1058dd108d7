//! The CRI log format: `RFC3339Nano SP stdout|stderr SP P|F[:tags] SP message`.
//!
//! `P` is part of a message that the stream's next line continues, `F` its end. Written by
//! containerd and CRI-O, read by the kubelet (pkg/kubelet/kuberuntime/logs of Kubernetes), whose
//! idea of a valid line this follows, but for a stricter look at the timestamp: it is passed on as
//! it stands. Tags after the first are reserved by the format and have no meaning yet. An empty message
//! may be without the space before it.

use memchr::memchr;

use super::{
    Limits, Step,
    join::{End, Joiner, Line, Opening, Part},
    nuls,
};
use crate::{
    identity::FileId,
    record::{Body, Marks, Origin, Record, Stream, timestamp::Recognizer},
};

/// Decodes a CRI file.
#[derive(Debug)]
pub(super) struct Cri {
    pub(super) joiner: Joiner,
    times: Recognizer,
}

/// A line's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    timestamp: usize,
    stream: Stream,
    last: bool,
    /// Bytes up to the message.
    len: usize,
}

impl Cri {
    pub(super) fn new(limits: Limits) -> Self {
        Self { joiner: Joiner::new(limits), times: Recognizer::default() }
    }

    #[inline]
    pub(super) fn next<'a>(&'a mut self, file: FileId, offset: u64, input: &'a [u8]) -> Step<'a> {
        if self.joiner.is_idle()
            && let Some(header) = parse(&mut self.times, input, End::Open)
            && header.last
        {
            let rest = &input[header.len..];
            let window = &rest[..rest.len().min(self.joiner.bound() + 1)];
            if let Some(len) = memchr(b'\n', window) {
                let record = Record {
                    origin: Origin { file, offset },
                    timestamp: Some(&input[..header.timestamp]),
                    stream: header.stream,
                    body: Body::Raw(&rest[..len]),
                    marks: Marks::default(),
                };
                return Step::Record { record, consumed: header.len + len + 1 };
            }
        }
        self.step(file, offset, input, End::Open)
    }

    #[cold]
    pub(super) fn step<'a>(
        &'a mut self,
        file: FileId,
        offset: u64,
        input: &'a [u8],
        end: End,
    ) -> Step<'a> {
        self.joiner.settle();
        if let Some(part) = self.joiner.inside() {
            return self.joiner.take(part, Line { file, offset, header: 0, rest: input, end });
        }
        if let Some(step) = nuls::skip(input, nuls::FORMATTED, end) {
            return step;
        }
        let header = parse(&mut self.times, input, end);
        if header.is_none() && end == End::Open && may_become_header(input) {
            return Step::NeedMore;
        }
        let unparsed = header.is_none();
        let (stream, last, timestamp, len) = match header {
            Some(header) => {
                (header.stream, header.last, Some(&input[..header.timestamp]), header.len)
            }
            None => (Stream::None, true, None, 0),
        };
        let opening = Opening { origin: Origin { file, offset }, timestamp, unparsed };
        let line =
            Line { file, offset: offset + len as u64, header: len, rest: &input[len..], end };
        self.joiner.take(Part { stream, last, opening }, line)
    }
}

/// The header that `input` begins with, if it is whole and right.
#[inline]
fn parse(times: &mut Recognizer, input: &[u8], end: End) -> Option<Header> {
    let timestamp = times.prefix(input)?;
    let (stream, rest) = input[timestamp..].split_first_chunk::<8>()?;
    let stream = match stream {
        b" stdout " => Stream::Stdout,
        b" stderr " => Stream::Stderr,
        _ => return None,
    };
    let last = match rest.first()? {
        b'F' => true,
        b'P' => false,
        _ => return None,
    };
    let tags = match rest.get(1) {
        Some(b' ') => 2,
        _ => unusual_tags(rest, end)?,
    };
    Some(Header { timestamp, stream, last, len: timestamp + 8 + tags })
}

/// The length of the tags and what divides them from the message, where it is not one tag and a space.
#[cold]
fn unusual_tags(rest: &[u8], end: End) -> Option<usize> {
    match rest.get(1) {
        Some(b':') => further_tags(rest).map(|tags| tags + 1),
        // conmon ends what a container left unfinished with a line that has no message, and no space
        // before it.
        Some(b'\n') => Some(1),
        None if end == End::File => Some(1),
        Some(_) | None => None,
    }
}

/// The length of `F:tag:…`, up to the space.
fn further_tags(rest: &[u8]) -> Option<usize> {
    let end =
        rest[..rest.len().min(MAX_TAGS)].iter().position(|byte| matches!(byte, b' ' | b'\n'))?;
    (rest[end] == b' ').then_some(end)
}

/// Whether more bytes could still make a header of `input`, which is none as it is.
fn may_become_header(input: &[u8]) -> bool {
    input.len() < MAX_HEADER && memchr(b'\n', input).is_none()
}

/// Longest tags taken for tags.
const MAX_TAGS: usize = 192;

/// No header is longer: timestamp (35), stream (8), tags and a space.
const MAX_HEADER: usize = 256;
