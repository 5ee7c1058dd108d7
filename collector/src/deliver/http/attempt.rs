//! One attempt at delivering one payload, and what its result means.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};
use jiff::Timestamp;

use super::{
    Sink,
    backoff::Backoff,
    client::{Exchange, Failure, Reply},
    content_encoding,
    limit::Signal,
    renew::Failed,
    retry_after,
};
use crate::{
    config::{self, Compression},
    shown,
};

/// Characters of a reply that an error message has room for.
const SHOWN: usize = 200;

/// What to do after an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server has it.
    Delivered,
    /// 413: send less at once.
    TooLarge(String),
    /// Refused for its content, for good as far as the server can say.
    Refused(String),
    /// Failed in a way that passes.
    Retry,
    /// Failed for a reason that was just mended: no need to wait.
    Again,
}

/// Waits for its turn, sends once, reports a failure.
pub(super) async fn attempt(
    sink: &Sink,
    payload: Bytes,
    compression: Compression,
    id: HeaderValue,
) -> Verdict {
    let slot = loop {
        sink.pause.wait().await;
        let slot = sink.limit.acquire().await;
        // The server may have asked for a pause while this one queued.
        if sink.pause.is_over() {
            break slot;
        }
        drop(slot);
    };
    let mut headers = sink.headers.clone();
    headers.insert(config::BATCH_ID, id);
    if let Some(encoding) = content_encoding(compression) {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    sink.renew_if_old();
    sink.auth.apply(&mut headers);
    let bytes = payload.len();
    let Exchange { result, peer } = sink.client.post(headers, payload).await;
    slot.done(signal(&result));
    if let (Some(peer), Some(works)) = (peer, works(&result)) {
        sink.client.note(peer, works);
    }
    match result {
        Ok(reply) if reply.status.is_success() => {
            sink.metrics.delivered(bytes);
            sink.renewal.delivered();
            Verdict::Delivered
        }
        Ok(reply) => judge(sink, &reply),
        Err(failure) => {
            sink.metrics.error(failure.class());
            if sink.renew_after(Failed::Delivery) {
                return Verdict::Again;
            }
            sink.report.failure(&format!(
                "Cannot deliver to {}: {failure}. Trying again.",
                sink.client.shown()
            ));
            Verdict::Retry
        }
    }
}

fn signal(result: &Result<Reply, Failure>) -> Signal {
    match result {
        Ok(reply) if reply.status.is_success() => Signal::Success,
        Ok(reply) => match reply.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Signal::Overload,
            _ => Signal::Neutral,
        },
        Err(Failure::Timeout(_)) => Signal::Overload,
        Err(_) => Signal::Neutral,
    }
}

/// Whether the server at this address does its work. None: the reply speaks of what was sent.
fn works(result: &Result<Reply, Failure>) -> Option<bool> {
    match result {
        Ok(reply) if reply.status.is_success() => Some(true),
        Ok(reply) if is_for_content(reply.status) => None,
        Ok(_) | Err(_) => Some(false),
    }
}

/// What a reply other than success asks for.
fn judge(sink: &Sink, reply: &Reply) -> Verdict {
    sink.metrics.error(class(reply.status));
    let said = describe(sink.client.shown(), reply);
    // An expired client certificate or a moved server may look like a refusal of what was sent.
    if is_for_content(reply.status) {
        return match reply.status {
            _ if sink.renew_after(Failed::Content) => Verdict::Again,
            StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooLarge(said),
            _ => Verdict::Refused(said),
        };
    }
    let renewed = sink.renew_after(Failed::Delivery);
    if let Some(wait) = retry_after::parse(&reply.headers, Timestamp::now(), sink.backoff_max) {
        // Agents that were told the same time must not all come back at it.
        let spread = Backoff::new(sink.backoff_base, sink.backoff_base).next();
        sink.pause.at_least(wait + spread);
    }
    if renewed {
        return Verdict::Again;
    }
    sink.report.failure(&format!("{said} Trying again."));
    Verdict::Retry
}

/// Whether a status refuses what was sent. The other client errors say something of the address, the
/// credentials or the settings: they are the operator's to mend, and concern every batch alike.
fn is_for_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS
    )
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "429",
        100..=199 => "1xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// A full sentence of what the server answered and what to do about it.
pub(super) fn describe(url: &str, reply: &Reply) -> String {
    let status = reply.status;
    let body = shown::excerpt(&reply.body, SHOWN);
    let body = if body.is_empty() { body } else { format!(", saying “{body}”") };
    let advice = match status {
        status if status.is_redirection() => {
            let to = reply.headers.get(header::LOCATION).map_or(&b"?"[..], HeaderValue::as_bytes);
            let to = shown::excerpt(to, SHOWN);
            return format!(
                "{url} answered {status} and redirects to {to}. Redirects are not followed, lest \
                 logs and credentials go elsewhere: set `url` to the final address."
            );
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " Check `auth` and its secret.",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => " Check the user and password in `proxy`.",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => " Check `url`.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => " Check `body` and `compression`.",
        _ => "",
    };
    format!("{url} answered {status}{body}.{advice}")
}

/// The pause a server asked for, for the whole sink.
#[derive(Default)]
pub(super) struct Pause(std::sync::Mutex<Option<tokio::time::Instant>>);

impl Pause {
    fn at_least(&self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        let mut current = self.lock();
        *current = Some(current.map_or(until, |current| current.max(until)));
    }

    async fn wait(&self) {
        while let Some(until) = self.remaining() {
            tokio::time::sleep_until(until).await;
        }
    }

    fn is_over(&self) -> bool {
        self.remaining().is_none()
    }

    fn remaining(&self) -> Option<tokio::time::Instant> {
        (*self.lock()).filter(|until| *until > tokio::time::Instant::now())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<tokio::time::Instant>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
