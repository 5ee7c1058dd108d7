//! Discovery against real directories, driven as the registry drives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Files, Filter},
    source::{Format, Known},
};

const UID: &str = "3b2c6a1e-0000-4000-8000-1234567890ab";
const PODS: &str = "var/log/pods";
const LINKS: &str = "var/log/containers";
const DOCKER: &str = "var/lib/docker/containers";

/// A host's root in a temporary directory.
struct Host {
    root: tempfile::TempDir,
    config: Config,
    own: OwnOutputs,
}

/// All that a walk over all directories finds, by path.
#[derive(Debug)]
struct Everything {
    files: BTreeMap<String, Found>,
    directories: BTreeSet<String>,
    problems: Vec<String>,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = Config {
            node_name: "node-1".into(),
            host_root: root.path().to_owned(),
            ..Config::default()
        };
        Self { root, config, own: OwnOutputs::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// A container's log; answers its path.
    fn pod_log(&self, namespace: &str, pod: &str, container: &str, file: &str) -> String {
        let path = format!("{PODS}/{namespace}_{pod}_{UID}/{container}/{file}");
        self.write(&path, "");
        path
    }

    fn link(&self, target: &str, link: &str) {
        fs::create_dir_all(self.path(link).parent().unwrap()).unwrap();
        symlink(target, self.path(link)).unwrap();
    }

    fn docker(&self, id: &str, config: &str) -> String {
        self.write(&format!("{DOCKER}/{id}/config.v2.json"), config);
        let log = format!("{DOCKER}/{id}/{id}-json.log");
        self.write(&log, "");
        log
    }

    fn files(&mut self, paths: &[&str]) -> &mut Files {
        self.config.sources.files.push(Files {
            paths: paths.iter().map(|path| path.to_string()).collect(),
            exclude: Vec::new(),
            format: Default::default(),
            encoding: Default::default(),
            follow_links: Default::default(),
            max_links: 0,
            attributes: BTreeMap::new(),
        });
        self.config.sources.files.last_mut().unwrap()
    }

    fn discovery(&self) -> Discovery {
        Discovery::new(&self.config, &self.own).unwrap()
    }

    /// As the registry does it: roots first, then what listings lead to. No file may come twice.
    fn discover(&self) -> Everything {
        let discovery = self.discovery();
        let mut ahead = discovery.roots();
        let mut all = Everything {
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            problems: Vec::new(),
        };
        while let Some(directory) = ahead.pop() {
            if !all.directories.insert(self.short(&directory)) {
                continue;
            }
            let listing = discovery.list(&directory);
            ahead.extend(listing.directories);
            all.problems.extend(listing.problems);
            let mut here = BTreeSet::new();
            for found in listing.files {
                assert!(here.insert(found.path.clone()), "{found:?} twice in one listing");
                if let Some(other) = all.files.insert(self.short(&found.path), found.clone()) {
                    assert_eq!(other.source, found.source, "one file, two owners");
                }
            }
        }
        all
    }

    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.root.path()).unwrap().to_string_lossy().into_owned()
    }
}

impl Everything {
    #[track_caller]
    fn only(&self, paths: &[&str]) {
        let found: Vec<_> = self.files.keys().map(String::as_str).collect();
        let mut expected = paths.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "problems: {:#?}", self.problems);
    }

    #[track_caller]
    fn found(&self, path: &str) -> &Found {
        self.files.get(path).unwrap_or_else(|| panic!("{path} in {:#?}", self.files.keys()))
    }

    #[track_caller]
    fn attribute(&self, path: &str, name: &str) -> Option<&str> {
        self.found(path).source.attribute(name)
    }
}

fn globs(globs: &[&str]) -> Vec<String> {
    globs.iter().map(|glob| glob.to_string()).collect()
}

#[test]
fn a_pods_log_and_its_attributes() {
    let host = Host::new();
    let log = host.pod_log("shop", "cart-7d4f", "app", "3.log");
    let all = host.discover();
    all.only(&[&log]);
    let found = all.found(&log);
    assert_eq!((found.role.clone(), found.gzip, found.only_if_known), (Role::Live, false, false));
    let source = &found.source;
    assert_eq!((&*source.path, source.format), (&*host.path(&log), Format::Cri));
    let names = (source.namespace(), source.pod(), source.container());
    assert_eq!(names, (Some("shop"), Some("cart-7d4f"), Some("app")));
    let attributes: Vec<_> = source.attributes().collect();
    assert_eq!(
        attributes,
        [
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "cart-7d4f"),
            ("k8s.pod.uid", UID),
            ("k8s.container.name", "app"),
            ("k8s.container.restart_count", "3"),
            ("k8s.node.name", "node-1"),
            ("log.file.path", &format!("/{log}")),
        ]
    );
    assert!(all.problems.is_empty());
}

#[test]
fn rotated_logs_belong_to_their_restart_and_come_oldest_first() {
    let host = Host::new();
    let names = [
        "1.log.20260131-101110.gz",
        "1.log.20260131-101111",
        // Being compressed, perhaps: whose copy it is, its content tells.
        "1.log.20260131-101111.gz",
        "1.log.20260131-101112",
        "1.log",
        "0.log.20260130-000000.gz",
        "1.log.20260131-101112.tmp",
        "garbage.txt",
    ];
    let logs = names.map(|name| host.pod_log("shop", "cart", "app", name));
    let all = host.discover();
    all.only(&logs[..6].iter().map(String::as_str).collect::<Vec<_>>());
    let directory = Path::new(&logs[0]).parent().unwrap();
    let mut ones: Vec<_> = all
        .files
        .values()
        .filter(|found| *found.source.path == *host.path("").join(directory).join("1.log"))
        .collect();
    ones.sort_by_key(|found| found.role.clone());
    let order: Vec<_> = ones.iter().map(|found| found.path.file_name().unwrap()).collect();
    assert_eq!(order, names[..5]);
    let packed: Vec<_> = ones.iter().map(|it| it.gzip).collect();
    assert_eq!(packed, [true, false, true, false, false]);
    let zero = all.found(&logs[5]);
    assert!(zero.source.path.ends_with("0.log") && zero.gzip, "its live file is gone");
    assert_eq!(all.attribute(&logs[5], "k8s.container.restart_count"), Some("0"));
}

#[test]
fn links_to_pod_logs_are_not_counted_twice_and_tell_the_container_id() {
    let host = Host::new();
    let log = host.pod_log("shop", "cart", "app", "1.log");
    host.pod_log("shop", "cart", "app", "0.log");
    let id = "f".repeat(64);
    host.link(&format!("/{log}"), &format!("{LINKS}/cart_shop_app-{id}.log"));
    host.link("/nowhere", &format!("{LINKS}/cart_shop_gone-{id}.log"));
    let (sidecar, its_id) = (host.pod_log("shop", "cart", "app-1", "1.log"), "1".repeat(64));
    host.link(&format!("/{sidecar}"), &format!("{LINKS}/cart_shop_app-1-{its_id}.log"));
    let all = host.discover();
    assert_eq!(all.files.len(), 3);
    assert_eq!(all.attribute(&sidecar, "container.id"), Some(its_id.as_str()));
    assert_eq!(all.attribute(&log, "container.id"), Some(id.as_str()));
    assert_eq!(all.attribute(&log.replace("1.log", "0.log"), "container.id"), None);
    assert!(all.problems.is_empty(), "{:?}", all.problems);
}

#[test]
fn links_out_of_the_pods_directory_are_resolved_through_chains() {
    let mut host = Host::new();
    let docker = &mut host.config.sources.docker;
    (docker.enabled, docker.containers_dir) = (false, "/data".into());
    host.write("mnt/logs/abc/abc-json.log", "");
    host.write("mnt/logs/abc/abc-json.log.1", "");
    host.link("/mnt/logs", "data");
    host.link("../data/abc/abc-json.log", "hop/one");
    host.link("/hop/one", &format!("{LINKS}/cart_shop_app-abc.log"));
    let all = host.discover();
    all.only(&["mnt/logs/abc/abc-json.log", "mnt/logs/abc/abc-json.log.1"]);
    let found = all.found("mnt/logs/abc/abc-json.log");
    assert_eq!((found.role.clone(), found.source.format), (Role::Live, Format::DockerJson));
    assert_eq!(all.attribute("mnt/logs/abc/abc-json.log", "container.id"), Some("abc"));
    let former = all.found("mnt/logs/abc/abc-json.log.1");
    assert_eq!(former.role, Role::Rotated(AgeKey::Number(-1)));
    assert_eq!(former.source, found.source);
    // The directory itself is listed again when it changes, and still finds them.
    assert!(all.directories.contains("mnt/logs/abc"));
    host.write("mnt/logs/abc/abc-json.log.2.gz", "");
    let listing = host.discovery().list(&host.path("mnt/logs/abc"));
    assert_eq!(listing.files.len(), 3);
}

#[test]
fn dockershims_logs_are_dockers_if_docker_is_collected_and_the_pods_otherwise() {
    let mut host = Host::new();
    let id = "ab".repeat(32);
    let log = host.docker(&id, "{}");
    let pod = format!("{PODS}/shop_cart_{UID}/app/4.log");
    host.link(&format!("/{log}"), &pod);
    host.link(&format!("/{pod}"), &format!("{LINKS}/cart_shop_app-{id}.log"));
    let all = host.discover();
    all.only(&[&log]);
    assert_eq!(all.attribute(&log, "host.name"), Some("node-1"));
    host.config.sources.docker.enabled = false;
    let all = host.discover();
    all.only(&[&log]);
    assert_eq!(all.attribute(&log, "k8s.pod.name"), Some("cart"));
    assert_eq!(all.attribute(&log, "k8s.container.restart_count"), Some("4"));
    assert_eq!(all.found(&log).source.format, Format::DockerJson);
    let again = host.discovery().list(&host.path(&format!("{DOCKER}/{id}")));
    assert_eq!(again.files.len(), 1, "found again by its own directory");
}

#[test]
fn a_link_that_kubelet_cut_is_taken_for_no_id() {
    let host = Host::new();
    let (namespace, pod) = ("n".repeat(40), "p".repeat(120));
    // Cut within the id, which leaves 52 digits, and within the container's name.
    for (container, left) in [("c".repeat(36), 52), ("c".repeat(63), 25)] {
        let log = host.pod_log(&namespace, &pod, &container, "0.log");
        let name = format!("{pod}_{namespace}_{container}-{}", "d".repeat(left));
        assert_eq!(name.len(), 251);
        host.link(&format!("/{log}"), &format!("{LINKS}/{name}.log"));
        let all = host.discover();
        assert_eq!(all.attribute(&log, "container.id"), None);
        assert_eq!(all.attribute(&log, "k8s.container.name"), Some(&*container));
        assert_eq!(all.found(&log).source.known, Known::All, "there is nothing to wait for");
    }
    // One digit less of a name, and the id is whole.
    let (container, id) = ("c".repeat(24), "d".repeat(64));
    let log = host.pod_log(&namespace, &pod, &container, "0.log");
    host.link(&format!("/{log}"), &format!("{LINKS}/{pod}_{namespace}_{container}-{id}.log"));
    assert_eq!(host.discover().attribute(&log, "container.id"), Some(&*id));
}

#[test]
fn of_a_cut_link_to_dockers_log_docker_tells_the_id() {
    let mut host = Host::new();
    host.config.sources.docker.enabled = false;
    let (namespace, pod, container) = ("n".repeat(40), "p".repeat(120), "c".repeat(36));
    let id = "d".repeat(64);
    let log = host.docker(&id, "{}");
    let cut = format!("{pod}_{namespace}_{container}-{}", "d".repeat(52));
    host.link(&format!("/{log}"), &format!("{LINKS}/{cut}.log"));
    let all = host.discover();
    assert_eq!(all.attribute(&log, "container.id"), Some(&*id));
    assert_eq!(all.attribute(&log, "k8s.container.name"), Some(&*container));
    // Nothing is left of the container's name that could be told from another one's.
    let (other, pod) = ("e".repeat(64), "p".repeat(160));
    let log = host.docker(&other, "{}");
    let cut = format!("{pod}_{namespace}_{}", "c".repeat(49));
    host.link(&format!("/{log}"), &format!("{LINKS}/{cut}.log"));
    let all = host.discover();
    assert_eq!(all.attribute(&log, "container.id"), Some(&*other));
    assert_eq!(all.attribute(&log, "k8s.pod.name"), Some(&*pod));
    assert_eq!(all.attribute(&log, "k8s.container.name"), None);
}

#[test]
fn a_static_pods_hash_is_not_taken_for_its_uid() {
    let host = Host::new();
    let hash = "0123456789abcdef0123456789abcdef";
    let log = format!("{PODS}/kube-system_etcd-node1_{hash}/etcd/0.log");
    host.write(&log, "");
    let labels = format!(
        r#"{{"Name":"/k8s_etcd_etcd-node1_kube-system_{hash}_0","Config":{{"Labels":{{
        "io.kubernetes.pod.namespace":"kube-system","io.kubernetes.pod.name":"etcd-node1",
        "io.kubernetes.pod.uid":"{hash}","io.kubernetes.sandbox.id":"5afe"}}}}}}"#
    );
    let sandbox = format!(r#"{{"Name":"/k8s_POD_etcd-node1_kube-system_{hash}_0"}}"#);
    host.write(&format!("{DOCKER}/5afe/config.v2.json"), &sandbox);
    let docked = host.docker(&"ab".repeat(32), &labels);
    let all = host.discover();
    for log in [&log, &docked] {
        assert_eq!(all.attribute(log, "k8s.pod.name"), Some("etcd-node1"));
        assert_eq!(all.attribute(log, "k8s.pod.uid"), None, "{log}");
    }
    let other = host.pod_log("shop", "cart", "app", "0.log");
    assert_eq!(host.discover().attribute(&other, "k8s.pod.uid"), Some(UID));
}

/// What a listing says may change elsewhere.
fn ways(host: &Host, directory: &str) -> Vec<String> {
    let listing = host.discovery().list(&host.path(directory));
    listing.ways.iter().map(|way| format!("/{}", host.short(way))).collect()
}

#[test]
fn links_say_what_they_lead_through() {
    let mut host = Host::new();
    host.config.sources.docker.enabled = false;
    host.files(&["/srv/app/logs/*.log"]).follow_links = FollowLinks::Anywhere;
    host.write("srv/app/logs/plain.log", "");
    assert!(ways(&host, "srv/app/logs").is_empty());
    // Nothing is there yet, then more and more.
    host.link("/data/1/app.txt", "srv/app/logs/a.log");
    assert_eq!(ways(&host, "srv/app/logs"), ["/"]);
    fs::create_dir_all(host.path("data")).unwrap();
    assert_eq!(ways(&host, "srv/app/logs"), ["/data"]);
    host.write("data/1/app.txt", "");
    assert_eq!(ways(&host, "srv/app/logs"), ["/data", "/data/1"]);
    // A link on the way, which may be pointed elsewhere; and one that leads back up.
    host.link("../../current/b.txt", "srv/app/logs/b.log");
    host.link("releases/7", "srv/current");
    let wanted = ["/data", "/data/1", "/srv"];
    assert_eq!(ways(&host, "srv/app/logs"), wanted);
    host.write("srv/releases/7/b.txt", "");
    let wanted = ["/data", "/data/1", "/srv", "/srv/releases", "/srv/releases/7"];
    assert_eq!(ways(&host, "srv/app/logs"), wanted);
    // As images have it for nginx.
    host.link("/dev/stdout", "srv/app/logs/c.log");
    host.link("/proc/self/fd/1", "dev/stdout");
    fs::create_dir_all(host.path("proc/self/fd")).unwrap();
    let wanted = ["/data", "/data/1", "/dev", "/srv", "/srv/releases", "/srv/releases/7"];
    assert_eq!(ways(&host, "srv/app/logs"), wanted);
}

#[test]
fn links_into_directories_that_are_listed_anyway_depend_on_nothing() {
    let host = Host::new();
    let id = "ab".repeat(32);
    let (pod, log) = (host.pod_log("shop", "cart", "app", "0.log"), host.docker(&id, "{}"));
    host.link(&format!("/{pod}"), &format!("{LINKS}/cart_shop_app-{id}.log"));
    host.link(&format!("/{PODS}/gone/app/0.log"), &format!("{LINKS}/gone_shop_app-{id}.log"));
    host.link(&format!("/{log}"), &format!("{PODS}/shop_docked_{UID}/app/0.log"));
    assert!(ways(&host, LINKS).is_empty());
    assert!(ways(&host, &format!("{PODS}/shop_docked_{UID}/app")).is_empty());
}

#[test]
fn configured_directories_say_what_leads_to_them() {
    let mut host = Host::new();
    host.config.sources.docker.enabled = false;
    host.config.sources.kubernetes.enabled = false;
    host.files(&["/srv/logs/*.log"]);
    let ways = |host: &Host| {
        let ways = host.discovery().ways();
        ways.iter().map(|way| format!("/{}", host.short(way))).collect::<Vec<_>>()
    };
    assert_eq!(ways(&host), ["/"]);
    host.link("/disk/logs", "srv/logs");
    assert_eq!(ways(&host), ["/", "/srv"]);
    fs::create_dir_all(host.path("disk/logs")).unwrap();
    assert_eq!(ways(&host), ["/", "/disk", "/srv"]);
}

#[test]
fn a_link_to_a_secret_is_refused() {
    let host = Host::new();
    host.write("etc/shadow", "root:*:1::");
    host.link("/etc/shadow", &format!("{PODS}/shop_cart_{UID}/app/0.log"));
    host.link("/etc/shadow", &format!("{LINKS}/cart_shop_app-abc.log"));
    host.link("/etc", &format!("{LINKS}/cart_shop_dir-abc.log"));
    let all = host.discover();
    all.only(&[]);
    assert_eq!(all.problems.len(), 3, "{:#?}", all.problems);
    assert!(all.problems.iter().all(|it| it.contains("no container's log below")));
}

#[test]
fn plain_files_in_the_containers_directory_are_logs_too() {
    let host = Host::new();
    let log = format!("{LINKS}/cart_shop_app-abc.log");
    host.write(&log, "");
    host.write(&format!("{LINKS}/README"), "");
    let all = host.discover();
    all.only(&[&log]);
    assert_eq!(all.attribute(&log, "k8s.namespace.name"), Some("shop"));
}

#[test]
fn strange_names_are_a_problem_and_hold_up_nothing() {
    let host = Host::new();
    let log = host.pod_log("shop", "cart", "app", "0.log");
    for name in ["no-underscores", "a_b_c_d", "evil_\u{1b}[2J_1", &"x".repeat(255)] {
        host.write(&format!("{PODS}/{name}/app/0.log"), "");
    }
    host.write(&format!("{PODS}/shop_cart_{UID}/bad name\n/0.log"), "");
    fs::create_dir_all(host.path(PODS).join(OsStr::from_bytes(b"\xff_\xfe_x"))).unwrap();
    let all = host.discover();
    all.only(&[&log]);
    assert_eq!(all.problems.len(), 2, "one a directory: {:#?}", all.problems);
    assert!(all.problems.iter().all(|text| !text.contains(char::is_control)));
}

#[test]
fn pipes_sockets_and_directories_are_no_logs() {
    let mut host = Host::new();
    host.files(&["/app/*"]);
    let log = host.pod_log("shop", "cart", "app", "0.log");
    let beside = host.path(&log).parent().unwrap().to_owned();
    fs::create_dir_all(host.path("app")).unwrap();
    for directory in [beside, host.path("app")] {
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, directory.join("1.log"), mode).unwrap();
        std::os::unix::net::UnixListener::bind(directory.join("2.log")).unwrap();
        fs::create_dir(directory.join("3.log")).unwrap();
    }
    host.discover().only(&[&log]);
}

#[test]
fn include_and_exclude_reach_pods_containers_and_paths() {
    let mut host = Host::new();
    let cart = host.pod_log("shop", "cart", "app", "0.log");
    let side = host.pod_log("shop", "cart", "istio-proxy", "0.log");
    let dns = host.pod_log("kube-system", "dns", "dns", "0.log");
    let kubernetes = &mut host.config.sources.kubernetes;
    kubernetes.exclude.namespaces = globs(&["kube-*"]);
    host.discover().only(&[&cart, &side]);
    host.config.sources.kubernetes.exclude.containers = globs(&["istio-*"]);
    host.discover().only(&[&cart]);
    host.config.sources.kubernetes.exclude = Filter::default();
    host.config.sources.kubernetes.include.paths = globs(&["/var/log/pods/kube-system_*/**"]);
    host.discover().only(&[&dns]);
    host.config.sources.kubernetes.include = Filter { pods: globs(&["c*"]), ..Filter::default() };
    let all = host.discover();
    all.only(&[&cart, &side]);
    let pruned = format!("{PODS}/kube-system_dns_{UID}");
    assert!(!all.directories.contains(&pruned), "not even watched");
}

#[test]
fn the_own_pods_log_is_never_collected() {
    let mut host = Host::new();
    let cart = host.pod_log("shop", "cart", "app", "0.log");
    host.pod_log("logging", "everyline-x", "agent", "0.log");
    host.own.pod = Some(("logging".into(), "everyline-x".into()));
    host.discover().only(&[&cart]);
    host.own = OwnOutputs { pod_uid: Some(UID.into()), ..OwnOutputs::default() };
    host.discover().only(&[]);
}

#[test]
fn every_pod_of_the_own_workload_is_its_own_and_no_tenant_can_pass_for_one() {
    let mut host = Host::new();
    for pod in ["everyline-x2x4z", "everyline-9bcdf", "everyline-zzzzz"] {
        host.pod_log("logging", pod, "agent", "0.log");
    }
    let others = [
        host.pod_log("shop", "everyline-9bcdf", "agent", "0.log"),
        host.pod_log("logging", "everyline-tools", "agent", "0.log"),
        host.pod_log("logging", "everyline-ui-9bcdf", "agent", "0.log"),
    ];
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    host.own.pod = Some(("logging".into(), "everyline-x2x4z".into()));
    host.discover().only(&others);
    // A pod that is no workload's has no relatives.
    host.own.pod = Some(("shop".into(), "cart".into()));
    assert!(host.discover().files.len() >= 6);
}

#[test]
fn former_pods_and_containers_are_known_by_what_was_remembered_of_them() {
    let mut host = Host::new();
    let id = "ab".repeat(32);
    let claims = r#"{"Name":"/everyline","Config":{"Image":"everyline","Labels":
        {"app.kubernetes.io/name":"everyline"}}}"#;
    let log = host.docker(&id, claims);
    let pod = host.pod_log("logging", "agent-one", "agent", "0.log");
    host.own.container = Some("cd".repeat(32));
    host.own.pod = Some(("logging".into(), "agent-two".into()));
    // What a container says of itself proves nothing.
    host.discover().only(&[&log, &pod]);
    host.own.former.containers.insert(id);
    host.discover().only(&[&pod]);
    host.own.former.pods.insert(UID.into());
    host.discover().only(&[]);
}

#[test]
fn own_state_outputs_and_streams_are_never_collected() {
    let mut host = Host::new();
    host.files(&["/srv/**"]);
    for path in ["srv/a.log", "srv/state/journal", "srv/out.ndjson", "srv/out.ndjson.1", "srv/log"]
    {
        host.write(path, "");
    }
    use std::os::unix::fs::MetadataExt;
    let stream = fs::metadata(host.path("srv/log")).unwrap();
    host.own.paths = vec![host.path("srv/state"), "/srv/out.ndjson".into()];
    host.own.streams = vec![(stream.dev(), stream.ino())];
    let all = host.discover();
    all.only(&["srv/a.log"]);
    assert!(!all.directories.contains("srv/state"));
}

#[test]
fn dockers_logs_and_what_its_configuration_says() {
    let mut host = Host::new();
    let (id, other) = ("ab".repeat(32), "cd".repeat(32));
    let log = host.docker(
        &id,
        r#"{"Name":"/web","Config":{"Image":"nginx:1.25","Labels":
            {"com.docker.compose.project":"shop","com.docker.compose.service":"web"}},
            "NetworkSettings":{"Networks":{"shop_default":{}}}}"#,
    );
    host.write(&format!("{log}.1"), "");
    host.write(&format!("{log}.2.gz"), "");
    host.write(&format!("{DOCKER}/{id}/hostname"), "");
    let pod = host.docker(
        &other,
        r#"{"Name":"/k8s_app_cart_shop_1-2_2","Config":{"Image":"cart","Labels":
            {"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"cart",
             "io.kubernetes.pod.uid":"1-2","io.kubernetes.container.name":"app",
             "io.kubernetes.sandbox.id":"5afe",
             "annotation.io.kubernetes.container.restartCount":"7"}}}"#,
    );
    let sandbox = r#"{"Name":"/k8s_POD_cart_shop_1-2_0","Config":{"Image":"pause","Labels":
        {"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"cart"}}}"#;
    host.write(&format!("{DOCKER}/5afe/config.v2.json"), sandbox);
    let all = host.discover();
    all.only(&[&log, &format!("{log}.1"), &format!("{log}.2.gz"), &pod]);
    assert_eq!(all.found(&log).source.format, Format::DockerJson);
    for (name, value) in [
        ("container.name", "web"),
        ("container.id", id.as_str()),
        ("container.image.name", "nginx:1.25"),
        ("docker.compose.service", "web"),
        ("host.name", "node-1"),
        ("log.file.path", &format!("/{log}")),
    ] {
        assert_eq!(all.attribute(&log, name), Some(value));
        assert_eq!(all.attribute(&format!("{log}.1"), name), Some(value));
    }
    assert!(all.found(&format!("{log}.2.gz")).gzip);
    for (name, value) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "cart"),
        ("k8s.container.name", "app"),
        ("k8s.container.restart_count", "2"),
        ("k8s.node.name", "node-1"),
    ] {
        assert_eq!(all.attribute(&pod, name), Some(value));
    }
    host.config.sources.docker.exclude.containers = globs(&["web"]);
    host.discover().only(&[&pod]);
    host.config.sources.docker.exclude =
        Filter { namespaces: globs(&["shop"]), ..Filter::default() };
    host.discover().only(&[&log, &format!("{log}.1"), &format!("{log}.2.gz")]);
    host.own.container = Some(id);
    host.discover().only(&[]);
}

#[test]
fn dockers_log_is_collected_without_or_with_a_broken_configuration() {
    let host = Host::new();
    let broken = host.docker("abc", "{\"Name\":");
    host.write(&format!("{DOCKER}/def/def-json.log"), "");
    host.write(&format!("{DOCKER}/not an id/x"), "");
    let all = host.discover();
    all.only(&[&broken, &format!("{DOCKER}/def/def-json.log")]);
    assert_eq!(all.attribute(&broken, "container.id"), Some("abc"));
    assert_eq!(all.problems.len(), 2, "{:#?}", all.problems);
}

#[test]
fn files_by_pattern_with_attributes_and_exclusions() {
    let mut host = Host::new();
    let files = host.files(&["/srv/*/logs/*.log", "/var/app/**/*.txt"]);
    files.exclude = globs(&["/srv/*/logs/debug*", "/var/app/tmp"]);
    files.attributes = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    let wanted = ["srv/a/logs/x.log", "srv/b/logs/y.log", "var/app/1.txt", "var/app/d/e/2.txt"];
    let unwanted =
        ["srv/a/x.log", "srv/a/logs/debug.log", "srv/a/logs/d/x.log", "var/app/tmp/3.txt"];
    wanted.iter().chain(&unwanted).for_each(|path| host.write(path, ""));
    let all = host.discover();
    all.only(&wanted);
    let attributes: Vec<_> = all.found(wanted[0]).source.attributes().collect();
    assert_eq!(
        attributes,
        [("host.name", "node-1"), ("log.file.path", "/srv/a/logs/x.log"), ("team", "shop")]
    );
    assert!(!all.directories.contains("srv/a/logs/d") && !all.directories.contains("var/app/tmp"));
}

#[test]
fn former_files_that_no_pattern_names_are_for_the_checkpoint_only() {
    let mut host = Host::new();
    host.files(&["/app/app.log"]);
    let former =
        ["app/app.log.1", "app/app.log.2.gz", "app/app.log-20260101", "app/app-20260101.log"];
    former.iter().for_each(|path| host.write(path, ""));
    host.write("app/other.log.1", "");
    let all = host.discover();
    all.only(&former);
    for path in former {
        let found = all.found(path);
        assert!(found.only_if_known && found.role != Role::Live, "{found:?}");
        assert_eq!(*found.source.path, *host.path("app/app.log"));
    }
}

#[test]
fn former_files_that_a_pattern_names_are_read_as_the_live_ones_past() {
    let mut host = Host::new();
    host.files(&["/app/*.log*"]);
    for name in
        ["app.log", "app.log.1", "app.log.2.gz", "x-20260101.log", "x-20260102.log", "z.log.xz"]
    {
        host.write(&format!("app/{name}"), "");
    }
    let all = host.discover();
    assert_eq!(all.files.len(), 5);
    for path in ["app/app.log.1", "app/app.log.2.gz"] {
        let found = all.found(path);
        assert!(!found.only_if_known && matches!(found.role, Role::Rotated(_)), "{found:?}");
        assert_eq!(*found.source.path, *host.path("app/app.log"));
    }
    // There is no x.log: one of these is today's.
    assert_eq!(all.found("app/x-20260102.log").role, Role::Live);
    assert_eq!(all.problems.len(), 1, "compressed, but not with gzip");
    host.write("app/x.log", "");
    let all = host.discover();
    assert_eq!(*all.found("app/x-20260102.log").source.path, *host.path("app/x.log"));
}

#[test]
fn a_compressed_file_that_a_pattern_names_is_finished() {
    let mut host = Host::new();
    host.files(&["/app/*.gz"]);
    host.write("app/monday.gz", "");
    let all = host.discover();
    let found = all.found("app/monday.gz");
    assert!(found.gzip && !found.only_if_known && found.role != Role::Live);
    assert_eq!(*found.source.path, *host.path("app/monday.gz"));
}

#[test]
fn linked_files_are_collected_once_and_linked_directories_not_walked() {
    let mut host = Host::new();
    host.files(&["/app/**/*.log"]);
    host.write("app/real.log", "");
    host.link("real.log", "app/current.log");
    host.link("..", "app/loop");
    host.link("/", "app/root");
    host.write("elsewhere/x.out", "");
    host.write("elsewhere/x.out.1", "");
    host.link("/elsewhere/x.out", "app/x.log");
    host.link("/elsewhere/x.out", "app/y.log");
    host.link("/missing", "app/z.log");
    host.write("app/deep/y.txt", "");
    host.link("/app/deep/y.txt", "app/deep/link.log");
    // Out of the tree if that is configured, and nowhere if nothing is to be followed.
    host.config.sources.files[0].follow_links = FollowLinks::Never;
    host.discover().only(&["app/real.log"]);
    host.config.sources.files[0].follow_links = FollowLinks::Beneath;
    let all = host.discover();
    all.only(&["app/real.log", "app/deep/y.txt"]);
    assert_eq!(all.attribute("app/deep/y.txt", "log.file.path"), Some("/app/deep/link.log"));
    assert_eq!(all.problems.len(), 1, "{:#?}", all.problems);
    host.config.sources.files[0].follow_links = FollowLinks::Anywhere;
    let all = host.discover();
    all.only(&["app/real.log", "app/deep/y.txt", "elsewhere/x.out", "elsewhere/x.out.1"]);
    assert_eq!(all.attribute("elsewhere/x.out", "log.file.path"), Some("/app/x.log"));
    assert!(all.found("elsewhere/x.out.1").only_if_known);
    // When the directory linked into changes, its listing says the same.
    let listing = host.discovery().list(&host.path("elsewhere"));
    assert_eq!(listing.files.len(), 2);
}

/// What links lead to is remembered while many directories are listed, and what is there is not.
#[test]
fn a_file_that_comes_where_a_link_leads_is_found_while_many_directories_are_listed() {
    let mut host = Host::new();
    host.files(&["/app/*.log", "/srv/*/logs/*.log"]);
    host.write("app/deep/other.txt", "");
    host.link("/app/deep/y.txt", "app/y.log");
    host.write("srv/a/logs/own.log", "");
    host.write("srv/a/data/x.txt", "");
    host.link("../data/x.txt", "srv/a/logs/x.log");
    let discovery = host.discovery();
    let files = |directory: &str| {
        let listing = discovery.list(&host.path(directory));
        listing.files.into_iter().map(|found| found.path).collect::<Vec<_>>()
    };
    discovery.list_many(true);
    assert_eq!(files("srv/a/data"), [host.path("srv/a/data/x.txt")]);
    assert_eq!(files("app/deep"), [""; 0].map(PathBuf::from));
    host.write("app/deep/y.txt", "");
    assert_eq!(files("app/deep"), [host.path("app/deep/y.txt")]);
    fs::rename(host.path("app/deep/y.txt"), host.path("app/deep/y.txt.1")).unwrap();
    host.write("app/deep/y.txt", "");
    assert_eq!(files("app/deep"), ["app/deep/y.txt", "app/deep/y.txt.1"].map(|it| host.path(it)));
    discovery.list_many(false);
    host.link("../data/z.txt", "srv/a/logs/z.log");
    host.write("srv/a/data/z.txt", "");
    assert_eq!(files("srv/a/data").len(), 2, "asked for itself");
}

#[test]
fn a_link_leads_neither_to_what_is_excluded_nor_to_another_tenants_files() {
    let mut host = Host::new();
    host.files(&["/srv/*/logs/*.log"]).exclude = vec!["/srv/*/private/**".into()];
    host.write("srv/a/logs/own.log", "");
    host.write("srv/a/data/x.txt", "");
    host.write("srv/a/private/key.txt", "");
    host.write("srv/b/data/x.txt", "");
    host.link("../data/x.txt", "srv/a/logs/data.log");
    host.link("../private/key.txt", "srv/a/logs/key.log");
    host.link("../../b/data/x.txt", "srv/a/logs/other.log");
    let all = host.discover();
    all.only(&["srv/a/logs/own.log", "srv/a/data/x.txt"]);
    assert!(all.problems[0].contains("\"/srv/a\""), "{:#?}", all.problems);
    host.config.sources.files[0].follow_links = FollowLinks::Anywhere;
    host.discover().only(&["srv/a/logs/own.log", "srv/a/data/x.txt", "srv/b/data/x.txt"]);
}

#[test]
fn a_pods_link_to_another_containers_log_is_refused() {
    let mut host = Host::new();
    host.config.sources.docker.enabled = false;
    let labels = |pod: &str| format!(r#"{{"Name":"/k8s_app_{pod}_shop_{UID}_0"}}"#);
    let own = host.docker(&"a".repeat(64), &labels("cart"));
    let others = host.docker(&"b".repeat(64), &labels("bank"));
    let standalone = host.docker(&"c".repeat(64), r#"{"Name":"/postgres"}"#);
    for (at, log) in [&own, &others, &standalone].into_iter().enumerate() {
        host.link(&format!("/{log}"), &format!("{PODS}/shop_cart_{UID}/app/{at}.log"));
    }
    // Its own name says another id than it leads to.
    let id = "d".repeat(64);
    host.link(&format!("/{own}"), &format!("{LINKS}/cart_shop_app-{id}.log"));
    let all = host.discover();
    all.only(&[&own]);
    assert_eq!(all.problems.len(), 3, "{:#?}", all.problems);
}

#[test]
fn a_pattern_that_covers_kubernetes_logs_leaves_them_to_kubernetes() {
    let mut host = Host::new();
    host.files(&["/var/log/**/*.log"]);
    let log = host.pod_log("shop", "cart", "app", "0.log");
    host.link(&format!("/{log}"), &format!("{LINKS}/cart_shop_app-abc.log"));
    host.write("var/log/syslog.log", "");
    let all = host.discover();
    all.only(&[&log, "var/log/syslog.log"]);
    assert_eq!(all.found(&log).source.format, Format::Cri);
}

#[test]
fn a_root_that_is_missing_is_waited_for_at_its_nearest_ancestor() {
    let mut host = Host::new();
    host.files(&["/srv/app/*.log"]);
    fs::create_dir_all(host.path("var/log")).unwrap();
    let roots: BTreeSet<_> = host.discovery().roots().iter().map(|it| host.short(it)).collect();
    assert_eq!(roots, ["", "var", "var/log"].map(String::from).into());
    let log = host.pod_log("shop", "cart", "app", "0.log");
    let next = host.discovery().list(&host.path("var/log")).directories;
    assert_eq!(next, [host.path(PODS)]);
    host.discover().only(&[&log]);
    // Gone again: a listing of it leads back to where to wait.
    fs::remove_dir_all(host.path("var/log")).unwrap();
    let next = host.discovery().list(&host.path(PODS)).directories;
    assert!(next.contains(&host.path("var")), "{next:?}");
}

#[test]
fn a_pods_directory_that_is_itself_a_link_keeps_its_configured_name() {
    let host = Host::new();
    host.link("/data/pods", PODS);
    let log = format!("data/pods/shop_cart_{UID}/app/0.log");
    host.write(&log, "");
    let link = format!("{LINKS}/cart_shop_app-abc.log");
    host.link(&format!("/{PODS}/shop_cart_{UID}/app/0.log"), &link);
    let all = host.discover();
    all.only(&[&log]);
    let shown = format!("/{PODS}/shop_cart_{UID}/app/0.log");
    assert_eq!(all.attribute(&log, "log.file.path"), Some(shown.as_str()));
    assert_eq!(all.attribute(&log, "container.id"), Some("abc"));
}

#[test]
fn an_unlistable_directory_is_a_problem_and_the_rest_goes_on() {
    let host = Host::new();
    let log = host.pod_log("shop", "cart", "app", "0.log");
    // Root may read everything; that a file stands where a directory should fails for everybody.
    host.write("var/lib/docker/containers", "");
    let listing = host.discovery().list(&host.path("var/lib/docker/containers"));
    assert_eq!(listing.problems.len(), 1);
    assert!(listing.problems[0].contains("\"/var/lib/docker/containers\" cannot be listed"));
    host.discover().only(&[&log]);
}

#[test]
fn disabled_sources_are_not_looked_for() {
    let mut host = Host::new();
    host.pod_log("shop", "cart", "app", "0.log");
    host.docker("abc", "{}");
    host.config.sources.kubernetes.enabled = false;
    host.config.sources.docker.enabled = false;
    assert_eq!(host.discovery().roots(), Vec::<PathBuf>::new());
}

#[test]
fn a_wrong_pattern_is_refused_with_its_key() {
    let mut host = Host::new();
    host.files(&["/fine/*"]);
    host.files(&["/a[b/*"]);
    let error = Discovery::new(&host.config, &host.own).unwrap_err().to_string();
    assert!(error.starts_with("`sources.files[1].paths`: `/a[b/*` is not a glob: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_name_on_disk_is_a_panic(
        names in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(1_u8..=255, 1..40),
                "[a-z0-9]{1,5}_[a-z0-9]{1,5}_[a-z0-9]{1,5}(-[a-f0-9]{1,4}\\.log)?".prop_map(String::into_bytes),
                "[0-9]{1,2}\\.log(\\.[0-9]{8}-[0-9]{6}|\\.[0-9])?(\\.gz)?".prop_map(String::into_bytes),
                "[a-f0-9]{3}(-json\\.log)?".prop_map(String::into_bytes),
            ],
            1..12,
        ),
    ) {
        let mut host = Host::new();
        host.files(&["/**/*"]);
        let mut places = vec![host.path(PODS), host.path(LINKS), host.path(DOCKER)];
        for (at, name) in names.iter().enumerate() {
            let mut name = name.clone();
            name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
            let name = OsStr::from_bytes(&name);
            let place = places[at % places.len()].clone();
            if fs::create_dir_all(&place).is_err() {
                continue;
            }
            let path = place.join(if name == "." || name == ".." { "dots".as_ref() } else { name });
            match at % 4 {
                0 | 1 => {
                    if fs::create_dir(&path).is_ok() {
                        places.push(path);
                    }
                }
                2 => drop(fs::write(&path, "")),
                _ => drop(symlink(&places[(at * 7) % places.len()], &path)),
            }
        }
        let all = host.discover();
        for problem in &all.problems {
            prop_assert!(!problem.contains(char::is_control));
        }
    }
}
