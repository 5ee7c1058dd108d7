//! Failures that come of something out of date: a name that leads elsewhere now, connections to a
//! server that has gone bad, certificates and secrets that were renewed. No restart, no reload.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    harness::{Agent, Container, World, assert_exactly_once, free_port},
    receiver::{Admit, Fault, Receiver},
};

/// Two addresses of this machine, and a port that is free at both.
const FIRST: &str = "127.0.0.2";
const SECOND: &str = "127.0.0.3";

/// A world whose sink goes to `url`.
fn world(url: &str, more: &str) -> World {
    let mut world = World::new("auto");
    world.sinks = format!(
        "  out:\n    type: http\n    url: {url}\n    backoff_base: 10ms\n    backoff_max: 300ms\n    timeout: 1s\n    concurrency: 4\n{more}"
    );
    world.admin = Some(free_port());
    world.extra = "drain_timeout: 1s\n".into();
    world
}

/// An agent that finds names in the file `hosts` of the world, as others find them in /etc/hosts.
fn start_with_hosts(world: &World) -> Option<Agent> {
    let as_root = Command::new("unshare").args(["--mount", "true"]).output();
    if !as_root.is_ok_and(|output| output.status.success()) {
        println!("skipped: a name service of the test's own needs root");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(world.path("hosts"));
    command.arg(env!("CARGO_BIN_EXE_everyline"));
    Some(world.start_by(command))
}

/// In place: what is mounted is the file, not its name.
fn set_hosts(world: &World, addresses: &[&str]) {
    let lines = addresses.iter().map(|address| format!("{address} logs.test\n"));
    fs::write(world.path("hosts"), lines.collect::<String>()).unwrap();
}

fn wait_for_all(receivers: &[&Receiver], container: &Container) {
    let records = || receivers.iter().flat_map(|it| it.records()).collect::<Vec<_>>();
    receivers[0].wait_until("all of it", |_| records().len() >= container.written as usize);
    assert_exactly_once(&records(), container);
}

/// The name leads to another server; the old one goes on accepting connections.
fn a_name_moves(fault: Fault) {
    let old = Receiver::start_at((FIRST, 0), None);
    let new = Receiver::start_at((SECOND, old.port), None);
    let world = world(&format!("http://logs.test:{}/", old.port), "");
    set_hosts(&world, &[FIRST]);
    let mut container = world.container("a");
    let Some(agent) = start_with_hosts(&world) else { return };
    container.write(100);
    wait_for_all(&[&old], &container);
    old.always(Some(fault));
    container.write(100);
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    set_hosts(&world, &[SECOND]);
    wait_for_all(&[&old, &new], &container);
    world.wait_for_log("Deliveries go through again.");
    assert_eq!(agent.stop(), Some(0));
    let said = world.log().matches("looking the server's name up again").count();
    assert_eq!(said, usize::from(fault == Fault::Unavailable), "{}", world.log());
}

#[test]
fn a_name_that_moved_is_found_while_the_old_server_answers_503() {
    a_name_moves(Fault::Unavailable);
}

#[test]
fn a_name_that_moved_is_found_while_the_old_server_hangs() {
    a_name_moves(Fault::Silent);
}

#[test]
fn a_name_that_moved_is_found_while_the_old_server_resets_connections() {
    a_name_moves(Fault::Reset);
}

/// A load balancer of names: one of two addresses has gone bad, and is the first in the list.
fn one_of_two_goes_bad(fault: Fault) {
    let bad = Receiver::start_at((FIRST, 0), None);
    let good = Receiver::start_at((SECOND, bad.port), None);
    let world = world(&format!("http://logs.test:{}/", bad.port), "");
    set_hosts(&world, &[FIRST, SECOND]);
    let mut container = world.container("a");
    let Some(agent) = start_with_hosts(&world) else { return };
    container.write(100);
    wait_for_all(&[&bad, &good], &container);
    let (worse, better) = if bad.count() > 0 { (&bad, &good) } else { (&good, &bad) };
    worse.always(Some(fault));
    container.write(100);
    wait_for_all(&[worse, better], &container);
    // It stays there while that works.
    let asked = worse.requests();
    container.write(100);
    wait_for_all(&[worse, better], &container);
    assert_eq!(worse.requests(), asked);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn of_two_addresses_the_one_that_answers_503_is_left() {
    one_of_two_goes_bad(Fault::Unavailable);
}

#[test]
fn of_two_addresses_the_one_that_hangs_is_left() {
    one_of_two_goes_bad(Fault::Silent);
}

#[test]
fn connections_are_renewed_seldom_while_a_server_is_unavailable() {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let world = world(&format!("http://127.0.0.1:{}/", receiver.port), "");
    let mut container = world.container("a");
    let agent = world.start();
    container.write(100);
    receiver.wait_until("a request", |_| receiver.requests() > 0);
    std::thread::sleep(Duration::from_secs(8));
    let (requests, connections) = (receiver.requests(), receiver.connections());
    assert!(requests > 20, "{requests}");
    // One at the start, and one after five seconds.
    assert!((2..=3).contains(&connections), "{connections} for {requests} requests");
    receiver.always(None);
    wait_for_all(&[&receiver], &container);
    assert_eq!(agent.stop(), Some(0));
}

/// A certificate authority, and what it issues.
pub(crate) struct Authority {
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server's configuration; it asks its clients for a certificate of `clients`.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = self.issue("127.0.0.1");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// Replaces a file as a renewal does.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A gateway refuses the expired certificate by a status, on connections that are kept alive.
fn a_client_certificate_is_renewed(status: u16, on_reject: &str) {
    let (ca, clients) = (Authority::new(), Authority::new());
    let (old, new) = (clients.issue("agent"), clients.issue("agent"));
    let expired = Arc::new(AtomicBool::new(false));
    let (is_expired, first) = (Arc::clone(&expired), old.0.der().to_vec());
    let admit: Admit = Arc::new(move |shown| {
        let bad = is_expired.load(Ordering::SeqCst) && shown == Some(&first);
        bad.then_some(status)
    });
    let receiver = Receiver::start_at(("127.0.0.1", 0), Some((ca.server(Some(&clients)), admit)));
    let mut world = world(&format!("https://127.0.0.1:{}/", receiver.port), "");
    let [ca_file, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| world.path(name));
    world.sinks += &format!(
        "    on_reject: {on_reject}\n    tls:\n      ca_file: {}\n      cert_file: {}\n      key_file: {}\n",
        ca_file.display(),
        cert.display(),
        key.display()
    );
    put(&ca_file, &ca.certificate.pem());
    put(&cert, &old.0.pem());
    put(&key, &old.1.serialize_pem());
    let mut container = world.container("a");
    let agent = world.start();
    container.write(50);
    wait_for_all(&[&receiver], &container);
    expired.store(true, Ordering::SeqCst);
    put(&cert, &new.0.pem());
    put(&key, &new.1.serialize_pem());
    container.write(50);
    wait_for_all(&[&receiver], &container);
    world.wait_for_log("Certificates or secrets were renewed; using them.");
    assert_eq!(agent.stop(), Some(0));
    assert!(!world.log().contains("Dropped"), "{}", world.log());
}

#[test]
fn a_renewed_client_certificate_is_shown_where_the_old_one_is_refused_with_400() {
    a_client_certificate_is_renewed(400, "retry");
}

#[test]
fn an_expired_certificate_that_is_answered_with_400_drops_nothing() {
    a_client_certificate_is_renewed(400, "drop");
}

#[test]
fn a_renewed_client_certificate_is_shown_where_the_old_one_is_refused_with_403() {
    a_client_certificate_is_renewed(403, "retry");
}

#[test]
fn a_server_under_a_new_authority_is_trusted_when_its_file_is_renewed() {
    let (old, new) = (Authority::new(), Authority::new());
    let anybody: Admit = Arc::new(|_| None);
    let receiver = Receiver::start_at(("127.0.0.1", 0), Some((new.server(None), anybody)));
    let mut world = world(&format!("https://127.0.0.1:{}/", receiver.port), "");
    let ca_file = world.path("ca.pem");
    world.sinks += &format!("    tls:\n      ca_file: {}\n", ca_file.display());
    put(&ca_file, &old.certificate.pem());
    let mut container = world.container("a");
    let agent = world.start();
    container.write(50);
    world.wait_for_sink("out", |sink| sink["error"].as_str().is_some_and(|it| it.contains("TLS")));
    // A renewal that went wrong is said, and changes nothing.
    put(&ca_file, "nonsense");
    world.wait_for_log("cannot be used; the old ones are kept.");
    put(&ca_file, &new.certificate.pem());
    wait_for_all(&[&receiver], &container);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(world.log().matches("cannot be used").count(), 1, "{}", world.log());
}

/// A gateway that has its own idea of how to refuse a token.
#[test]
fn a_renewed_token_is_used_whatever_the_old_one_is_refused_with() {
    for status in [401, 403, 400, 500] {
        let receiver = Receiver::start(&[]);
        let mut world = world(&format!("http://127.0.0.1:{}/", receiver.port), "");
        let token = world.path("token");
        world.sinks += &format!(
            "    on_reject: drop\n    auth:\n      bearer_token_file: {}\n",
            token.display()
        );
        put(&token, "first");
        let mut container = world.container("a");
        let agent = world.start();
        container.write(50);
        wait_for_all(&[&receiver], &container);
        receiver.accept_only("bearer second", status);
        put(&token, "second");
        container.write(50);
        wait_for_all(&[&receiver], &container);
        assert_eq!(agent.stop(), Some(0));
        assert!(!world.log().contains("Dropped"), "{status}: {}", world.log());
    }
}

#[test]
fn that_deliveries_go_through_again_is_said_only_if_one_did() {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let mut world = world(&format!("http://127.0.0.1:{}/", receiver.port), "");
    let mut container = world.container("a");
    // Stopped before a dead sink, and the sink removed by a reload: given up, not delivered.
    let agent = world.start();
    container.write(10);
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    assert_eq!(agent.stop(), Some(1));
    let agent = world.start();
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    let sinks = std::mem::replace(&mut world.sinks, "  other:\n    type: \"null\"\n".into());
    world.write_config();
    agent.signal(rustix::process::Signal::HUP);
    world.wait_for_sink("other", |_| true);
    assert_eq!(agent.stop(), Some(0));
    assert!(!world.log().contains("go through again"), "{}", world.log());
    world.sinks = sinks;
    let agent = world.start();
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    receiver.always(None);
    world.wait_for_log("Deliveries go through again.");
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_record_that_is_dropped_is_no_delivery() {
    let receiver = Receiver::start(&[]);
    receiver.always(Some(Fault::Unavailable));
    let mut world = world(&format!("http://127.0.0.1:{}/", receiver.port), "");
    world.sinks += "    on_reject: drop\n";
    let mut container = world.container("a");
    let agent = world.start();
    container.write(1);
    world.wait_for_sink("out", |sink| !sink["error"].is_null());
    // The server is back, and refuses the one record there is.
    receiver.refuse("message 0");
    receiver.always(None);
    world.wait_for_log("Dropped");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!world.log().contains("go through again"), "{}", world.log());
    assert!(!world.sink_status("out")["error"].is_null());
    container.write(1);
    world.wait_for_log("Deliveries go through again.");
    world.wait_for_sink("out", |sink| sink["error"].is_null());
    assert_eq!(agent.stop(), Some(0));
}
