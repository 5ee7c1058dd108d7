//! What this kernel offers: type information, programs, a place to pin them, and each filesystem's
//! hooks.

use std::{fs, path::Path};

use rustix::fs::{Access, access};

use super::{Finding, Status, survey::Survey};
use crate::{
    config::{Config, KernelWatch, WatchMode},
    watch::{HookReport, LoadError, digest, is_bpffs},
};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const UNPRIVILEGED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";

pub(super) fn findings(
    config: &Config,
    hooks: &Result<Vec<HookReport>, LoadError>,
    survey: &Survey,
) -> Vec<Finding> {
    let mode = config.watch.mode;
    let mut findings = vec![
        release(),
        btf(mode),
        lockdown(mode, fs::read_to_string(LOCKDOWN).ok().as_deref()),
        unprivileged(fs::read_to_string(UNPRIVILEGED).ok().as_deref()),
        programs(mode, hooks),
        bpffs(mode, &config.watch.kernel),
    ];
    if let Ok(reports) | Err(LoadError::NoHook(reports)) = hooks {
        findings.extend(reports.iter().map(|hook| of_hook(mode, hook, survey.lies_on(hook.magic))));
    }
    findings
}

fn release() -> Finding {
    let about = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let (system, release) = (text(about.sysname()), text(about.release()));
    Finding::ok("kernel.release", format!("{system} {release} on {}.", text(about.machine())))
}

fn btf(mode: WatchMode) -> Finding {
    match fs::File::open(BTF) {
        Ok(_) => Finding::ok("kernel.btf", format!("{BTF} can be read.")),
        Err(error) => Finding::ok(
            "kernel.btf",
            format!("{BTF} cannot be read: {error}. Without it there is no kernel watch."),
        )
        .standing(
            Status::of_no_kernel_watch(mode),
            "Use a kernel with CONFIG_DEBUG_INFO_BTF, and let the agent read /sys/kernel/btf.",
        ),
    }
}

fn lockdown(mode: WatchMode, text: Option<&str>) -> Finding {
    let name = "kernel.lockdown";
    let Some(text) = text else {
        return Finding::ok(
            name,
            format!(
                "{LOCKDOWN} is not there: no lockdown is built in, or securityfs is not mounted."
            ),
        );
    };
    // `none [integrity] confidentiality`
    let chosen = text.split(['[', ']']).nth(1).unwrap_or_else(|| text.trim());
    if chosen == "confidentiality" {
        let found = "The kernel is locked down for confidentiality: programs may not read its \
                     memory, and there is no kernel watch.";
        return Finding::ok(name, found).standing(
            Status::of_no_kernel_watch(mode),
            "Boot without lockdown=confidentiality, or set watch.mode to inotify.",
        );
    }
    Finding::ok(name, format!("Lockdown is {chosen}, which allows the programs."))
}

fn unprivileged(text: Option<&str>) -> Finding {
    let value = text.map_or("not there", str::trim);
    let found = format!(
        "The sysctl kernel.unprivileged_bpf_disabled is {value}; the programs need CAP_BPF and \
         CAP_PERFMON whatever it is."
    );
    Finding::ok("kernel.unprivileged_bpf", found)
}

fn programs(mode: WatchMode, hooks: &Result<Vec<HookReport>, LoadError>) -> Finding {
    let name = "kernel.programs";
    match hooks {
        Ok(_) => {
            let digest = digest().unwrap_or_default();
            Finding::ok(name, format!("The kernel takes this build's programs (sha256:{digest})."))
        }
        Err(error) => {
            let found = match error {
                LoadError::NoHook(_) => {
                    "The kernel takes this build's programs, but none can be attached.".to_owned()
                }
                other => format!("There is no kernel watch: {other}."),
            };
            let advice = format!("{}.", error.advice());
            Finding::ok(name, found).standing(Status::of_no_kernel_watch(mode), advice)
        }
    }
}

fn bpffs(mode: WatchMode, config: &KernelWatch) -> Finding {
    let name = "kernel.bpffs";
    let wanted = matches!(mode, WatchMode::Auto | WatchMode::Kernel);
    let pin_dir = config.pin_dir.display();
    let why = match is_bpffs(&config.pin_dir) {
        Ok(true) if is_writable(&config.pin_dir) => {
            return Finding::ok(name, format!("Programs can be pinned at {pin_dir}."));
        }
        Ok(true) => format!("The bpffs at {pin_dir} cannot be written to"),
        Ok(false) => format!("No bpffs is mounted at {pin_dir}"),
        Err(error) => format!("The bpffs at {pin_dir} cannot be looked at ({error})"),
    };
    let found = format!(
        "{why}: the kernel watch ends with the agent, and what happens to files while no agent \
         runs is not seen."
    );
    let status = if wanted { Status::Note } else { Status::Ok };
    Finding::ok(name, found).standing(
        status,
        "mount -t bpf bpf /sys/fs/bpf, or set watch.kernel.pin_dir to a directory of a bpffs that \
         the agent may write to.",
    )
}

/// Whether a directory, or what exists of the way to it, can be written to.
fn is_writable(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// One filesystem's hooks; `used`: a file that is collected lies on it.
fn of_hook(mode: WatchMode, report: &HookReport, used: bool) -> Finding {
    let name = format!("hooks.{}", report.filesystem);
    let refused = report.refused.iter().map(|refused| format!("Refused: {refused}")).collect();
    let wanted = used && Status::of_no_kernel_watch(mode) != Status::Ok;
    let Some(hook) = report.hook else {
        let status = if wanted { Status::of_no_kernel_watch(mode) } else { Status::Ok };
        let files = if used { "files" } else { "files (none is collected)" };
        return Finding::ok(name, format!("None can be used: its {files} are left to inotify."))
            .with(refused)
            .standing(
                status,
                match status {
                    Status::Problem => {
                        "Use another kernel or filesystem, or set watch.mode to auto."
                    }
                    _ => "Nothing needs doing: inotify tells of the same writes, at a higher cost.",
                },
            );
    };
    let whose = if report.any { "a function of any filesystem's" } else { "its own" };
    let directories = if report.directories {
        "directories are watched too"
    } else {
        "directories are left to inotify"
    };
    let status = match () {
        () if !wanted => Status::Ok,
        () if !report.directories => Status::of_no_kernel_watch(mode),
        () if !report.refused.is_empty() => Status::Note,
        () => Status::Ok,
    };
    Finding::ok(name, format!("Writes are seen by {hook} ({whose}); {directories}."))
        .with(refused)
        .standing(
            status,
            match (status, report.directories) {
                (Status::Problem, _) => "Use another kernel, or set watch.mode to auto.",
                (_, true) => "Nothing needs doing: no write is missed, each costs more CPU.",
                (_, false) => {
                    "Nothing needs doing, but a file that is there for moments only may be missed."
                }
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::KernelHook,
        watch::{RefusedHook, Sees},
    };

    fn report(hook: Option<KernelHook>, refused: usize) -> HookReport {
        let why = "no such function".to_owned();
        let one = RefusedHook { sees: Sees::Writes, hook: KernelHook::Fexit, why };
        HookReport {
            filesystem: "ext4",
            magic: 1,
            hook,
            any: false,
            directories: hook.is_some(),
            refused: vec![one; refused],
        }
    }

    #[test]
    fn a_hook_is_judged_by_what_lies_there_and_what_is_asked_for() {
        use Status::{Note, Ok, Problem};
        let (auto, kernel, inotify) = (WatchMode::Auto, WatchMode::Kernel, WatchMode::Inotify);
        let (best, lesser) =
            (report(Some(KernelHook::Fexit), 0), report(Some(KernelHook::Tracepoint), 1));
        let none = report(None, 2);
        let files = HookReport { directories: false, ..best.clone() };
        for (report, mode, used, status) in [
            (&best, auto, true, Ok),
            (&best, kernel, true, Ok),
            (&lesser, auto, true, Note),
            (&lesser, kernel, true, Note),
            (&lesser, auto, false, Ok),
            (&lesser, inotify, true, Ok),
            (&files, auto, true, Note),
            (&files, kernel, true, Problem),
            (&files, kernel, false, Ok),
            (&none, auto, true, Note),
            (&none, auto, false, Ok),
            (&none, kernel, true, Problem),
            (&none, kernel, false, Ok),
            (&none, inotify, true, Ok),
        ] {
            let finding = of_hook(mode, report, used);
            assert_eq!(finding.status, status, "{mode:?} {used} {finding:?}");
            assert_eq!(finding.details.len(), report.refused.len());
            assert_eq!(finding.advice.is_some(), status != Ok);
        }
        let finding = of_hook(auto, &lesser, true);
        assert_eq!(finding.name, "hooks.ext4");
        assert_eq!(finding.details, ["Refused: fexit for writes: no such function"]);
    }

    #[test]
    fn without_programs_the_mode_decides() {
        let status = |mode| programs(mode, &Err(LoadError::NoObject)).status;
        assert_eq!(status(WatchMode::Kernel), Status::Problem);
        assert_eq!(status(WatchMode::Auto), Status::Note);
        assert_eq!(status(WatchMode::Poll), Status::Ok);
        let finding = programs(WatchMode::Auto, &Err(LoadError::NoObject));
        assert_eq!(finding.found, "There is no kernel watch: this build carries no eBPF programs.");
        assert_eq!(finding.advice.as_deref(), Some("Build the agent with `cargo xtask build`."));
    }

    #[test]
    fn only_confidentiality_is_in_the_way() {
        let status = |text| lockdown(WatchMode::Kernel, text).status;
        assert_eq!(status(None), Status::Ok);
        assert_eq!(status(Some("[none] integrity confidentiality\n")), Status::Ok);
        assert_eq!(status(Some("none [integrity] confidentiality\n")), Status::Ok);
        assert_eq!(status(Some("none integrity [confidentiality]\n")), Status::Problem);
    }

    #[test]
    fn a_missing_bpffs_is_no_problem_even_where_the_kernel_watch_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let config = KernelWatch { pin_dir: dir.path().join("x"), ..KernelWatch::default() };
        assert_eq!(bpffs(WatchMode::Kernel, &config).status, Status::Note);
        assert_eq!(bpffs(WatchMode::Inotify, &config).status, Status::Ok);
    }
}
