//! Certificates: good, expired, of somebody else, of an unknown authority, and the client's own.

use std::{net::TcpListener, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{server::Head, *};

/// A certificate authority whose certificate lies in a file.
pub(super) struct Authority {
    dir: tempfile::TempDir,
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { dir, pem, der, issuer: Issuer::new(params, key) }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate and its key for these names.
    pub(super) fn issue(&self, names: &[&str], expired: bool) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    pub(super) fn server(
        &self,
        names: &[&str],
        handler: impl Fn(&Head) -> Reply + Send + Sync + 'static,
    ) -> Server {
        self.server_with(self.issue(names, false), None, handler)
    }

    pub(super) fn server_with(
        &self,
        (certificate, key): (rcgen::Certificate, KeyPair),
        clients: Option<&Authority>,
        handler: impl Fn(&Head) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Server::start_on(listener, Some(Arc::new(config)), handler)
    }
}

fn https(server: &Server, host: &str) -> String {
    format!("https://{host}:{}/", server.address().port())
}

/// The certificate must be refused, as a failure of TLS, and nothing be sent.
async fn must_refuse(server: &Server, config: &config::Http) {
    let running = Running::start(config);
    running.send(running.receipts.file(0).batch(1));
    running.failed("tls").await;
    assert!(server.heads().is_empty());
    assert!(running.receipts.all().is_empty());
    running.handle.task.abort();
}

#[tokio::test]
async fn a_server_of_our_own_authority_is_trusted() {
    let ca = Authority::new();
    let server = ca.server(&["localhost", "127.0.0.1"], |_| Reply::Status(200));
    let tls = json!({"tls": {"ca_file": ca.file()}});
    for host in ["localhost", "127.0.0.1"] {
        let config = config(&https(&server, host), tls.clone());
        assert_eq!(deliver_one(&config, 2).await, [Outcome::Delivered]);
    }
}

#[tokio::test]
async fn a_server_under_another_name_needs_to_be_told_so() {
    let ca = Authority::new();
    let server = ca.server(&["logs.example"], |_| Reply::Status(200));
    let url = https(&server, "127.0.0.1");
    must_refuse(&server, &config(&url, json!({"tls": {"ca_file": ca.file()}}))).await;
    let named = json!({"tls": {"ca_file": ca.file(), "server_name": "logs.example"}});
    assert_eq!(deliver_one(&config(&url, named), 1).await, [Outcome::Delivered]);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ca = Authority::new();
    let server = ca.server_with(ca.issue(&["localhost"], true), None, |_| Reply::Status(200));
    let tls = json!({"tls": {"ca_file": ca.file()}});
    must_refuse(&server, &config(&https(&server, "localhost"), tls)).await;
}

#[tokio::test]
async fn an_unknown_authority_is_refused_until_its_file_is_renewed() {
    let (ca, other) = (Authority::new(), Authority::new());
    let server = ca.server(&["localhost"], |_| Reply::Status(200));
    let tls = json!({"tls": {"ca_file": other.file()}});
    let config = config(&https(&server, "localhost"), tls);
    must_refuse(&server, &config).await;

    let running = Running::start(&config);
    running.send(running.receipts.file(0).batch(1));
    running.failed("tls").await;
    std::fs::write(other.file(), &ca.pem).unwrap();
    assert_eq!(running.finish().await, [Outcome::Delivered]);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let server_certificate = ca.issue(&["localhost"], false);
    let server = ca.server_with(server_certificate, Some(&clients), |_| Reply::Status(200));
    let url = https(&server, "localhost");
    must_refuse(&server, &config(&url, json!({"tls": {"ca_file": ca.file()}}))).await;

    let (certificate, key) = clients.issue(&["agent"], false);
    let (cert_file, key_file) =
        (clients.dir.path().join("c.pem"), clients.dir.path().join("k.pem"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let tls = json!({"tls": {"ca_file": ca.file(), "cert_file": cert_file, "key_file": key_file}});
    assert_eq!(deliver_one(&config(&url, tls), 1).await, [Outcome::Delivered]);
}
