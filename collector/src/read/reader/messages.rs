//! What a reader is told, and what it tells.

use std::{path::Path, sync::Arc, time::Instant};

use crossbeam_channel::Sender;

use super::Caught;
use crate::{
    batch::{budget::Freed, encoding::Grouping, lane::Outlet},
    identity::FileId,
    ledger::FileAccount,
    read::tail::{LogFile, Tail, TailId},
    source::Source,
    watch::FileToken,
};

/// What a reader thread is told.
pub enum Message {
    /// A new source.
    Open(TailId, Box<Tail>),
    /// Another file of a source, later than all before, or older than the one named.
    Append(TailId, LogFile, Option<FileToken>),
    /// These files may have unread bytes; the null token stands for all of a source.
    Wake(Vec<(TailId, FileToken)>),
    /// A file that was let go has grown.
    Return(TailId, LogFile),
    /// A file lost its last collected name.
    Gone(TailId, FileToken),
    /// A file has a collected name (again); whether it is the live one's.
    Named(TailId, FileToken, bool),
    /// More is told of the source soon; nothing of it is read before that, or this instant.
    Await(TailId, Instant),
    /// Newer files of the source, or of any, may be there that are not handed over yet: until then no file
    /// is its last.
    Follow(Option<TailId>, Instant),
    /// What is known of the source from here on.
    Describe(TailId, Arc<Source>),
    /// The source is excluded: nothing more of it is read; or it is not any more.
    Exclude(TailId, bool),
    /// The source's directory is gone: no file will follow.
    Close(TailId),
    /// The checkpoint knows these tails' files now.
    Registered(Vec<TailId>),
    /// The cuts of these tails' files are durable, or were withdrawn.
    Cut(Vec<TailId>),
    /// A sink has parked a source: it goes back to what is settled, and leaves out so many records of
    /// these files, which were delivered. Not before this instant.
    Parked(u16, Arc<Path>, Vec<(FileId, u32)>, Instant),
    /// The record that a sink had parked a source for is settled.
    Unparked(u16, Arc<Path>),
    /// A sink's budget has room again, for one lane or for any.
    Freed(u16, Freed),
    /// Descriptors are short: idle files are to give way.
    GiveWay,
    /// A sink begins where the accounts say, in every file.
    AddSink {
        /// Where it gets its memory and sends its batches.
        outlet: Box<Outlet>,
        /// It was not there before: what was truncated by now is no loss of its.
        new: bool,
    },
    /// A sink gets no more; `awaited`: until it is added again.
    RemoveSink {
        /// Its slot.
        slot: u16,
        /// Files that it has not settled are held until then.
        awaited: bool,
    },
    /// Other bounds for the batches of the sink in this slot.
    Regroup(u16, Grouping),
    /// Say so when everything is read that there is room for.
    Catch(Sender<Caught>),
    /// Seal everything, read no more, end.
    Stop,
}

/// What a reader thread tells the registry.
pub enum Feedback {
    /// Nobody needs the file any more.
    Released(FileToken, Arc<FileAccount>),
    /// A truncated file goes on under a new account; the former one's life is over.
    Truncated(FileToken, Arc<FileAccount>, Arc<FileAccount>),
    /// A rotated file was written over; it goes on under no account. What was read of it.
    WrittenOver(FileToken, Arc<FileAccount>),
    /// All that was read of a life that a truncation ended is settled.
    CutOff(Arc<FileAccount>),
    /// A closed source is finished.
    Closed(TailId),
}

/// A request to make files known to the checkpoint before anything of them is sent.
pub struct Registration {
    /// The files.
    pub accounts: Vec<Arc<FileAccount>>,
    /// Where some of them are cut.
    pub cuts: Vec<(FileId, u64)>,
    /// Their tails, to be named in [`Message::Registered`].
    pub tails: Vec<TailId>,
    /// Whom to tell.
    pub reply: Sender<Message>,
}
