//! What `deploy/` promises, held against itself and against the code: the manifest's documents fit
//! together, its configuration is one that this version reads, and nothing in it is laxer than
//! SECURITY.md says. It renders no template and talks to no cluster.
#![expect(clippy::unwrap_used, reason = "a test; the lint sees only the marked functions")]

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use collector::config::{Config, Sink};
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../deploy/kubernetes/everyline.yaml");
const DOCKERFILE: &str = include_str!("../../deploy/docker/Dockerfile");

fn documents() -> Vec<Value> {
    serde_saphyr::from_multiple(MANIFEST).unwrap()
}

fn document(kind: &str) -> Value {
    let mut found = documents().into_iter().filter(|document| document["kind"] == kind);
    let document = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    document
}

fn pod() -> Value {
    document("DaemonSet")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    let pod = pod();
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    pod["containers"][0].clone()
}

fn config() -> Config {
    let text = document("ConfigMap")["data"]["everyline.yaml"].as_str().unwrap().to_owned();
    Config::parse(&text, "ConfigMap").unwrap()
}

/// The list's element of this name.
fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().unwrap().iter().find(|element| element["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:#}")).clone()
}

#[test]
fn documents_are_complete_and_in_an_order_that_applies_at_once() {
    let kinds: Vec<Value> = documents().iter().map(|document| document["kind"].clone()).collect();
    assert_eq!(kinds, ["Namespace", "ServiceAccount", "ResourceQuota", "ConfigMap", "DaemonSet"]);
    let namespace = document("Namespace");
    for document in documents() {
        let (api, kind) = (&document["apiVersion"], &document["kind"]);
        assert_eq!(*api, if *kind == "DaemonSet" { "apps/v1" } else { "v1" });
        assert_eq!(document["metadata"]["labels"]["app.kubernetes.io/name"], "everyline");
        if *kind != "Namespace" {
            assert_eq!(document["metadata"]["namespace"], namespace["metadata"]["name"], "{kind}");
        }
    }
    for mode in ["enforce", "audit", "warn"] {
        let label = format!("pod-security.kubernetes.io/{mode}");
        assert_eq!(namespace["metadata"]["labels"][label], "privileged");
    }
}

#[test]
fn daemon_set_selects_its_own_pods_and_names_what_exists() {
    let set = document("DaemonSet");
    assert_eq!(
        set["spec"]["selector"]["matchLabels"],
        set["spec"]["template"]["metadata"]["labels"]
    );
    let pod = pod();
    assert_eq!(pod["serviceAccountName"], document("ServiceAccount")["metadata"]["name"]);
    let volume = named(&pod["volumes"], "config");
    assert_eq!(volume["configMap"]["name"], document("ConfigMap")["metadata"]["name"]);
    let mounts = container()["volumeMounts"].clone();
    for volume in pod["volumes"].as_array().unwrap() {
        named(&mounts, volume["name"].as_str().unwrap());
    }
    assert_eq!(mounts.as_array().unwrap().len(), pod["volumes"].as_array().unwrap().len());
    let quota = document("ResourceQuota");
    let expression = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
    assert_eq!(expression["values"], json!([pod["priorityClassName"]]));
}

#[test]
fn embedded_configuration_is_read_and_fits_the_pod() {
    let config = config();
    let (pod, container) = (pod(), container());
    let args = container["args"].as_array().unwrap().clone();
    let [command, flag, path] = &args[..] else { panic!("{args:?}") };
    assert_eq!([command, flag], ["run", "--config"]);
    let mounts = &container["volumeMounts"];
    let directory = named(mounts, "config")["mountPath"].as_str().unwrap().to_owned();
    assert_eq!(path.as_str().unwrap(), format!("{directory}/everyline.yaml"));

    // What must outlive the pod lies on the node, under the name that the configuration has.
    let state = config.state_dir.to_str().unwrap();
    assert_eq!(named(mounts, "state")["mountPath"], state);
    assert_eq!(
        named(&pod["volumes"], "state")["hostPath"],
        json!({ "path": state, "type": "DirectoryOrCreate" })
    );
    assert!(matches!(config.sinks["local"], Sink::Archive(ref archive) if archive.dir.is_none()));

    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(grace >= config.drain_timeout.0 + Duration::from_secs(10));
}

#[test]
fn every_log_directory_is_mounted_where_the_agent_looks_and_read_only() {
    let config = config();
    let (pod, container) = (pod(), container());
    let mounts: Vec<(PathBuf, PathBuf)> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mount| {
            let volume = named(&pod["volumes"], mount["name"].as_str().unwrap());
            let host = volume["hostPath"]["path"].as_str()?.to_owned();
            let writable = mount["readOnly"] != true;
            let may = mount["name"] == "state" || mount["name"] == "bpffs";
            assert_eq!(writable, may, "{mount}");
            Some((mount["mountPath"].as_str().unwrap().into(), host.into()))
        })
        .collect();
    assert_ne!(config.host_root, PathBuf::from("/"));
    for wanted in [
        &config.sources.kubernetes.pods_dir,
        &config.sources.kubernetes.containers_dir,
        &config.sources.docker.containers_dir,
    ] {
        let looked_at = config.host_root.join(wanted.strip_prefix("/").unwrap());
        let (mount, host) = mounts
            .iter()
            .find(|(mount, _)| looked_at.starts_with(mount))
            .unwrap_or_else(|| panic!("{} is not mounted", looked_at.display()));
        let on_the_host = host.join(looked_at.strip_prefix(mount).unwrap());
        assert_eq!(on_the_host, *wanted, "{} shows another directory", looked_at.display());
    }
}

#[test]
fn pod_says_who_it_is_and_where() {
    let env = container()["env"].clone();
    for (name, path) in [
        ("NODE_NAME", "spec.nodeName"),
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_UID", "metadata.uid"),
    ] {
        assert_eq!(named(&env, name)["valueFrom"]["fieldRef"]["fieldPath"], path);
    }
}

#[test]
fn probes_reach_the_admin_port() {
    let (config, container) = (config(), container());
    assert!(config.admin.enabled);
    let listen = config.admin.listen.0;
    assert!(!listen.ip().is_loopback(), "the kubelet does not probe loopback");
    assert_eq!(named(&container["ports"], "admin")["containerPort"], listen.port());
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "admin" }));
    }
    let template = document("DaemonSet")["spec"]["template"].clone();
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], listen.port().to_string());
}

#[test]
fn pod_may_do_no_more_than_it_needs() {
    let (pod, container) = (pod(), container());
    assert_eq!(
        container["securityContext"],
        json!({
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"], "add": ["DAC_READ_SEARCH", "BPF", "PERFMON"] },
        })
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod[shared], Value::Null, "{shared}");
    }
    for document in [pod.clone(), document("ServiceAccount")] {
        assert_eq!(document["automountServiceAccountToken"], false);
    }
    assert!(!MANIFEST.contains("ClusterRole"), "it needs no role");
}

#[test]
fn kube_system_is_left_out_by_a_line_that_says_so() {
    assert_eq!(config().sources.kubernetes.exclude.namespaces, ["kube-system"]);
    let lines: Vec<&str> = MANIFEST.lines().collect();
    let at = lines.iter().position(|line| line.contains("[kube-system]")).unwrap();
    assert!(lines[at - 1].trim().starts_with('#') && lines[at - 1].contains("left out"));
    // Without that line it is still a configuration, which collects everything.
    let without = MANIFEST.replace(&format!("{}\n", lines[at]), "");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&without).unwrap();
    let map = documents.iter().find(|it| it["kind"] == "ConfigMap").unwrap();
    let all = Config::parse(map["data"]["everyline.yaml"].as_str().unwrap(), "ConfigMap").unwrap();
    assert!(all.sources.kubernetes.exclude.namespaces.is_empty());
    let image = lines.iter().position(|line| line.trim().starts_with("image:")).unwrap();
    assert!(lines[image - 1].contains("to be edited"));
}

#[test]
fn documents_name_the_capabilities_that_the_manifest_gives() {
    let container = container();
    let given = container["securityContext"]["capabilities"]["add"].as_array().unwrap();
    let given: BTreeSet<String> =
        given.iter().map(|name| format!("CAP_{}", name.as_str().unwrap())).collect();
    let named = |text: &str| -> BTreeSet<String> {
        let word = |c: char| c.is_ascii_uppercase() || c == '_';
        text.split(|c| !word(c)).filter(|it| it.starts_with("CAP_")).map(str::to_owned).collect()
    };
    let security = include_str!("../../SECURITY.md");
    let (_, security) = security.split_once("## What the pod may do").unwrap();
    assert_eq!(named(security), given);
    assert!(security.contains(&format!("every capability dropped but {}", NUMBERS[given.len()])));
    let guarantees = include_str!("../../GUARANTEES.md");
    let (_, guarantees) = guarantees.split_once("## Deployment").unwrap();
    assert_eq!(named(guarantees), given);
    assert!(guarantees.contains(&format!("of all capabilities {}", NUMBERS[given.len()])));
}

const NUMBERS: [&str; 5] = ["none", "one", "two", "three", "four"];

#[test]
fn pod_is_on_every_node_bounded_and_never_twice() {
    let (set, pod, container) = (document("DaemonSet"), pod(), container());
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    let resources = &container["resources"];
    assert!(
        resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string()
    );
    assert!(resources["limits"]["memory"].is_string());
    assert_eq!(resources["limits"]["cpu"], Value::Null, "a throttled agent loses lines");
    // Two agents on one node would fight for the lock.
    let update = &set["spec"]["updateStrategy"];
    assert_eq!(update["type"], "RollingUpdate");
    assert_eq!(update["rollingUpdate"]["maxSurge"], 0);
}

#[test]
fn image_is_one_static_binary_of_this_version() {
    let image = container()["image"].as_str().unwrap().to_owned();
    assert_eq!(image, format!("everyline:{}", env!("CARGO_PKG_VERSION")));
    let (_, last_stage) = DOCKERFILE.rsplit_once("\nFROM ").unwrap();
    assert!(last_stage.starts_with("scratch\n"), "{last_stage}");
    assert!(last_stage.contains(r#"ENTRYPOINT ["/everyline"]"#));
    assert!(DOCKERFILE.contains("-unknown-linux-musl"));
    // A clean clone is enough: the build makes the eBPF programs itself, and takes nothing that lies about.
    assert!(DOCKERFILE.contains("\nRUN cargo xtask bpf\n"));
    let ignored: Vec<&str> = include_str!("../../.dockerignore").lines().collect();
    assert_eq!(ignored, ["/target", "/.git"]);
    // Stripped, and the symbols to be had.
    assert!(DOCKERFILE.contains("--strip-all") && DOCKERFILE.contains("FROM scratch AS symbols"));
    assert!(DOCKERFILE.contains(&format!("-t {image} ")));
    let toolchain = include_str!("../../rust-toolchain.toml");
    let (_, version) = toolchain.split_once("channel = \"").unwrap();
    let minor: Vec<&str> = version.split(['.', '"']).take(2).collect();
    assert!(DOCKERFILE.contains(&format!("FROM rust:{}-", minor.join("."))), "{minor:?}");
}
