//! What the node's components are told: command lines, configuration files, credentials.
//!
//! One machine, one user, no secrets: fixed tokens, certificates that nobody checks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::parts::run;

/// The node's address, also the API server's.
pub(super) const ADDRESS: &str = "10.99.0.1";
/// The API server's address among the services.
pub(super) const SERVICE: &str = "10.96.0.1";
/// The image of sandboxes and writers.
pub(super) const WRITER_IMAGE: &str = "everyline.invalid/podlog:1";

/// Users, their tokens, and their groups.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:node1", "system:nodes"),
];

/// A directory with everything that a node is told and everything it keeps.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) dir: PathBuf,
}

impl Settings {
    /// Of a node in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Writes all files. `root`: where the packages are unpacked.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        for name in ["conf/cni", "varlib/truth", "varlog/pods", "out", "etcd"] {
            fs::create_dir_all(self.dir.join(name))?;
        }
        let mut key = Command::new("openssl");
        run(key.args(["genrsa", "-out"]).arg(self.path("conf/service-accounts.key")).arg("2048"))?;
        let mut tokens = String::new();
        for (number, (name, user, groups)) in USERS.iter().enumerate() {
            tokens += &format!("{name}-token,{user},{number},\"{groups}\"\n");
            fs::write(self.user(name), kubeconfig(name))?;
        }
        fs::write(self.path("conf/tokens.csv"), tokens)?;
        fs::write(self.path("conf/kubelet.yaml"), KUBELET)?;
        fs::write(self.path("conf/cni/10-pods.conflist"), NETWORK)?;
        let containerd = containerd(root, &self.path("conf/cni"));
        fs::write(self.path("conf/containerd.toml"), containerd).context("Writing the settings")
    }

    /// A user's kubeconfig.
    pub(super) fn user(&self, name: &str) -> PathBuf {
        self.path(&format!("conf/{name}.kubeconfig"))
    }

    /// A file of the node's.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The components' names and command lines, in the order in which they are started.
    pub(super) fn components(&self, kube: &Path) -> Vec<(&'static str, Vec<String>)> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let at = |name: &str| self.path(name).display().to_string();
        let (kube, key) = (kube.display(), at("conf/service-accounts.key"));
        let user = |name: &str| self.user(name).display().to_string();
        vec![
            ("containerd", words(&format!("containerd -c {}", at("conf/containerd.toml")))),
            ("etcd", words(&format!("etcd --data-dir {} --unsafe-no-fsync", at("etcd")))),
            (
                "apiserver",
                words(&format!(
                    "{kube} kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
                     --advertise-address={ADDRESS} --secure-port=443 --service-cluster-ip-range=10.96.0.0/24 \
                     --service-account-issuer=https://kubernetes.default.svc \
                     --service-account-key-file={key} --service-account-signing-key-file={key} \
                     --token-auth-file={} --authorization-mode=Node,RBAC --allow-privileged=true \
                     --kubelet-preferred-address-types=InternalIP --cert-dir={}",
                    at("conf/tokens.csv"),
                    at("certificates"),
                )),
            ),
            (
                "manager",
                words(&format!(
                    "{kube} kube-controller-manager --kubeconfig={} --leader-elect=false \
                     --service-account-private-key-file={key} --use-service-account-credentials=true",
                    user("manager"),
                )),
            ),
            (
                "scheduler",
                words(&format!(
                    "{kube} kube-scheduler --kubeconfig={} --leader-elect=false",
                    user("scheduler"),
                )),
            ),
            (
                "kubelet",
                words(&format!(
                    "{kube} kubelet --config={} --kubeconfig={} --hostname-override=node1 --node-ip={ADDRESS}",
                    at("conf/kubelet.yaml"),
                    user("kubelet"),
                )),
            ),
        ]
    }
}

fn kubeconfig(name: &str) -> String {
    let value = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": {
            "server": format!("https://{ADDRESS}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": name, "user": {"token": format!("{name}-token")}}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
        "current-context": "node",
    });
    value.to_string()
}

/// Logs rotate at 1 MiB, and are looked at as often as kubelet allows.
const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerLogMaxSize: 1Mi
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
clusterDNS: ["10.96.0.10"]
clusterDomain: cluster.local
maxPods: 200
evictionHard: {memory.available: "50Mi", nodefs.available: "100Mi", imagefs.available: "100Mi"}
imageGCHighThresholdPercent: 100
"#;

const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
"#;

/// `restrict_oom_score_adj`: sandboxes start without CAP_SYS_RESOURCE too.
fn containerd(root: &Path, networks: &Path) -> String {
    let (root, networks) = (root.display(), networks.display());
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{WRITER_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{root}/usr/sbin/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{root}/usr/lib/cni"
    conf_dir = "{networks}"
"#
    )
}
