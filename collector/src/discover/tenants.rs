//! Whose a directory is: whoever may make directories there has one share of what all have in common.

use std::{path::Path, sync::Arc};

use super::Discovery;

impl Discovery {
    /// Whose a directory is in which logs are looked for; None: one that the configuration names, or that leads there.
    pub fn tenant_of(&self, directory: &Path) -> Option<Arc<str>> {
        let here = self.host.outside(directory)?;
        let namespace = self.kubernetes.as_ref().and_then(|it| it.owner(&self.host, &here));
        if let Some(namespace) = namespace {
            return Some(namespace.into());
        }
        let owner = self.files.owner(&self.host, &here)?;
        Some(Arc::from(&*self.host.inside(&owner).to_string_lossy()))
    }
    /// Whether each directory in this one may be another tenant's. Elsewhere all in one directory are of one tenant.
    pub fn sets_apart(&self, directory: &Path) -> bool {
        let here = self.host.outside(directory);
        here.zip(self.kubernetes.as_ref()).is_some_and(|(here, it)| it.is_pods(&self.host, &here))
    }
}
