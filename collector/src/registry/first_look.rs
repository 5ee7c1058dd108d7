//! What the first look for logs came to, told to whoever started the agent.

use super::Registry;
use crate::identity::beneath::{self, Way};

impl Registry {
    /// Where nothing was found, that is what most often is wrong: it is said where was looked.
    pub(super) fn tell_first_look(&self) {
        if beneath::way() == Way::Names {
            tracing::info!(
                "openat2(2) is refused here (Linux before 5.6, or a seccomp profile), so logs are opened name by \
                 name. Links are refused as well; nothing needs doing."
            );
        }
        let (sources, files) = (self.sources.len(), self.held.awake());
        if sources > 0 {
            let directories = self.directories.len();
            tracing::info!(sources, files, directories, "The first look for logs is done.");
            return;
        }
        let looked_in = self.setup.discovery.looked_in();
        let root = self.setup.discovery.host_root();
        tracing::warn!(
            looked_in = looked_in.join(", "),
            host_root = %root.display(),
            "No log was found. What appears there is collected at once; logs that are elsewhere are named \
             under sources.files. `everyline doctor` looks closer."
        );
    }
}
