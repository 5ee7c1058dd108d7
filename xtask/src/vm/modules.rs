//! Kernel modules and what they need, in an order in which they can be inserted one by one. Reads
//! the indexes of one kernel; loads nothing.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result};

/// Paths below `modules` of these modules and of all that they need, needed ones first. What is
/// built into the kernel is left out.
pub(super) fn in_order(modules: &Path, wanted: &[&str]) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))
    };
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    Index::new(&dependencies, &builtin).in_order(wanted)
}

/// What the lines of `modules.dep` and `modules.builtin` say.
struct Index<'a> {
    /// By name: the module's path, and those of what it needs.
    modules: HashMap<String, (&'a str, Vec<&'a str>)>,
    builtin: Vec<String>,
}

impl<'a> Index<'a> {
    fn new(dependencies: &'a str, builtin: &str) -> Self {
        let line = |line: &'a str| {
            let (path, needs) = line.split_once(':')?;
            Some((name(path), (path, needs.split_whitespace().collect())))
        };
        Self {
            modules: dependencies.lines().filter_map(line).collect(),
            builtin: builtin.lines().map(name).collect(),
        }
    }

    fn in_order(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for module in wanted {
            self.add(&name(module), &mut order)?;
        }
        Ok(order)
    }

    /// Depth first. The kernel's build refuses circles.
    fn add(&self, module: &str, order: &mut Vec<String>) -> Result<()> {
        if self.builtin.iter().any(|builtin| builtin == module) {
            return Ok(());
        }
        let (path, needs) = self.modules.get(module).with_context(|| {
            format!("The kernel has no module {module}, and it is not built in either")
        })?;
        if order.iter().any(|known| known == path) {
            return Ok(());
        }
        for need in needs {
            self.add(&name(need), order)?;
        }
        order.push((*path).to_owned());
        Ok(())
    }
}

/// A module's name: its file's, without what tells compression, and with one kind of dash.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio-ring.ko.xz
kernel/drivers/virtio/virtio-ring.ko.xz:
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio-ring.ko.xz
kernel/fs/btrfs/btrfs.ko: kernel/lib/libcrc32c.ko kernel/crypto/xor.ko
kernel/crypto/xor.ko:
";

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let index = Index::new(DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n");
        let order = index.in_order(&["virtio_pci", "xfs", "ext4", "btrfs", "xfs"]).unwrap();
        let expected = [
            "kernel/drivers/virtio/virtio-ring.ko.xz",
            "kernel/drivers/virtio/virtio.ko.xz",
            "kernel/drivers/virtio/virtio_pci.ko.xz",
            "kernel/lib/libcrc32c.ko",
            "kernel/fs/xfs/xfs.ko",
            "kernel/crypto/xor.ko",
            "kernel/fs/btrfs/btrfs.ko",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_is_nowhere_is_named() {
        let error = Index::new(DEPENDENCIES, "").in_order(&["zfs"]).unwrap_err();
        let expected = "The kernel has no module zfs, and it is not built in either";
        assert_eq!(error.to_string(), expected);
    }
}
