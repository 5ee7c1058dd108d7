//! Stopping: sinks that get on are read for until they have what is there; one that does not is
//! waited for, but holds up nobody.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};

use crate::read::reader::{Caught, Message};

/// How often it is looked how far everybody is.
const LOOK: Duration = Duration::from_millis(20);
/// A file that was left behind is waited for this long at most, for its successor to be read.
const PASSING: Duration = Duration::from_secs(2);

/// Waits until every sink has what is there now, or until the deadline. Reading goes on meanwhile.
/// `busy`: slots of the sinks that have something on its way.
pub(super) fn catch_up(
    readers: &[Sender<Message>],
    busy: impl Fn() -> Vec<u16>,
    deadline: Instant,
) {
    let began = Instant::now();
    while let Some(caught) = ask(readers, deadline) {
        let waits = !caught.stalled.is_empty() || !busy().is_empty();
        let passing = caught.passing && began.elapsed() < PASSING;
        if !waits && !passing || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until each reader has read what it has room for. None: the deadline came first.
fn ask(readers: &[Sender<Message>], deadline: Instant) -> Option<Caught> {
    let (reply, replies) = unbounded();
    for reader in readers {
        let _ended = reader.send(Message::Catch(reply.clone()));
    }
    drop(reply);
    let mut all = Caught::default();
    loop {
        match replies.recv_deadline(deadline) {
            Ok(caught) => {
                all.stalled.extend(caught.stalled);
                all.passing |= caught.passing;
            }
            Err(RecvTimeoutError::Disconnected) => return Some(all),
            Err(RecvTimeoutError::Timeout) => return None,
        }
    }
}

/// A thread's result, if it ends by then: one that hangs in a system call must not hold up the
/// agent's end.
pub(super) fn join_by<T>(thread: JoinHandle<T>, deadline: Instant) -> Option<T> {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            tracing::error!(
                thread = name,
                "A thread did not end in time; the agent ends without it."
            );
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.join().ok()
}
