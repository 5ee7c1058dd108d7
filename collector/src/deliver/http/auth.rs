//! Credentials: basic, bearer or a header of one's own, the secret from a file. The file is read
//! again when a delivery fails, so a rotated token needs no restart. Nothing here prints a secret.

use std::{fs, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};

use super::Fault;
use crate::{config, deliver::StartError};

/// A secret is a line of text; more is some other file.
const MOST_BYTES: u64 = 64 << 10;

/// How requests are authorised.
pub(super) struct Auth(Option<Loaded>);

struct Loaded {
    header: HeaderName,
    kind: Kind,
    file: PathBuf,
    /// Marked sensitive, so that its Debug is redacted.
    value: ArcSwap<HeaderValue>,
}

enum Kind {
    Basic { user: String },
    Bearer,
    Header,
}

impl Auth {
    pub(super) fn load(config: &config::Auth, fault: Fault<'_>) -> Result<Self, StartError> {
        let (header, kind, file) = match config.clone() {
            config::Auth::None => return Ok(Self(None)),
            config::Auth::Basic { user, password_file } => {
                (header::AUTHORIZATION, Kind::Basic { user }, password_file)
            }
            config::Auth::Bearer { token_file } => {
                (header::AUTHORIZATION, Kind::Bearer, token_file)
            }
            config::Auth::Header { name, value_file } => (name, Kind::Header, value_file),
        };
        let value = read(&kind, &file).map_err(|unusable| match unusable {
            Unusable::Io(source) => StartError::Unreadable {
                sink: fault.sink.into(),
                what: "the secret",
                path: file.clone(),
                source,
                advice: "Create the file, readable by the agent's user.",
            },
            Unusable::Content(what) => fault.invalid(
                format!("the secret in {} {what}", file.display()),
                "Write the secret alone on one line.",
            ),
        })?;
        let value = ArcSwap::from_pointee(value);
        Ok(Self(Some(Loaded { header, kind, file, value })))
    }

    /// Adds the credentials to a request.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        if let Some(loaded) = &self.0 {
            headers.insert(loaded.header.clone(), HeaderValue::clone(&loaded.value.load()));
        }
    }

    /// Reads the secret again. True: it is another one.
    pub(super) fn reload(&self) -> bool {
        let Some(loaded) = &self.0 else { return false };
        match read(&loaded.kind, &loaded.file) {
            Ok(value) if value != **loaded.value.load() => {
                loaded.value.store(Arc::new(value));
                true
            }
            // Unchanged, or being replaced right now: the refusal itself is reported.
            _ => false,
        }
    }
}

enum Unusable {
    Io(std::io::Error),
    Content(&'static str),
}

fn read(kind: &Kind, file: &PathBuf) -> Result<HeaderValue, Unusable> {
    if fs::metadata(file).map_err(Unusable::Io)?.len() > MOST_BYTES {
        return Err(Unusable::Content("is too long"));
    }
    let bytes = fs::read(file).map_err(Unusable::Io)?;
    let secret = bytes.trim_ascii();
    if secret.is_empty() {
        return Err(Unusable::Content("is empty"));
    }
    if secret.iter().any(u8::is_ascii_control) {
        return Err(Unusable::Content("has a control character inside"));
    }
    let text = match kind {
        Kind::Basic { user } => {
            let pair = [user.as_bytes(), b":", secret].concat();
            format!("Basic {}", STANDARD.encode(pair)).into_bytes()
        }
        Kind::Bearer => [b"Bearer ", secret].concat(),
        Kind::Header => secret.to_vec(),
    };
    let mut value = HeaderValue::from_bytes(&text)
        .map_err(|_holds_the_secret| Unusable::Content("has a control character inside"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Fault<'_> = Fault { sink: "h" };

    fn authorization(auth: &Auth) -> String {
        let mut headers = HeaderMap::new();
        auth.apply(&mut headers);
        assert!(!format!("{headers:?}").contains("open sesame"));
        headers["authorization"].to_str().unwrap().into()
    }

    #[test]
    fn secrets_are_trimmed_and_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), " open sesame\r\n").unwrap();
        let path = file.path().to_owned();
        let user = "Aladdin".to_owned();
        let basic = config::Auth::Basic { user, password_file: path.clone() };
        let basic = Auth::load(&basic, FAULT).unwrap();
        assert_eq!(authorization(&basic), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = config::Auth::Bearer { token_file: path };
        let bearer = Auth::load(&bearer, FAULT).unwrap();
        assert_eq!(authorization(&bearer), "Bearer open sesame");
        assert!(!bearer.reload());
        fs::write(file.path(), "next").unwrap();
        assert!(bearer.reload());
        assert_eq!(authorization(&bearer), "Bearer next");
        fs::write(file.path(), "").unwrap();
        assert!(!bearer.reload());
        assert_eq!(authorization(&bearer), "Bearer next");
    }

    #[test]
    fn what_cannot_work_is_refused_without_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = |token_file: &std::path::Path| {
            let config = config::Auth::Bearer { token_file: token_file.to_owned() };
            match Auth::load(&config, FAULT) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("accepted"),
            }
        };
        assert!(refusal(file.path()).contains("is empty"));
        fs::write(file.path(), "hunter2\nhunter3").unwrap();
        let said = refusal(file.path());
        assert!(said.contains("control character") && !said.contains("hunter"), "{said}");
        assert!(refusal("/nonexistent".as_ref()).contains("Create the file"));
    }
}
