//! Whom to trust and who we are: certificates from PEM files. Built on rustls with ring; TLS 1.2 and
//! 1.3 only, and no switch that turns verification off. The files are read again while the agent runs,
//! for certificates are renewed; until what is there can be used, what was read before stays in force.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName,
};
use ring::digest;
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring::default_provider};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use super::{Fault, dial::Dial};
use crate::{
    config,
    deliver::{
        StartError,
        stamp::{Stamp, stamp},
    },
};

/// Where distributions keep the authorities they trust, in one PEM file.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The files and names TLS is configured with, and what was read of them.
pub(super) struct Files {
    config: config::Tls,
    /// False: `http://`, no bundle of the system's is read.
    needed: bool,
    names: Arc<dyn ResolveServerName + Send + Sync>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    client: ClientConfig,
    digest: digest::Digest,
    stamps: Vec<Stamp>,
}

/// The files' contents.
struct Contents {
    authorities: Option<(PathBuf, Vec<u8>)>,
    /// A certificate and its key.
    own: Option<[(PathBuf, Vec<u8>); 2]>,
}

impl Files {
    pub(super) fn read(
        config: &config::Tls,
        needed: bool,
        fault: Fault<'_>,
    ) -> Result<Self, StartError> {
        let names: Arc<dyn ResolveServerName + Send + Sync> = match &config.server_name {
            None => Arc::new(DefaultServerNameResolver::default()),
            Some(name) => Arc::new(FixedServerNameResolver::new(name.clone())),
        };
        let stamps = stamps(config);
        let contents = Contents::read(config, needed, fault)?;
        let client = contents.client_config(config, fault)?;
        let loaded = Mutex::new(Loaded { client, digest: contents.digest(), stamps });
        Ok(Self { config: config.clone(), needed, names, loaded })
    }

    /// Reads the files again if they look changed, or `anyway`. True: they are others. What cannot be
    /// used (a key without its certificate, while both are being replaced) changes nothing.
    pub(super) fn reread(&self, anyway: bool, fault: Fault<'_>) -> Result<bool, StartError> {
        let stamps = stamps(&self.config);
        if !anyway && stamps == self.loaded().stamps {
            return Ok(false);
        }
        let contents = Contents::read(&self.config, self.needed, fault)?;
        let digest = contents.digest();
        if digest.as_ref() == self.loaded().digest.as_ref() {
            self.loaded().stamps = stamps;
            return Ok(false);
        }
        let client = contents.client_config(&self.config, fault)?;
        *self.loaded() = Loaded { client, digest, stamps };
        Ok(true)
    }

    /// Puts TLS on top of `dial`, with what was read last. Each begins without sessions to resume: the
    /// server would take a resumed one for the certificate that was shown when it began.
    pub(super) fn connector(&self, dial: Dial) -> HttpsConnector<Dial> {
        let mut config = self.loaded().client.clone();
        config.resumption = Resumption::default();
        HttpsConnector::new(dial, config, false, Arc::clone(&self.names))
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(config: &config::Tls) -> Vec<Stamp> {
    let system = config.ca_file.is_none().then(system_bundle).flatten();
    let named = config.files().map(|(_key, file)| stamp(file));
    named.chain(system.map(|path| stamp(&path))).collect()
}

impl Contents {
    fn read(config: &config::Tls, needed: bool, fault: Fault<'_>) -> Result<Self, StartError> {
        let read = |path: &Path, what: &'static str| {
            let bytes = fs::read(path)
                .map_err(|error| unreadable(pem::Error::Io(error), what, path, fault))?;
            Ok::<_, StartError>((path.to_owned(), bytes))
        };
        let authorities = match &config.ca_file {
            Some(file) => Some(read(file, AUTHORITIES)?),
            None if needed => Some(read(&the_system_bundle(fault)?, SYSTEM_AUTHORITIES)?),
            None => None,
        };
        let own = match &config.identity {
            None => None,
            Some(config::Identity { cert_file, key_file }) => {
                Some([read(cert_file, CERTIFICATE)?, read(key_file, KEY)?])
            }
        };
        Ok(Self { authorities, own })
    }

    fn digest(&self) -> digest::Digest {
        let mut all = digest::Context::new(&digest::SHA256);
        for (_, bytes) in self.authorities.iter().chain(self.own.iter().flatten()) {
            all.update(&bytes.len().to_le_bytes());
            all.update(bytes);
        }
        all.finish()
    }

    fn client_config(
        &self,
        config: &config::Tls,
        fault: Fault<'_>,
    ) -> Result<ClientConfig, StartError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault.invalid(format!("TLS cannot be set up: {error}"), ""))?
            .with_root_certificates(self.roots(config, fault)?);
        let mut client = match &self.own {
            None => builder.with_no_client_auth(),
            Some([(cert_file, cert), (key_file, key)]) => {
                let chain = certificates(cert_file, cert, CERTIFICATE, fault)?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| unreadable(error, KEY, key_file, fault))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let what = format!(
                        "the client certificate {} and the key {} do not work: {error}",
                        cert_file.display(),
                        key_file.display()
                    );
                    fault.invalid(what, "Use a key of the certificate's, in PEM.")
                })?
            }
        };
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(client)
    }

    fn roots(&self, config: &config::Tls, fault: Fault<'_>) -> Result<RootCertStore, StartError> {
        let mut roots = RootCertStore::empty();
        let Some((file, bytes)) = &self.authorities else { return Ok(roots) };
        if config.ca_file.is_none() {
            // One odd authority among a system's hundred is no reason to trust none.
            roots.add_parsable_certificates(certificates(file, bytes, SYSTEM_AUTHORITIES, fault)?);
            return Ok(roots);
        }
        for certificate in certificates(file, bytes, AUTHORITIES, fault)? {
            roots.add(certificate).map_err(|error| {
                let what = format!("{} holds an unusable authority: {error}", file.display());
                fault.invalid(what, "Use a PEM file of X.509 certificates.")
            })?;
        }
        Ok(roots)
    }
}

const AUTHORITIES: &str = "the certificate authorities";
const SYSTEM_AUTHORITIES: &str = "the system's certificate authorities";
const CERTIFICATE: &str = "the client certificate";
const KEY: &str = "the client certificate's key";

fn the_system_bundle(fault: Fault<'_>) -> Result<PathBuf, StartError> {
    system_bundle().ok_or_else(|| {
        fault.invalid(
            "this system has no bundle of certificate authorities",
            "Install ca-certificates, or name a PEM file in `tls.ca_file`.",
        )
    })
}

/// `SSL_CERT_FILE`, as OpenSSL reads it, or the first that is there.
fn system_bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from)).find(|path| path.is_file())
}

fn certificates(
    file: &Path,
    bytes: &[u8],
    what: &'static str,
    fault: Fault<'_>,
) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(error, what, file, fault))?;
    if certificates.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound, what, file, fault));
    }
    Ok(certificates)
}

fn unreadable(error: pem::Error, what: &'static str, path: &Path, fault: Fault<'_>) -> StartError {
    let source = match error {
        pem::Error::Io(error) => error,
        pem::Error::NoItemsFound => io::Error::other("nothing of the kind is in it"),
        // Says where the syntax breaks, never the key.
        _ => io::Error::other("it is not in PEM format"),
    };
    let advice = "Name a PEM file that the agent's user can read.";
    StartError::Unreadable { sink: fault.sink.into(), what, path: path.into(), source, advice }
}
