//! What the settling thread is told: single facts, or several that hold together.

use super::Registry;
use crate::{
    identity::FileId,
    settle::{Command, Went},
};

impl Registry {
    /// Tells the settling thread, which is gone only when the agent is going down.
    pub(super) fn tell(&mut self, command: Command) {
        match &mut self.together {
            Some(commands) => commands.push(command),
            None => drop(self.setup.settler.send(command)),
        }
    }

    /// Whatever is told meanwhile becomes durable in one commit. What the kernel told is forgotten there
    /// once it is counted: an agent that is killed between two commits must not leave half of that.
    pub(super) fn together<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        if self.together.is_some() {
            return act(self);
        }
        self.together = Some(Vec::new());
        let answer = act(self);
        let commands = self.together.take().unwrap_or_default();
        if !commands.is_empty() {
            self.tell(Command::Together(commands));
        }
        answer
    }

    /// These files are finished and gone. The kernel forgets with them what it saw of their ends, which is
    /// counted by now: to the next agent it would be a file that nobody had ever read.
    pub(super) fn tell_forgotten(&mut self, ids: Vec<FileId>) {
        if ids.is_empty() {
            return;
        }
        self.together(|this| {
            let counted = this.setup.watcher.counted_of(&ids);
            this.tell(Command::Forget(ids));
            this.tell(Command::Went(Went { counted, ..Went::default() }));
        });
    }
}
