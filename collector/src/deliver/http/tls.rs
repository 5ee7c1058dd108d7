//! Whom to trust and who we are: certificates from PEM files. Built on rustls with ring; TLS 1.2 and
//! 1.3 only, and no switch that turns verification off.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{self, PemObject as _},
};

use super::{Fault, dial::Dial};
use crate::{config, deliver::StartError};

/// Where distributions keep the authorities they trust, in one PEM file.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The files and names TLS is configured with; read anew for every [`Files::connector`].
pub(super) struct Files {
    config: config::Tls,
    /// False: `http://`, nothing is read.
    needed: bool,
}

impl Files {
    pub(super) fn new(config: &config::Tls, needed: bool) -> Self {
        Self { config: config.clone(), needed }
    }

    /// Reads everything and puts TLS on top of `dial`.
    pub(super) fn connector(
        &self,
        dial: Dial,
        fault: Fault<'_>,
    ) -> Result<HttpsConnector<Dial>, StartError> {
        let mut config = self.client_config(fault)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = &self.config.server_name;
        let resolver: Arc<dyn ResolveServerName + Send + Sync> = if name.is_empty() {
            Arc::new(DefaultServerNameResolver::default())
        } else {
            let name = ServerName::try_from(name.clone()).map_err(|_invalid| {
                fault.invalid(
                    format!("`tls.server_name` {name:?} is no host name"),
                    "Write the name in the server's certificate.",
                )
            })?;
            Arc::new(FixedServerNameResolver::new(name))
        };
        Ok(HttpsConnector::new(dial, config, false, resolver))
    }

    fn client_config(&self, fault: Fault<'_>) -> Result<ClientConfig, StartError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fault.invalid(format!("TLS cannot be set up: {error}"), ""))?
            .with_root_certificates(self.roots(fault)?);
        let (cert_file, key_file) = match (&self.config.cert_file, &self.config.key_file) {
            (None, None) => return Ok(builder.with_no_client_auth()),
            (Some(cert), Some(key)) => (cert, key),
            _ => {
                let what = "`tls` has only one of `cert_file` and `key_file`";
                return Err(fault.invalid(what, "Set both or neither."));
            }
        };
        let chain = certificates(cert_file, "the client certificate", fault)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| unreadable(error, "the client certificate's key", key_file, fault))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            let what = format!(
                "the client certificate {} and the key {} do not work: {error}",
                cert_file.display(),
                key_file.display()
            );
            fault.invalid(what, "Use a key of the certificate's, in PEM.")
        })
    }

    fn roots(&self, fault: Fault<'_>) -> Result<RootCertStore, StartError> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.config.ca_file {
            for certificate in certificates(file, "the certificate authorities", fault)? {
                roots.add(certificate).map_err(|error| {
                    let what = format!("{} holds an unusable authority: {error}", file.display());
                    fault.invalid(what, "Use a PEM file of X.509 certificates.")
                })?;
            }
            return Ok(roots);
        }
        if !self.needed {
            return Ok(roots);
        }
        let bundle = system_bundle().ok_or_else(|| {
            fault.invalid(
                "this system has no bundle of certificate authorities",
                "Install ca-certificates, or name a PEM file in `tls.ca_file`.",
            )
        })?;
        // One odd authority among a system's hundred is no reason to trust none.
        roots.add_parsable_certificates(certificates(
            &bundle,
            "the system's certificate authorities",
            fault,
        )?);
        Ok(roots)
    }
}

/// `SSL_CERT_FILE`, as OpenSSL reads it, or the first that is there.
fn system_bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from)).find(|path| path.is_file())
}

fn certificates(
    file: &Path,
    what: &'static str,
    fault: Fault<'_>,
) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
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
