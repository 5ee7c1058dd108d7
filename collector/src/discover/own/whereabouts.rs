//! In which pod and containers this process runs, as the kernel says: by its control groups and its mounts.
//!
//! Nobody but the container runtime chooses these. Names, labels and environments of other containers are not
//! looked at.

use crate::discover::names::{is_id, is_pod};

/// The files that Docker mounts into every container; a pod's all have those of its sandbox.
const MOUNTED: [(&str, &str); 3] =
    [("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];
/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// What was found out; anything may be missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// The pod's uid.
    pub(super) pod_uid: Option<String>,
    /// The container's id.
    pub(super) container: Option<String>,
    /// The id of the container whose network and files it has: its pod's sandbox.
    pub(super) sandbox: Option<String>,
}

impl Whereabouts {
    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub(super) fn of(cgroup: &str, mounts: &str) -> Self {
        let (mut pod_uid, mut container) = from_cgroups(cgroup);
        let (mounted_uid, mounted) = from_mounts(mounts);
        pod_uid = pod_uid.or(mounted_uid);
        if pod_uid.is_some() {
            return Self { pod_uid, container, sandbox: mounted };
        }
        container = container.or(mounted);
        Self { pod_uid, container, sandbox: None }
    }
}

/// `…/kubepods/burstable/podUID/ID`, `…/kubepods-podU_I_D.slice/cri-containerd-ID.scope`, `/docker/ID`,
/// `…/docker-ID.scope`. A node may itself be a container: the last ones count.
fn from_cgroups(cgroups: &str) -> (Option<String>, Option<String>) {
    let (mut pod, mut container) = (None, None);
    for path in cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        let (mut pod_here, mut container_here) = (None, None);
        let mut in_pods = false;
        for part in path.split('/') {
            let (name, is_unit) = ["slice", "scope"]
                .into_iter()
                .find_map(|unit| Some((part.strip_suffix(unit)?.strip_suffix('.')?, true)))
                .unwrap_or((part, false));
            in_pods |= name == "kubepods" || name.starts_with("kubepods-");
            let last = name.rsplit('-').next().unwrap_or_default();
            if last.len() == ID_DIGITS && is_id(last) && (is_unit || name == last) {
                container_here = Some(last.to_owned());
            } else if in_pods && let Some(uid) = pod_of(name, is_unit) {
                // A container of a node that is a container itself.
                (pod_here, container_here) = (Some(uid), None);
            }
        }
        (pod, container) = (pod.or(pod_here), container.or(container_here));
    }
    (pod, container)
}

/// systemd's units have `_` where the uid has `-`.
fn pod_of(name: &str, is_unit: bool) -> Option<String> {
    let uid = if is_unit {
        name.rsplit('-').next()?.strip_prefix("pod")?.replace('_', "-")
    } else {
        name.strip_prefix("pod")?.to_owned()
    };
    is_pod(&uid).then_some(uid)
}

/// A pod's `/etc/hosts` is mounted from kubelet's `pods/UID/etc-hosts`, what Docker mounts from
/// `containers/ID/`.
fn from_mounts(mounts: &str) -> (Option<String>, Option<String>) {
    let (mut pod, mut container) = (None, None);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let Some((_, file)) = MOUNTED.iter().find(|(place, _)| *place == point) else { continue };
        let mut parts = root.rsplit('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("etc-hosts"), Some(uid), Some("pods")) => pod = Some(uid.to_owned()),
            (Some(name), Some(id), Some("containers")) if name == *file => {
                container = Some(id.to_owned());
            }
            _ => {}
        }
    }
    (pod, container)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

    #[track_caller]
    fn check(cgroup: &str, mounts: &str, expected: [Option<&str>; 3]) {
        let found = Whereabouts::of(cgroup, mounts);
        let found = [found.pod_uid, found.container, found.sandbox];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{cgroup} {mounts}");
    }

    #[test]
    fn pod_and_container_from_the_control_groups() {
        let (id, node) = ("c".repeat(64), "d".repeat(64));
        let (id, node) = (id.as_str(), node.as_str());
        let units = UID.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{UID}/{id}"),
            format!("/kubepods/pod{UID}/{id}"),
            format!("/docker/{node}/kubelet/kubepods/besteffort/pod{UID}/{id}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{units}.slice/\
                 cri-containerd-{id}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{units}.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod{units}.slice/crio-{id}.scope/container"),
        ] {
            check(&format!("0::{path}\n"), "", [Some(UID), Some(id), None]);
        }
        check(&format!("12:cpu:/docker/{id}\n0::/\n"), "", [None, Some(id), None]);
        check(&format!("0::/system.slice/docker-{id}.scope\n"), "", [None, Some(id), None]);
        for nothing in [
            "",
            "garbage",
            "0::/\n",
            "0::/user.slice/user-0.slice/session-1.scope\n",
            "0::/podx/y\n",
            &format!("0::/docker/{node}x\n"),
        ] {
            check(nothing, "", [None; 3]);
        }
    }

    #[test]
    fn pod_and_container_from_the_mounts() {
        let pod = format!(
            "600 590 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/x rw"
        );
        check("", &pod, [Some(UID), None, None]);
        let docker = "1 2 8:1 /lib/docker/containers/f00d/hosts /etc/hosts rw - ext4 /dev/x rw";
        check("", docker, [None, Some("f00d"), None]);
        // A hosts file of the operator's own: the others tell it all the same.
        let name = "1 2 8:1 /lib/docker/containers/f00d/hostname /etc/hostname rw - ext4 /dev/x rw";
        check("", name, [None, Some("f00d"), None]);
        // In a pod that Docker runs, these are the sandbox's.
        check("", &format!("{pod}\n{name}\n"), [Some(UID), None, Some("f00d")]);
        for nothing in [
            "1 2 8:1 / / rw\n\ngarbage",
            "1 2 8:1 /lib/docker/containers/f00d/hosts /tmp/hosts rw - ext4 /dev/x rw",
            "1 2 8:1 /lib/docker/containers/f00d/config.v2.json /etc/hosts rw - ext4 /dev/x rw",
        ] {
            check("", nothing, [None; 3]);
        }
    }
}
