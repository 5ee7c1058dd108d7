//! What is said of a source changes, or comes a moment after its first line.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::Reader;
use crate::{
    messages::{self, Kind},
    read::tail::TailId,
    source::Source,
};

/// The tails of whose sources more is told soon.
#[derive(Default)]
pub(super) struct Undescribed {
    /// How long that is waited for.
    until: HashMap<TailId, Instant, foldhash::fast::RandomState>,
    /// Nothing is waited for any more.
    over: bool,
}

impl Reader {
    /// More will be told of a source soon: nothing of it is read until then, or this instant.
    pub(super) fn await_description(&mut self, id: TailId, until: Instant) {
        if !self.undescribed.over {
            self.undescribed.until.insert(id, until);
        }
    }

    /// What is known of a source from here on.
    pub(super) fn describe(&mut self, id: TailId, source: Arc<Source>) {
        self.undescribed.until.remove(&id);
        self.encodings.forget(id);
        if let Some(tail) = self.tails.get_mut(&id) {
            if tail.source.format != source.format {
                for cursor in &mut tail.cursors {
                    let decoder = (self.setup.cursor)(cursor.sink(), &source).decoder;
                    if !cursor.decode_by(decoder)
                        && let Some(unsaid) = messages::admit(Kind::Format, &source.path)
                    {
                        tracing::warn!(
                            path = %source.path.display(),
                            "Another format or encoding was configured in the middle of a message: \
                             this log is read as before until the agent is restarted.{unsaid}"
                        );
                    }
                }
            }
            tail.source = source;
        }
        self.enqueue(id);
    }

    /// Whether a tail is left alone because more is told of its source soon.
    pub(super) fn awaits_description(&mut self, id: TailId) -> bool {
        let Some(until) = self.undescribed.until.get(&id).copied() else { return false };
        if until <= Instant::now() {
            self.undescribed.until.remove(&id);
            return false;
        }
        if let Some(mut tail) = self.tails.remove(&id) {
            tail.queued = false;
            self.look_again(id, &mut tail, until);
            self.tails.insert(id, tail);
        }
        true
    }

    /// Nothing is waited for any more: the agent ends.
    pub(super) fn read_undescribed(&mut self) {
        self.undescribed.over = true;
        for (id, _) in std::mem::take(&mut self.undescribed.until) {
            self.enqueue(id);
        }
    }
}
