//! Who an `http` sink is and whom it trusts, parsed once: one kind of credentials with all that belongs to
//! it. Only names files; what is in them shows when they are read.

use std::path::{Path, PathBuf};

use hyper::header::HeaderName;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::headers;

/// Credentials; secrets come from files, read again when a delivery fails.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "AuthKeys", into = "AuthKeys")]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A user and a password.
    Basic {
        /// The user's name.
        user: String,
        /// A file holding the password.
        password_file: PathBuf,
    },
    /// A token.
    Bearer {
        /// A file holding it.
        token_file: PathBuf,
    },
    /// A header of one's own.
    Header {
        /// Its name.
        name: HeaderName,
        /// A file holding its value.
        value_file: PathBuf,
    },
}

/// The keys under `auth`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthKeys {
    /// Basic: the user's name.
    basic_user: String,
    /// Basic: a file holding the password.
    basic_password_file: Option<PathBuf>,
    /// Bearer: a file holding the token.
    bearer_token_file: Option<PathBuf>,
    /// A header's name …
    header_name: String,
    /// … and a file holding its value.
    header_value_file: Option<PathBuf>,
}

impl Auth {
    /// The key that names the file with the secret, and the file.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        match self {
            Self::None => None,
            Self::Basic { password_file, .. } => Some(("basic_password_file", password_file)),
            Self::Bearer { token_file } => Some(("bearer_token_file", token_file)),
            Self::Header { value_file, .. } => Some(("header_value_file", value_file)),
        }
    }
}

/// An error begins with the key that it is about.
impl TryFrom<AuthKeys> for Auth {
    type Error = String;

    fn try_from(keys: AuthKeys) -> Result<Self, String> {
        let mut chosen = Vec::new();
        match (keys.basic_user, keys.basic_password_file) {
            (user, None) if user.is_empty() => {}
            (user, Some(password_file)) if !user.is_empty() => {
                if user.contains(|c: char| c == ':' || c.is_control()) {
                    return Err(
                        "`basic_user` cannot hold a colon or control characters: the server \
                                would take what follows for the password; take it out"
                            .to_owned(),
                    );
                }
                chosen.push(Self::Basic { user, password_file });
            }
            (user, _) => {
                let present = if user.is_empty() { "basic_password_file" } else { "basic_user" };
                return Err(format!(
                    "`{present}` alone makes incomplete credentials; give both basic_user and \
                     basic_password_file"
                ));
            }
        }
        if let Some(token_file) = keys.bearer_token_file {
            chosen.push(Self::Bearer { token_file });
        }
        match (keys.header_name, keys.header_value_file) {
            (name, None) if name.is_empty() => {}
            (name, Some(value_file)) if !name.is_empty() => {
                let name = headers::parse_name(&name)
                    .map_err(|wrong| format!("`header_name` cannot be this: {wrong}"))?;
                chosen.push(Self::Header { name, value_file });
            }
            (name, _) => {
                let present = if name.is_empty() { "header_value_file" } else { "header_name" };
                return Err(format!(
                    "`{present}` alone makes incomplete credentials; give both header_name and \
                     header_value_file"
                ));
            }
        }
        if chosen.len() > 1 {
            return Err(
                "more than one kind of credentials; keep basic, bearer or header".to_owned()
            );
        }
        Ok(chosen.pop().unwrap_or_default())
    }
}

impl From<Auth> for AuthKeys {
    fn from(auth: Auth) -> Self {
        let none = Self::default();
        match auth {
            Auth::None => none,
            Auth::Basic { user, password_file } => {
                Self { basic_user: user, basic_password_file: Some(password_file), ..none }
            }
            Auth::Bearer { token_file } => Self { bearer_token_file: Some(token_file), ..none },
            Auth::Header { name, value_file } => Self {
                header_name: name.as_str().to_owned(),
                header_value_file: Some(value_file),
                ..none
            },
        }
    }
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "TlsKeys", into = "TlsKeys")]
pub struct Tls {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate.
    pub identity: Option<Identity>,
    /// The name the server's certificate must bear, if not the URL's host.
    pub server_name: Option<ServerName<'static>>,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file of the certificate (chain).
    pub cert_file: PathBuf,
    /// PEM file of its key.
    pub key_file: PathBuf,
}

/// The keys under `tls`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsKeys {
    /// PEM file of the authorities to trust instead of the system's.
    ca_file: Option<PathBuf>,
    /// PEM file of the client certificate (chain).
    cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    key_file: Option<PathBuf>,
    /// The name the server's certificate must bear, if not the URL's host.
    server_name: String,
}

impl Tls {
    /// The files, with the keys that name them.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let identity = self.identity.as_ref();
        let files = [
            ("ca_file", self.ca_file.as_deref()),
            ("cert_file", identity.map(|identity| identity.cert_file.as_path())),
            ("key_file", identity.map(|identity| identity.key_file.as_path())),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file?)))
    }
}

/// An error begins with the key that it is about.
impl TryFrom<TlsKeys> for Tls {
    type Error = String;

    fn try_from(keys: TlsKeys) -> Result<Self, String> {
        let identity = match (keys.cert_file, keys.key_file) {
            (None, None) => None,
            (Some(cert_file), Some(key_file)) => Some(Identity { cert_file, key_file }),
            (Some(_), None) => {
                return Err(
                    "`cert_file` is a client certificate without its key; add key_file, or \
                            leave cert_file out"
                        .to_owned(),
                );
            }
            (None, Some(_)) => {
                return Err(
                    "`key_file` is a key without its client certificate; add cert_file, or \
                            leave key_file out"
                        .to_owned(),
                );
            }
        };
        let name = keys.server_name;
        let server_name = match name.is_empty() {
            true => None,
            false => Some(ServerName::try_from(name.clone()).map_err(|_invalid| {
                format!(
                    "`server_name` cannot be `{}`; give a DNS name or an IP address",
                    name.escape_debug()
                )
            })?),
        };
        Ok(Self { ca_file: keys.ca_file, identity, server_name })
    }
}

impl From<Tls> for TlsKeys {
    fn from(tls: Tls) -> Self {
        let (cert_file, key_file) = match tls.identity {
            Some(Identity { cert_file, key_file }) => (Some(cert_file), Some(key_file)),
            None => (None, None),
        };
        let server_name =
            tls.server_name.map_or_else(String::new, |name| name.to_str().into_owned());
        Self { ca_file: tls.ca_file, cert_file, key_file, server_name }
    }
}
