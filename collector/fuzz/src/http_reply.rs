//! Replies of a server that means no good: what the http sink's client makes of any bytes, in any pieces.

use std::{sync::OnceLock, time::Instant};

use collector::{
    fuzzing::{Answer, Replies},
    shown,
};

use super::input::Input;

/// Bytes of a body that may be kept, and of what is said of a reply.
const KEPT: usize = 64 << 10;
const SAID: usize = 4 << 10;

/// Choices: sizes of the pieces that the reply comes in. Content: the reply.
pub fn run(data: &[u8]) {
    static REPLIES: OnceLock<Replies> = OnceLock::new();
    let replies = REPLIES.get_or_init(|| Replies::new().expect("a loopback"));
    let mut input = Input::new(data);
    let (sizes, mut rest) = (input.sizes(), input.content);
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    let begun = Instant::now();
    let answer = replies.answer(&pieces).expect("the machine has sockets");
    // Whoever closes the connection is not waited for.
    assert!(begun.elapsed() < Replies::DEADLINE, "{answer:?}");
    bounded(&answer);
    if answer.delivered {
        acknowledges(input.content);
    }
}

/// Nothing is longer than it may be, and what is said can be shown and holds no secret.
fn bounded(answer: &Answer) {
    assert!(answer.kept <= KEPT && answer.said.len() <= SAID, "{answer:?}");
    assert!(answer.wait.is_none_or(|wait| wait <= Replies::LONGEST_WAIT), "{answer:?}");
    assert!(shown::is_safe(&answer.said), "{:?}", answer.said);
    assert!(!answer.said.contains("hidden"), "{}", answer.said);
    assert!(matches!(answer.class, None | Some("io" | "reply")), "{answer:?}");
    assert!(answer.class.is_none() || !answer.delivered);
}

/// A status of success, and the header's end behind it.
fn acknowledges(reply: &[u8]) {
    let find = |wanted: &[u8]| reply.windows(wanted.len()).position(|found| found == wanted);
    let status = [b"HTTP/1.1 2", b"HTTP/1.0 2"].into_iter().filter_map(|status| find(status)).min();
    let status = status.expect("an acknowledgement without a status of success");
    let ends = [&b"\n\n"[..], b"\n\r\n"]
        .into_iter()
        .any(|end| reply[status..].windows(end.len()).any(|found| found == end));
    assert!(ends, "an acknowledgement without its header's end");
}
