//! What somebody says of himself: labels, names and paths that pass for another pod's, or for the agent's own.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use serde_json::{Value, json};

use crate::harness::{World, body, free_port, in_every_mode};
use crate::own;

in_every_mode!(
    labels_make_no_container_the_agents_own,
    labels_put_no_container_into_an_excluded_namespace,
    a_container_that_kubelet_made_is_its_pods,
    what_lies_in_a_static_file_tells_nothing_of_pods,
);

/// A container as somebody starts it with Docker, with one line in its log.
struct Docker {
    id: String,
    name: String,
    labels: Value,
    host: Value,
    line: String,
}

/// The labels that kubelet puts on a container of a pod.
fn kubelets(namespace: &str, pod: &str, uid: &str, sandbox: &str) -> Value {
    json!({
        "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.uid": uid, "io.kubernetes.container.name": "main",
        "io.kubernetes.docker.type": "container", "io.kubernetes.sandbox.id": sandbox,
        "annotation.io.kubernetes.container.restartCount": "3",
    })
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

impl Docker {
    fn new(digit: char, name: &str, labels: Value) -> Self {
        let (name, line) = (name.to_owned(), format!("line of {digit}"));
        Self { id: id(digit), name, labels, host: Value::Null, line }
    }

    fn start(&self, world: &World) -> PathBuf {
        let dir = world.path("docker").join(&self.id);
        fs::create_dir_all(&dir).unwrap();
        let config = json!({
            "ID": self.id, "Name": format!("/{}", self.name),
            "Config": {"Image": "evil:1", "Labels": self.labels},
        });
        fs::write(dir.join("config.v2.json"), config.to_string()).unwrap();
        if !self.host.is_null() {
            fs::write(dir.join("hostconfig.json"), self.host.to_string()).unwrap();
        }
        let log = dir.join(format!("{}-json.log", self.id));
        let line = json!({
            "log": format!("{}\n", self.line), "stream": "stdout", "time": "2026-11-22T01:02:03Z",
            "attrs": {"k8s.pod.name": "attrs", "io.kubernetes.pod.namespace": "attrs"},
        });
        fs::write(&log, format!("{line}\n")).unwrap();
        log
    }
}

/// Ways to say that one is of the pod `NAMESPACE/POD`, of this uid, without kubelet having said so.
fn pretenders(namespace: &str, pod: &str, uid: &str) -> Vec<Docker> {
    let right = format!("k8s_main_{pod}_{namespace}_{uid}_3");
    let labels = |sandbox: &str| kubelets(namespace, pod, uid, sandbox);
    let mut bridged = Docker::new('5', &right, labels(&id('f')));
    bridged.host = json!({"NetworkMode": "bridge"});
    vec![
        // The labels alone, as an image may bring them along.
        Docker::new('1', "web", labels(&id('f'))),
        // A name that is not quite kubelet's.
        Docker::new('2', &format!("k8s_main_{pod}_{namespace}"), labels(&id('f'))),
        // A sandbox that is a container like any other, or itself, or not there, or a path.
        Docker::new('3', &right, labels(&id('1'))),
        Docker::new('4', &right, labels(&id('4'))),
        // The pod's own sandbox, but it did not join it.
        bridged,
        Docker::new('6', &right, labels(&id('0'))),
        Docker::new('7', &right, labels(&format!("../docker/{}", id('f')))),
        // The name and labels of a sandbox.
        Docker::new('8', &format!("k8s_POD_{pod}_{namespace}_{uid}_9"), labels(&id('f'))),
    ]
}

/// The pod's sandbox (id `f…`) and its container (`e…`), as kubelet makes them.
fn real(namespace: &str, pod: &str, uid: &str) -> [Docker; 2] {
    let mut labels = kubelets(namespace, pod, uid, &id('f'));
    let mut container =
        Docker::new('e', &format!("k8s_main_{pod}_{namespace}_{uid}_3"), labels.clone());
    container.host = json!({"NetworkMode": format!("container:{}", id('f'))});
    labels["io.kubernetes.docker.type"] = "podsandbox".into();
    labels["io.kubernetes.container.name"] = "POD".into();
    labels.as_object_mut().unwrap().remove("io.kubernetes.sandbox.id");
    let mut sandbox = Docker::new('f', &format!("k8s_POD_{pod}_{namespace}_{uid}_0"), labels);
    sandbox.line = "pause".to_owned();
    [sandbox, container]
}

fn start_all(world: &World, containers: &[Docker]) {
    for container in containers {
        container.start(world);
    }
}

/// The pretenders' lines are all there, under no pod's name; nothing else but their sandbox's is.
#[track_caller]
fn assert_not_believed(records: &[Value], pretenders: &[Docker]) {
    let mut bodies: Vec<&str> = records.iter().map(body).filter(|it| *it != "pause").collect();
    bodies.sort_unstable();
    let lines: Vec<&str> = pretenders.iter().map(|container| &*container.line).collect();
    assert_eq!(bodies, lines);
    for record in records {
        let of_pod = record.as_object().unwrap().keys().any(|key| key.starts_with("k8s."));
        assert!(!of_pod, "{record}");
        assert!(record["container.id"].is_string() && record["host.name"] == "node-1", "{record}");
    }
}

fn labels_make_no_container_the_agents_own(mut world: World) {
    world.admin = Some(free_port());
    let (pod, uid) = ("everyline-x2x4z", "uid-1");
    let pretenders = pretenders("logging", pod, uid);
    start_all(&world, &pretenders);
    start_all(&world, &real("logging", pod, uid));
    let agent = own::start(&world, pod, uid);
    world.wait_for(pretenders.len() + 1);
    own::wait_for_own_logs(&world, 1);
    // Another one comes up while the agent runs, as a pod of its workload would.
    let mut late = Docker::new('9', "late", kubelets("logging", "everyline-9bcdf", "u2", &id('f')));
    late.line = "line of 9".to_owned();
    late.start(&world);
    world.wait_for(pretenders.len() + 2);
    assert_eq!(agent.stop(), Some(0));
    let pretenders: Vec<Docker> = pretenders.into_iter().chain([late]).collect();
    assert_not_believed(&world.records(), &pretenders);
    assert!(world.log().contains("The labels are not believed"), "{}", world.log());
}

fn labels_put_no_container_into_an_excluded_namespace(mut world: World) {
    world.docker = ", exclude: {namespaces: [kube-system]}";
    let pretenders = pretenders("kube-system", "dns", "uid-1");
    start_all(&world, &pretenders);
    start_all(&world, &real("kube-system", "dns", "uid-1"));
    let agent = world.start();
    world.wait_for(pretenders.len() + 1);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(agent.stop(), Some(0));
    assert_not_believed(&world.records(), &pretenders);
}

fn a_container_that_kubelet_made_is_its_pods(world: World) {
    start_all(&world, &real("shop", "cart", "uid-1"));
    let agent = world.start();
    let records = world.wait_for(2);
    assert_eq!(agent.stop(), Some(0));
    let record = records.iter().find(|record| body(record) == "line of e").unwrap();
    for (name, value) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "cart"),
        ("k8s.pod.uid", "uid-1"),
        ("k8s.container.name", "main"),
        ("k8s.container.restart_count", "3"),
        ("k8s.node.name", "node-1"),
    ] {
        assert_eq!(record[name], value, "{record}");
    }
}

fn what_lies_in_a_static_file_tells_nothing_of_pods(mut world: World) {
    let plain = world.path("plain");
    world.files = format!("    - paths: ['{}/**/*.log']\n", plain.display());
    let id = id('a');
    for dir in ["kube-system_dns_uid-1/main".to_owned(), id.clone(), "logging_a_b/c".to_owned()] {
        fs::create_dir_all(plain.join(&dir)).unwrap();
        let line = "2026-11-22T01:02:03Z stdout F hello\n";
        fs::write(plain.join(&dir).join("0.log"), line).unwrap();
        fs::write(plain.join(&dir).join(format!("x_kube-system_y-{id}.log")), line).unwrap();
    }
    let log = plain.join(&id).join(format!("{id}-json.log"));
    fs::write(log, "{\"log\":\"x\\n\",\"attrs\":{\"k8s.pod.name\":\"y\"}}\n").unwrap();
    let pod = json!({"Name": "/k8s_a_dns_kube-system_u_0", "Config": {"Labels":
        kubelets("kube-system", "dns", "u", &id)}});
    fs::write(plain.join(&id).join("config.v2.json"), pod.to_string()).unwrap();
    let agent = world.start();
    let records = world.wait_for(7);
    assert_eq!(agent.stop(), Some(0));
    for record in records {
        let mut keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| key.starts_with("k8s.") || key.starts_with("container."));
        assert!(keys.is_empty(), "{record}");
    }
}

#[test]
fn a_link_among_a_pods_logs_to_another_containers_log_is_refused() {
    let mut world = World::new("inotify");
    world.docker = ", enabled: false";
    let [sandbox, victim] = real("kube-system", "dns", "uid-1");
    let lonely = Docker::new('a', "database", json!({}));
    let mut mine = Docker::new('b', "k8s_main_web_shop_uid-web_0", json!({}));
    mine.labels = kubelets("shop", "web", "uid-web", &id('c'));
    let logs = [&victim, &lonely, &mine].map(|container| container.start(&world));
    sandbox.start(&world);
    let dir = world.path("pods/shop_web_uid-web/main");
    fs::create_dir_all(&dir).unwrap();
    for (number, log) in logs.iter().enumerate() {
        symlink(log, dir.join(format!("{number}.log"))).unwrap();
    }
    let agent = world.start();
    let records = world.wait_for(1);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(agent.stop(), Some(0));
    let bodies: Vec<String> = world.records().iter().map(|it| body(it).to_owned()).collect();
    assert_eq!(bodies, ["line of b"], "{}", world.log());
    assert_eq!(records[0]["container.id"], id('b'));
}

#[test]
fn a_directory_that_kubelet_did_not_make_is_no_pods() {
    let mut world = World::new("inotify");
    if !rustix::process::geteuid().is_root() {
        println!("skipped: giving a directory to another user needs root");
        return;
    }
    world.admin = Some(free_port());
    let forged = |name: &str| {
        // It is another user's from the first moment that the agent can see it.
        let pod = world.path(name);
        fs::create_dir_all(pod.join("main")).unwrap();
        let line = "2026-11-22T01:02:03Z stdout F forged\n";
        fs::write(pod.join("main/0.log"), line).unwrap();
        std::os::unix::fs::chown(&pod, Some(1000), Some(1000)).unwrap();
        fs::rename(&pod, world.path("pods").join(name)).unwrap();
    };
    forged("shop_victim_uid-1");
    forged("kube-system_dns_uid-2");
    let mut web = world.container("web");
    web.write(2);
    let agent = world.start();
    world.wait_for(2);
    forged("shop_web_uid-3");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    web.write(1);
    world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    assert!(world.records().iter().all(|record| body(record) != "forged"));
    assert!(world.log().contains("kubelet did not make it"), "{}", world.log());
}

#[test]
fn an_image_cannot_put_its_container_into_a_compose_project() {
    let world = World::new("poll");
    let labels = json!({"com.docker.compose.project": "shop", "com.docker.compose.service": "web"});
    for (digit, name) in [('1', "evil"), ('2', "shop-web-1"), ('3', "shop-mail-1")] {
        Docker::new(digit, name, labels.clone()).start(&world);
    }
    let agent = world.start();
    let records = world.wait_for(3);
    assert_eq!(agent.stop(), Some(0));
    for record in records {
        let believed = record["docker.compose.project"] == "shop";
        assert_eq!(believed, body(&record) == "line of 2", "{record}");
    }
}
