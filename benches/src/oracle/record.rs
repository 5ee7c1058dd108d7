//! One delivered record, as far as the oracle looks at it.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// The fields that matter here; everything else is skipped.
#[derive(Debug, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(rename = "log.record.uid", borrow, default)]
    pub(super) uid: Cow<'a, str>,
    #[serde(borrow, default)]
    body: Cow<'a, str>,
    #[serde(rename = "everyline.body_base64", borrow, default)]
    exact: Option<Cow<'a, str>>,
    #[serde(rename = "everyline.unparsed", default)]
    pub(super) unparsed: bool,
    #[serde(rename = "everyline.partial", default)]
    pub(super) partial: bool,
    #[serde(rename = "everyline.split", default)]
    pub(super) split: u32,
    #[serde(rename = "everyline.split_last", default)]
    pub(super) split_last: bool,
    #[serde(rename = "everyline.cut_bytes", default)]
    pub(super) cut: u64,
    #[serde(rename = "log.iostream", borrow, default)]
    pub(super) stream: Cow<'a, str>,
    #[serde(rename = "k8s.namespace.name", borrow, default)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(rename = "k8s.pod.name", borrow, default)]
    pub(super) pod: Cow<'a, str>,
    #[serde(rename = "k8s.container.name", borrow, default)]
    pub(super) container: Cow<'a, str>,
    #[serde(rename = "container.id", borrow, default)]
    pub(super) container_id: Cow<'a, str>,
    #[serde(rename = "log.file.path", borrow, default)]
    pub(super) path: Cow<'a, str>,
}

impl Record<'_> {
    /// The message's exact bytes. A base64 field that does not decode is as good as no message.
    pub(super) fn message(&self) -> Cow<'_, [u8]> {
        match &self.exact {
            Some(text) => Cow::Owned(STANDARD.decode(text.as_bytes()).unwrap_or_default()),
            None => Cow::Borrowed(self.body.as_bytes()),
        }
    }

    /// Whose it is, as the record says.
    pub(super) fn source(&self) -> String {
        format!("{}/{}/{}/{}", self.pod, self.container, self.container_id, self.stream)
    }
}

/// Calls `each` with every record of a body: NDJSON, or one JSON array.
pub(super) fn for_each<'a>(
    text: &'a [u8],
    mut each: impl FnMut(Result<Record<'a>, serde_json::Error>),
) {
    if text.trim_ascii_start().first() == Some(&b'[') {
        match serde_json::from_slice::<Vec<Record<'a>>>(text) {
            Ok(records) => records.into_iter().for_each(|record| each(Ok(record))),
            Err(error) => each(Err(error)),
        }
        return;
    }
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        each(serde_json::from_slice(line));
    }
}
