//! Pins in bpffs: what lets the kernel go on counting while no agent runs.
//!
//! `PIN_DIR/STATE/LAYOUT/`: one directory an agent (by its state directory) and in it one a layout
//! (object, kernel, configuration). What was pinned with another layout is removed. `complete` is
//! made last and names the hooks: without it a layout is begun anew.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use aya::programs::links::FdLink;
use serde::Serialize;

use super::{
    hooks::FILESYSTEMS,
    object,
    report::{Active, HookReport},
};
use crate::{
    config::{Config, KernelHook},
    ownership,
};

/// bpffs (`linux/magic.h`).
const BPF_FS: u32 = 0xCAFE_4A11;

/// What an agent left in bpffs, or has there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pinned {
    /// The directory of a bpffs that they lie in.
    pub directory: PathBuf,
    /// Maps and programs' links.
    pub names: Vec<String>,
    /// What is at work; None: the agent did not finish, and the next one begins anew.
    pub hooks: Option<Vec<HookReport>>,
}

/// An agent's pins.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    directory: PathBuf,
}

/// One layout's.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Whether an earlier agent finished what it pinned here.
    pub(super) complete: bool,
}

/// What holds each program at work, by the program's name.
pub(super) type Links = BTreeMap<&'static str, FdLink>;

impl Pins {
    /// The pins of the agent with this state directory. An error says why there can be none.
    pub(super) fn new(pin_dir: &Path, state_dir: &Path) -> io::Result<Self> {
        if !is_bpffs(pin_dir)? {
            return Err(io::Error::other("no bpffs is mounted there"));
        }
        let pins = Self::at(pin_dir, state_dir);
        // Whoever could exchange them would decide what the kernel counts.
        match ownership::make_directory(&pins.directory, ownership::PRIVATE_DIRECTORY)? {
            Some(remark) => Err(io::Error::other(remark)),
            None => Ok(pins),
        }
    }

    fn at(pin_dir: &Path, state_dir: &Path) -> Self {
        // A relative path and an absolute one must not be two agents.
        let state_dir = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let name = object::hex_digest(&[state_dir.as_os_str().as_encoded_bytes()]);
        Self { directory: pin_dir.join(&name[..16]) }
    }

    /// Prepares a layout's directory; removes every other layout's.
    pub(super) fn place(&self, layout: &str) -> io::Result<Place> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name() != layout {
                remove(&entry.path())?;
                tracing::info!(
                    "Programs that another version of the agent had left at work were removed."
                );
            }
        }
        let path = self.directory.join(layout);
        let complete = finished(&path).is_some();
        if path.exists() && !complete {
            remove(&path)?;
        }
        make(&path)?;
        Ok(Place { path, complete })
    }
}

/// Whether a directory (or what exists of the way to it) lies on a bpffs.
///
/// # Errors
/// As `statfs(2)`.
pub fn is_bpffs(pin_dir: &Path) -> io::Result<bool> {
    let mounted = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(pin_dir);
    // Only the low 32 bits are the magic number, whatever width the field has.
    Ok(rustix::fs::statfs(mounted)?.f_type as u32 == BPF_FS)
}

/// What is pinned for the configured state directory; None: nothing. Changes nothing.
///
/// # Errors
/// The bpffs cannot be read.
pub fn pinned(config: &Config) -> io::Result<Option<Pinned>> {
    let pin_dir = &config.watch.kernel.pin_dir;
    let Pins { directory } = Pins::at(pin_dir, &config.state_dir);
    if !is_bpffs(pin_dir)? || !directory.try_exists()? {
        return Ok(None);
    }
    let (mut names, mut hooks) = (Vec::new(), None);
    for layout in fs::read_dir(&directory)? {
        let layout = layout?.path();
        for entry in fs::read_dir(&layout)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        hooks = hooks.or(finished(&layout));
    }
    names.sort();
    let hooks = hooks.map(|hooks| hooks.iter().map(HookReport::from).collect());
    Ok(Some(Pinned { directory, names, hooks }))
}

/// Removes what is pinned for the configured state directory, and answers what that was. The
/// programs end with the last agent that uses them: nobody may start one meanwhile.
///
/// # Errors
/// The bpffs cannot be read, or something cannot be removed.
pub fn unpin(config: &Config) -> io::Result<Option<Pinned>> {
    let pinned = pinned(config)?;
    if let Some(pinned) = &pinned {
        remove(&pinned.directory)?;
        // Made by the agent too; it stays where another agent has its pins, or where it is the mount itself.
        let _in_use = fs::remove_dir(&config.watch.kernel.pin_dir);
    }
    Ok(pinned)
}

impl Place {
    /// The hooks that are at work.
    pub(super) fn active(&self) -> Vec<Active> {
        finished(&self.path).unwrap_or_default()
    }

    /// Pins the links, and then says that everything is pinned.
    pub(super) fn keep(&self, links: Links, active: &[Active]) -> io::Result<Links> {
        let mut held = Links::new();
        for (name, link) in links {
            let pinned = link.pin(self.path.join(format!("link_{name}")));
            held.insert(name, pinned.map_err(io::Error::other)?.into());
        }
        for one in active {
            let hook = if one.hook == KernelHook::Fexit { "fexit" } else { "tracepoint" };
            let whose = if one.any { "any" } else { "own" };
            let directories = if one.directories { "directories" } else { "files" };
            let name = format!("hooks_{}_{hook}_{whose}_{directories}", one.name);
            make(&self.path.join(name))?;
        }
        make(&self.path.join("complete"))?;
        Ok(held)
    }

    /// Gives the place up.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// The hooks of a complete layout.
fn finished(path: &Path) -> Option<Vec<Active>> {
    if !path.join("complete").exists() {
        return None;
    }
    let mut active = Vec::new();
    for entry in fs::read_dir(path).ok()? {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let Some(rest) = name.strip_prefix("hooks_") else { continue };
        let mut words = rest.split('_');
        let filesystem = words.next()?;
        let filesystem = FILESYSTEMS.iter().find(|known| known.name == filesystem)?;
        let hook = match words.next()? {
            "fexit" => KernelHook::Fexit,
            _ => KernelHook::Tracepoint,
        };
        let any = words.next()? == "any";
        let directories = words.next()? == "directories";
        let (name, magic) = (filesystem.name, filesystem.magic);
        active.push(Active { name, magic, hook, any, directories });
    }
    (!active.is_empty()).then_some(active)
}

/// Makes a directory for the agent's user alone, if it is not there.
fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(ownership::PRIVATE_DIRECTORY).create(path)
}

/// bpffs lets directories be removed only when they are empty.
fn remove(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return fs::remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_bpffs_is_nothing_is_pinned_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: dir.path().join("state"), ..Config::default() };
        config.watch.kernel.pin_dir = dir.path().join("bpf/everyline");
        assert!(!is_bpffs(&config.watch.kernel.pin_dir).unwrap());
        assert_eq!(pinned(&config).unwrap(), None);
        assert_eq!(unpin(&config).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
