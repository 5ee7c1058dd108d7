//! Loading the programs: which of them this kernel takes, and keeping them in bpffs.
//!
//! Chooses and attaches; what the tallies mean is not known here.

use std::{io, path::PathBuf};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, FEntry, FExit, Iter, ProgramError, links::FdLink},
};

use collector_ebpf::RING_BYTES;

use super::{
    btf::Types,
    hooks::{self, Attach, FILESYSTEMS, Filesystem, Program, Set},
    object,
    open_files::OpenFiles,
    pins::{Links, Pins},
    report::{self, Active, HookReport, RefusedHook, Sees},
    tables::{NAMES, Tables},
};
use crate::{
    causes,
    config::{KernelHook, KernelWatch},
    privileges::Privileges,
};

/// Why there is no kernel watch.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built without the programs.
    #[error("this build carries no eBPF programs")]
    NoObject,
    /// No type information.
    #[error("the kernel's type information cannot be read from /sys/kernel/btf/vmlinux: {0}")]
    NoBtf(io::Error),
    /// A field that is needed is not there.
    #[error("this kernel has no field {0}")]
    Field(String),
    /// The kernel takes no maps or programs from this process.
    #[error("the kernel refuses the programs: {0}")]
    Refused(String),
    /// No filesystem's hooks could be attached.
    #[error("no hook could be attached: {}", report::refusals(.0))]
    NoHook(Vec<HookReport>),
    /// A map could not be mapped.
    #[error("a map cannot be mapped: {0}")]
    Mapping(io::Error),
    /// A map is not what it should be.
    #[error("a map cannot be used: {0}")]
    Map(aya::maps::MapError),
    /// The object is not of this build.
    #[error("the embedded object lacks {0}")]
    Object(&'static str),
}

impl LoadError {
    /// The metric's word for it.
    pub(in crate::watch) fn reason(&self) -> &'static str {
        match self {
            Self::NoObject => "kernel_not_built",
            Self::NoBtf(_) | Self::Field(_) => "kernel_no_btf",
            Self::Refused(_) | Self::Mapping(_) | Self::Map(_) | Self::Object(_) => {
                "kernel_refused"
            }
            Self::NoHook(_) => "kernel_no_hook",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.advice_to(Privileges::own().unwrap_or_default())
    }

    /// What is missing is not what this process has.
    fn advice_to(&self, own: Privileges) -> &'static str {
        match self {
            Self::Refused(why)
                if own.may_load_programs() && own.filtered && why.contains("(os error 1)") =>
            {
                "The capabilities are there, so it is the seccomp profile that refuses bpf(2): have \
                 it allow bpf and perf_event_open (in a pod `seccompProfile`, with Docker \
                 `--security-opt seccomp=FILE`), or set watch.mode to inotify; nothing is lost by that"
            }
            Self::Refused(_) | Self::Mapping(_) | Self::Map(_) | Self::Object(_)
                if own.may_load_programs() =>
            {
                "The capabilities are there; the kernel has to be 5.12 or later, and no security \
                 module may refuse bpf(2). Or set watch.mode to inotify; nothing is lost by that"
            }
            Self::NoObject => "Build the agent with `cargo xtask build`",
            Self::NoBtf(_) => {
                "Use a kernel with CONFIG_DEBUG_INFO_BTF, and let the agent read /sys/kernel/btf"
            }
            Self::Field(_) => "Report this kernel's version",
            Self::Refused(_) | Self::Mapping(_) | Self::Map(_) | Self::Object(_) => {
                "Give the agent CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); the \
                 kernel has to be 5.12 or later"
            }
            Self::NoHook(_) => "Nothing needs doing where logs lie on another filesystem",
        }
    }
}

/// The programs at work.
pub(super) struct Loaded {
    pub(super) tables: Tables,
    pub(super) open_files: OpenFiles,
    pub(super) active: Vec<Active>,
    /// What came of trying every filesystem's hooks; of those taken over, what is at work.
    pub(super) reports: Vec<HookReport>,
    /// Whether they were at work before this agent started.
    pub(super) taken_over: bool,
    /// Those that are not pinned.
    _links: Links,
    _ebpf: Ebpf,
}

/// Lines of a verifier's log that a message repeats.
const LOG_LINES: usize = 8;

/// Loads and attaches, or takes over what an earlier agent left at work.
pub(super) fn load(config: &KernelWatch, pins: Option<&Pins>) -> Result<Loaded, LoadError> {
    load_with_ring(config, pins, RING_BYTES)
}

/// The same, with a ring of so many bytes.
pub(super) fn load_with_ring(
    config: &KernelWatch,
    pins: Option<&Pins>,
    ring_bytes: u32,
) -> Result<Loaded, LoadError> {
    let object = object::bytes().ok_or(LoadError::NoObject)?;
    let types = Types::of_this_kernel().map_err(LoadError::NoBtf)?;
    let offsets = hooks::offsets(&types).map_err(LoadError::Field)?;
    let pinned = pins.map(|pins| pins.place(&layout(object, &offsets, config)));
    let pinned = pinned.and_then(Result::ok);
    let taken_over = pinned.as_ref().is_some_and(|place| place.complete);
    let mut ebpf = load_object(
        object,
        &offsets,
        (config.max_files, ring_bytes),
        pinned.as_ref().map(|at| &at.path),
    )?;
    let btf = Btf::from_sys_fs().map_err(|error| LoadError::Refused(error.to_string()))?;
    let mut tables = Tables::take(&mut ebpf, config.max_files)?;
    let (reports, links) = match &pinned {
        Some(place) if taken_over => {
            (place.active().iter().map(HookReport::from).collect(), Links::default())
        }
        _ => {
            tables.fill_free().map_err(LoadError::Map)?;
            let (ebpf, btf, types) = (&mut ebpf, &btf, &types);
            let mut attaching = Attaching { ebpf, btf, types, links: Links::default() };
            (attaching.all(config.hook)?, attaching.links)
        }
    };
    let active: Vec<_> = reports.iter().filter_map(HookReport::active).collect();
    let iterator = ebpf.program_mut("open_files").ok_or(LoadError::Object("open_files"))?;
    let iterator: &mut Iter = iterator.try_into().map_err(refused)?;
    iterator.load("task_file", &btf).map_err(refused)?;
    let program = iterator.fd().map_err(refused)?;
    let open_files = OpenFiles::new(std::os::fd::AsFd::as_fd(program))
        .map_err(|error| LoadError::Refused(format!("no iterator over open files: {error}")))?;
    let links = match pinned.filter(|_| !taken_over) {
        None => links,
        Some(place) => match place.keep(links, &active) {
            Ok(links) => links,
            Err(error) => {
                tracing::info!(
                    pin_dir = %config.pin_dir.display(), %error,
                    "The kernel watch ends with the agent: its programs cannot be pinned."
                );
                drop((tables, open_files, ebpf));
                place.remove().map_err(|error| LoadError::Refused(error.to_string()))?;
                return load(config, None);
            }
        },
    };
    Ok(Loaded { tables, open_files, active, reports, taken_over, _links: links, _ebpf: ebpf })
}

/// A name for everything that two agents must have in common to share maps.
fn layout(object: &[u8], offsets: &[(&str, u64)], config: &KernelWatch) -> String {
    let KernelWatch { hook, max_files, pin_dir: _ } = config;
    let rest = format!("{offsets:?} {hook:?} {max_files}");
    object::hex_digest(&[object, rest.as_bytes()])[..16].to_owned()
}

fn load_object(
    object: &[u8],
    offsets: &[(&'static str, u64)],
    (slots, ring_bytes): (u32, u32),
    directory: Option<&PathBuf>,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("EVENTS", ring_bytes);
    for (global, offset) in offsets {
        loader.override_global(global, offset, true);
    }
    for map in ["SLOTS", "KNOWN", "FREE", "PATHS"] {
        loader.map_max_entries(map, slots);
    }
    let cells = collector_ebpf::cells(slots);
    loader.map_max_entries("CELLS", cells);
    let cell_count = u64::from(cells);
    loader.override_global("CELL_COUNT", &cell_count, true);
    if let Some(directory) = directory {
        for map in NAMES {
            loader.map_pin_path(map, directory.join(map));
        }
    }
    loader.load(object).map_err(|error| LoadError::Refused(chain(&error)))
}

/// Attaching programs.
struct Attaching<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    types: &'a Types,
    /// Programs at work: some serve several filesystems.
    links: Links,
}

impl Attaching<'_> {
    fn all(&mut self, wanted: KernelHook) -> Result<Vec<HookReport>, LoadError> {
        let mut reports = Vec::new();
        for filesystem in &FILESYSTEMS {
            let report = self.filesystem(filesystem, wanted);
            report.say_refusals();
            reports.push(report);
        }
        if reports.iter().all(|report| report.hook.is_none()) {
            return Err(LoadError::NoHook(reports));
        }
        Ok(reports)
    }

    fn filesystem(&mut self, of: &Filesystem, wanted: KernelHook) -> HookReport {
        let mut report = HookReport::new(of.name, of.magic);
        let refused = &mut report.refused;
        let fits = |set: &&Set| wanted == KernelHook::Auto || wanted == set.hook;
        if !of.writes.iter().any(|set| fits(&set)) {
            let why = "there is no hook of the configured kind".to_owned();
            refused.push(RefusedHook { sees: Sees::Writes, hook: wanted, why });
        }
        let writes = self.first(Sees::Writes, of.writes.iter().filter(fits), refused);
        let Some(writes) = writes else { return report };
        if self.first(Sees::Ends, of.inodes, refused).is_none() {
            return report;
        }
        let directories = self.first(Sees::Directories, of.directories, refused);
        report.directories = directories.is_some();
        (report.hook, report.any) = (Some(writes.hook), writes.any);
        report
    }

    /// Attaches the first of these sets that the kernel takes.
    fn first<'s>(
        &mut self,
        sees: Sees,
        sets: impl IntoIterator<Item = &'s Set>,
        refused: &mut Vec<RefusedHook>,
    ) -> Option<&'s Set> {
        sets.into_iter().find(|set| {
            let attached = self.programs(set.programs);
            let refusal = attached.map_err(|why| RefusedHook { sees, hook: set.hook, why });
            refusal.map_err(|refusal| refused.push(refusal)).is_ok()
        })
    }

    /// All of them or, at the first that is refused, none, and why.
    fn programs(&mut self, programs: &[Program]) -> Result<(), String> {
        if let Some(program) = programs.iter().find(|program| !program.fits(self.types)) {
            return Err(format!("this kernel has no {} as expected", program.bound_to()));
        }
        let mut new = Links::new();
        for program in programs {
            if !self.links.contains_key(program.name) {
                let attached = self.attach(program);
                let link =
                    attached.map_err(|error| format!("{}: {}", program.bound_to(), chain(&error)));
                new.insert(program.name, link?);
            }
        }
        self.links.append(&mut new);
        Ok(())
    }

    fn attach(&mut self, program: &Program) -> Result<FdLink, ProgramError> {
        let loaded = self.ebpf.program_mut(program.name).ok_or(ProgramError::NotLoaded)?;
        match program.attach {
            Attach::Tracepoint => {
                let tracepoint: &mut BtfTracePoint = loaded.try_into()?;
                once(tracepoint.load(program.name, self.btf))?;
                let id = tracepoint.attach()?;
                Ok(tracepoint.take_link(id)?.into())
            }
            Attach::Entry(function) => {
                let entry: &mut FEntry = loaded.try_into()?;
                once(entry.load(function, self.btf))?;
                let id = entry.attach()?;
                Ok(entry.take_link(id)?.into())
            }
            Attach::Exit(function) => {
                let exit: &mut FExit = loaded.try_into()?;
                once(exit.load(function, self.btf))?;
                let id = exit.attach()?;
                Ok(exit.take_link(id)?.into())
            }
        }
    }
}

/// A program whose set was given up before may be wanted again in another.
fn once(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

fn refused(error: ProgramError) -> LoadError {
    LoadError::Refused(chain(&error))
}

/// An error and what is behind it, nothing twice; of the verifier's long log its last lines, which
/// say what is wrong.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let text = causes::told(error);
    // Whoever refuses before the verifier has looked leaves its log empty.
    let text = text.trim_end().trim_end_matches(". Verifier output:");
    let lines: Vec<&str> = text.lines().collect();
    let Some((first, log)) = lines.split_first() else { return text.to_owned() };
    let last = &log[log.len().saturating_sub(LOG_LINES)..];
    [&[*first], last].concat().join(" | ")
}
