//! A batch until it is settled: attempts with back-off, in pieces if the server wants less at once.

use hyper::header::HeaderValue;

use super::{
    Sink,
    attempt::{Verdict, attempt},
    backoff::Backoff,
    split::{Piece, Split},
};
use crate::{batch::Batch, config::OnReject, reason::Reason};

/// Delivers the batch, however long that takes, and settles it once all of it is dealt with.
pub(super) async fn deliver(sink: &Sink, batch: Batch) {
    if batch.lines == 0 {
        // Progress without records: nothing to send.
        return batch.delivered(None);
    }
    let id = batch_id(&batch);
    let records = 0..batch.lines as usize;
    let mut pieces = vec![Piece { payload: batch.payload.clone(), records }];
    let mut split = None;
    let mut dropped = Vec::new();
    let mut backoff = Backoff::new(sink.backoff_base, sink.backoff_max);
    let mut trouble = None;
    // The last is the next to send: halves are pushed in reverse.
    while let Some(piece) = pieces.pop() {
        let header = header(id, &piece, &batch);
        match attempt(sink, piece.payload.clone(), batch.compression, header).await {
            Verdict::Delivered => {
                backoff = Backoff::new(sink.backoff_base, sink.backoff_max);
                continue;
            }
            Verdict::TooLarge(said) => {
                if let Some((first, second)) = halve(sink, &mut split, &batch, &piece) {
                    pieces.extend([second, first]);
                    continue;
                }
                if give_up(sink, &piece, Reason::TooLarge, &said) {
                    dropped.push((piece.records, Reason::TooLarge));
                    continue;
                }
            }
            Verdict::Refused(said) => {
                if give_up(sink, &piece, Reason::Rejected, &said) {
                    dropped.push((piece.records, Reason::Rejected));
                    continue;
                }
            }
            Verdict::Again => {
                sink.metrics.retry();
                pieces.push(piece);
                continue;
            }
            Verdict::Retry => {}
        }
        pieces.push(piece);
        sink.metrics.retry();
        trouble.get_or_insert_with(|| sink.report.trouble());
        tokio::time::sleep(backoff.next()).await;
    }
    drop(trouble);
    fail::fail_point!("deliver.acknowledged");
    settle(sink, batch, split, &dropped);
}

/// Whether the operator lets the piece go.
fn give_up(sink: &Sink, piece: &Piece, reason: Reason, said: &str) -> bool {
    match sink.on_reject {
        OnReject::Drop => {
            let lines = u32::try_from(piece.records.len()).unwrap_or(u32::MAX);
            sink.report.dropped(lines, reason, said);
            true
        }
        OnReject::Retry => {
            sink.report.failure(&format!(
                "{said} Trying again until it is taken; later lines wait (`on_reject: drop` would \
                 give it up instead)."
            ));
            false
        }
    }
}

/// The piece in two. None: it is a single record.
fn halve(
    sink: &Sink,
    split: &mut Option<Split>,
    batch: &Batch,
    piece: &Piece,
) -> Option<(Piece, Piece)> {
    if piece.records.len() < 2 {
        return None;
    }
    let opened = match split.take() {
        Some(split) => Ok(split),
        None => Split::open(batch, sink.level),
    };
    let result = opened.and_then(|opened| split.insert(opened).halve(piece));
    result
        .inspect_err(|error| {
            // Of our own making, so only a fault of ours gets here; it is retried whole.
            tracing::error!(sink = sink.name, %error, "Cannot split a batch.");
        })
        .ok()
}

fn settle(
    sink: &Sink,
    batch: Batch,
    split: Option<Split>,
    dropped: &[(std::ops::Range<usize>, Reason)],
) {
    match (dropped, split) {
        ([], _) => batch.delivered(None),
        ([(_, reason), ..], None) => batch.dropped(*reason),
        (dropped, Some(split)) => {
            tracing::debug!(sink = sink.name, pieces = dropped.len(), "Dropped part of a batch.");
            split.settle_in_part(batch, dropped);
        }
    }
}

/// Which bytes of which files it carries, as a number: the same for the same records, whenever and
/// however they are encoded. FNV-1a, 128 bits.
fn batch_id(batch: &Batch) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for range in &batch.ranges {
        for number in [range.file.id.0, range.end, range.bytes, u64::from(range.lines)] {
            for byte in number.to_le_bytes() {
                hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
            }
        }
    }
    hash
}

/// The batch's id, and for a piece of it which records: `ID` or `ID.FIRST+COUNT`.
fn header(id: u128, piece: &Piece, batch: &Batch) -> HeaderValue {
    let text = if piece.records.len() == batch.lines as usize {
        format!("{id:032x}")
    } else {
        format!("{id:032x}.{}+{}", piece.records.start, piece.records.len())
    };
    // Hex digits, a dot, a plus.
    HeaderValue::try_from(text).unwrap_or_else(|_impossible| HeaderValue::from_static("0"))
}
