//! Whether kubelet made a Docker container, and for which pod.
//!
//! Labels prove nothing: whoever builds an image or starts a container writes any he likes, and could pass for
//! the agent's own pod or for one in an excluded namespace, so that nobody collects him. kubelet (dockershim,
//! cri-dockerd) also gives the container a name that is taken apart here, and lets it join the namespaces of a
//! sandbox, which is a container of its own. All of that must agree, and then what is told comes from the names.

use std::path::Path;

use super::facts::{self, Facts, Trouble};
use crate::discover::names::{is_container, is_id, is_namespace, is_pod};

/// What kubelet calls a sandbox's container.
const SANDBOX: &str = "POD";

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) container: String,
    /// How often it was started before.
    pub(super) restarts: u32,
    /// The id of its pod's sandbox.
    pub(super) sandbox: String,
}

/// What comes of a container's claim to belong to a pod.
#[derive(Debug)]
pub(super) enum Claim {
    /// It makes none.
    None,
    /// It belongs to this pod.
    True(Member),
    /// It does not, as far as can be seen.
    Unproved,
    /// What would prove it could not be looked up.
    Unknown(Option<Trouble>),
}

impl Claim {
    /// Of the container `id`, whose directory this is.
    pub(super) fn of(directory: &Path, id: &str, facts: &Facts) -> Self {
        if facts.label("io.kubernetes.pod.name").is_none() {
            return Self::None;
        }
        let Some(member) = Member::of(facts).filter(|member| member.sandbox != id) else {
            return Self::Unproved;
        };
        let Some(beside) = directory.parent().map(|containers| containers.join(&member.sandbox))
        else {
            return Self::Unproved;
        };
        let joined = format!("container:{}", member.sandbox);
        match facts::network_mode(&directory.join("hostconfig.json")) {
            Ok(Some(mode)) if mode != joined => return Self::Unproved,
            // Docker writes it a moment after the container's configuration.
            Ok(_) | Err(Trouble::Missing) => {}
            Err(trouble) => return Self::Unknown(Some(trouble)),
        }
        match Facts::read(&beside.join("config.v2.json")) {
            Ok(sandbox) if is_sandbox_of(&member, &sandbox) => Self::True(member),
            Ok(_) => Self::Unproved,
            Err(Trouble::Missing) => Self::Unknown(None),
            Err(trouble) => Self::Unknown(Some(trouble)),
        }
    }
}

/// Whether kubelet would give this name to a container of the pod.
pub(super) fn is_named_for(name: &str, namespace: &str, pod: &str) -> bool {
    Name::parse(name).is_some_and(|name| name.namespace == namespace && name.pod == pod)
}

impl Member {
    /// What name and labels say, where they agree.
    fn of(facts: &Facts) -> Option<Self> {
        let name = Name::parse(facts.name.as_deref()?)?;
        let sandbox = facts.label("io.kubernetes.sandbox.id").filter(|id| is_id(id))?;
        let agree = name.container != SANDBOX
            && is_container(name.container)
            && name.agrees(facts, "container");
        agree.then(|| Self {
            namespace: name.namespace.to_owned(),
            pod: name.pod.to_owned(),
            uid: name.uid.to_owned(),
            container: name.container.to_owned(),
            restarts: name.attempt,
            sandbox: sandbox.to_owned(),
        })
    }
}

/// Whether that is the sandbox of the container's pod.
fn is_sandbox_of(member: &Member, sandbox: &Facts) -> bool {
    let name = sandbox.name.as_deref().and_then(Name::parse);
    name.is_some_and(|name| {
        name.container == SANDBOX
            && name.namespace == member.namespace
            && name.pod == member.pod
            && name.uid == member.uid
            && name.agrees(sandbox, "podsandbox")
    })
}

/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`, and eight hexadecimal digits where that name was taken.
struct Name<'a> {
    container: &'a str,
    pod: &'a str,
    namespace: &'a str,
    uid: &'a str,
    attempt: u32,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let parts: Vec<&str> = name.split('_').collect();
        let (parts, ending) = parts.split_at_checked(6)?;
        let &["k8s", container, pod, namespace, uid, attempt] = parts else { return None };
        let is_random = |end: &&str| end.len() == 8 && end.bytes().all(|c| c.is_ascii_hexdigit());
        let fine = is_pod(pod)
            && is_namespace(namespace)
            && is_pod(uid)
            && ending.len() <= 1
            && ending.iter().all(is_random);
        let attempt = attempt.parse().ok()?;
        fine.then_some(Self { container, pod, namespace, uid, attempt })
    }

    /// Whether the labels say the same, and that the container is of this kind.
    fn agrees(&self, facts: &Facts, kind: &str) -> bool {
        let says = |label: &str, value: &str| facts.label(label).is_none_or(|said| said == value);
        says("io.kubernetes.pod.name", self.pod)
            && says("io.kubernetes.pod.namespace", self.namespace)
            && says("io.kubernetes.pod.uid", self.uid)
            && says("io.kubernetes.container.name", self.container)
            && says("io.kubernetes.docker.type", kind)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    const POD: &str = "cart_shop_0d7e-1_0";

    struct Containers(tempfile::TempDir);

    impl Containers {
        /// A pod's sandbox (`5…`) and its container (`c…`), as kubelet makes them.
        fn new() -> Self {
            let containers = Self(tempfile::tempdir().unwrap());
            containers.write(&sandbox(), "config.v2.json", config("POD", "podsandbox", json!({})));
            containers.write(&id(), "config.v2.json", member(json!({})));
            containers
        }

        fn write(&self, id: &str, name: &str, content: Value) {
            let directory = self.0.path().join(id);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), content.to_string()).unwrap();
        }

        fn claim(&self) -> Claim {
            let directory = self.0.path().join(id());
            let facts = Facts::read(&directory.join("config.v2.json")).unwrap();
            Claim::of(&directory, &id(), &facts)
        }
    }

    fn id() -> String {
        "c".repeat(64)
    }

    fn sandbox() -> String {
        "5".repeat(64)
    }

    fn config(container: &str, kind: &str, more: Value) -> Value {
        let mut labels = json!({
            "io.kubernetes.pod.name": "cart", "io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.pod.uid": "0d7e-1", "io.kubernetes.container.name": container,
            "io.kubernetes.docker.type": kind,
        });
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Name": format!("/k8s_{container}_{POD}"), "Config": {"Labels": labels}})
    }

    fn member(more: Value) -> Value {
        let mut labels = json!({"io.kubernetes.sandbox.id": sandbox()});
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config("app", "container", labels)
    }

    #[test]
    fn what_kubelet_made_is_known_with_its_pod() {
        let containers = Containers::new();
        let Claim::True(found) = containers.claim() else { panic!("{:?}", containers.claim()) };
        let told = [&found.namespace, &found.pod, &found.uid, &found.container, &found.sandbox];
        assert_eq!(told, ["shop", "cart", "0d7e-1", "app", &sandbox()]);
        assert_eq!(found.restarts, 0);
        let joined = json!({"NetworkMode": format!("container:{}", sandbox())});
        containers.write(&id(), "hostconfig.json", joined);
        assert!(matches!(containers.claim(), Claim::True(_)));
        // The name was taken, by a container that could not be removed.
        let mut other = member(json!({}));
        other["Name"] = format!("/k8s_app_{POD}_0badf00d").into();
        containers.write(&id(), "config.v2.json", other);
        assert!(matches!(containers.claim(), Claim::True(_)));
    }

    #[test]
    fn what_somebody_else_made_is_not_believed() {
        let containers = Containers::new();
        let with = |name: &str, labels: Value| {
            let mut config = member(labels);
            config["Name"] = name.into();
            config
        };
        let right = format!("/k8s_app_{POD}");
        let (own, label) = (right.as_str(), "io.kubernetes.sandbox.id");
        for (what, config) in [
            ("a name of its own", with("/web", json!({}))),
            ("no name", with("", json!({}))),
            ("another container", with(&format!("/k8s_web_{POD}"), json!({}))),
            ("another pod", with("/k8s_app_mail_shop_0d7e-1_0", json!({}))),
            ("another namespace", with("/k8s_app_cart_kube-system_0d7e-1_0", json!({}))),
            ("another uid", with("/k8s_app_cart_shop_0d7e-2_0", json!({}))),
            ("no attempt", with("/k8s_app_cart_shop_0d7e-1", json!({}))),
            ("more behind", with(&format!("{right}_x"), json!({}))),
            ("a sandbox", with(&format!("/k8s_POD_{POD}"), json!({}))),
            ("another namespace's label", with(own, json!({"io.kubernetes.pod.namespace": "x"}))),
            ("another kind", with(own, json!({"io.kubernetes.docker.type": "podsandbox"}))),
            ("itself as sandbox", with(own, json!({label: id()}))),
            ("a path as sandbox", with(own, json!({label: format!("../{}", sandbox())}))),
        ] {
            containers.write(&id(), "config.v2.json", config);
            assert!(matches!(containers.claim(), Claim::Unproved), "{what}");
        }
        containers.write(&id(), "config.v2.json", member(json!({label: "6".repeat(64)})));
        assert!(matches!(containers.claim(), Claim::Unknown(None)), "no such sandbox");
        containers.write(&id(), "config.v2.json", json!({"Name": right, "Config": {}}));
        assert!(matches!(containers.claim(), Claim::None), "a name alone");
    }

    #[test]
    fn a_sandbox_must_be_one_and_of_this_pod_and_be_joined() {
        let containers = Containers::new();
        let mut other = config("POD", "podsandbox", json!({"io.kubernetes.pod.name": "mail"}));
        other["Name"] = "/k8s_POD_mail_shop_0d7e-1_0".into();
        for (what, config) in [
            ("another pod's", other),
            ("a container", member(json!({}))),
            ("one that only says so", json!({"Name": "/web", "Config": other_labels()})),
            ("of another kind", config("POD", "container", json!({}))),
            ("empty", json!({})),
        ] {
            containers.write(&sandbox(), "config.v2.json", config);
            assert!(matches!(containers.claim(), Claim::Unproved), "{what}");
        }
        let containers = Containers::new();
        containers.write(&id(), "hostconfig.json", json!({"NetworkMode": "bridge"}));
        assert!(matches!(containers.claim(), Claim::Unproved), "a network of its own");
    }

    fn other_labels() -> Value {
        config("POD", "podsandbox", json!({}))["Config"].clone()
    }
}
