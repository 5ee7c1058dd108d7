//! Where an `http` sink sends to: a URL and a proxy, parsed once, so that what is checked is what is used.

use std::fmt;

use hyper::{Uri, header::HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A URL to POST to.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    uri: Uri,
}

/// An HTTP proxy, or none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxy(Option<Box<Given>>);

#[derive(Clone, PartialEq, Eq)]
struct Given {
    text: String,
    uri: Uri,
    auth: Option<HeaderValue>,
}

const URL_ADVICE: &str = "write it like https://logs.example.com:8080/ingest";
const PROXY_ADVICE: &str = "write it like http://proxy.example.com:3128";

impl Url {
    /// Parses what somebody wrote; an error says what is wrong and, after a semicolon, what to do. It holds
    /// no password and no query.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: String| {
            format!("`{}` is not a URL to POST to: {what}; {URL_ADVICE}", harmless(text))
        };
        let uri = parse(text, &["http", "https"]).map_err(wrong)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("credentials do not belong there (use auth)".to_owned()));
        }
        Ok(Self { text: text.to_owned(), uri })
    }

    /// For requests.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it begins with `https://`.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

impl Proxy {
    /// Parses what somebody wrote, nothing for none. An error holds neither user nor password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let wrong = |what: &str| format!("this is not a proxy's URL: {what}; {PROXY_ADVICE}");
        let uri = parse(text, &["http"]).map_err(|what| wrong(&what))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("a proxy has no path"));
        }
        // It also takes user and password apart.
        let matcher = Matcher::builder().all(text.to_owned()).build();
        let intercept = matcher.intercept(&Uri::from_static("http://any.example/"));
        let intercept = intercept.ok_or_else(|| wrong("user or password cannot be read"))?;
        let mut auth = intercept.basic_auth().cloned();
        if let Some(auth) = &mut auth {
            auth.set_sensitive(true);
        }
        let uri = intercept.uri().clone();
        Ok(Self(Some(Box::new(Given { text: text.to_owned(), uri, auth }))))
    }

    /// Where it is, without user and password, and what to send it as `Proxy-Authorization`.
    pub fn get(&self) -> Option<(&Uri, Option<&HeaderValue>)> {
        self.0.as_deref().map(|given| (&given.uri, given.auth.as_ref()))
    }
}

/// A URI with one of these schemes, a host and, if any, a port that exists.
fn parse(text: &str, schemes: &[&str]) -> Result<Uri, String> {
    if text.contains('#') {
        return Err("what follows `#` is never sent".to_owned());
    }
    // Schemes are the same in upper case, by the standard.
    let text = match text.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => text.to_owned(),
    };
    let uri: Uri = text.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    if !schemes.contains(&uri.scheme_str().unwrap_or_default()) {
        return Err(format!("it must begin with {}://", schemes.join(":// or ")));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let place = authority.rsplit_once('@').map_or(authority, |(_user, place)| place);
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let name = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    if name.is_empty() {
        return Err("it names no host".to_owned());
    }
    if ServerName::try_from(name).is_err() {
        return Err(format!("`{}` is no name of a host and no address", name.escape_debug()));
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(uri),
        Some(_) => Err(format!(
            "there is no port `{}`, they are 1 to 65535",
            port.unwrap_or_default().escape_debug()
        )),
    }
}

/// The URL without what may be a password or a token.
fn harmless(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://{host}"),
            None => url.to_owned(),
        },
        None => url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned(),
    };
    shown.escape_debug().to_string()
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&harmless(&self.text))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_ref().map_or_else(String::new, |given| harmless(&given.text)))
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_ref().map_or("", |given| &given.text))
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_posted_to() {
        for text in [
            "http://h",
            "HTTPS://logs.example.com/ingest?a=b",
            "http://10.0.0.1:8080/",
            "http://[::1]:9200/x",
            "http://[::1]",
            "https://a_b.svc.cluster.local.:443",
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(url.is_https(), text.to_lowercase().starts_with("https"));
        }
        assert_eq!(Url::parse("http://h:8080/x").unwrap().uri().port_u16(), Some(8080));
    }

    #[test]
    fn urls_that_would_be_taken_for_another_are_refused_without_secrets() {
        for (text, what) in [
            ("http://h:99999/x", "no port `99999`"),
            ("http://h:0/", "no port `0`"),
            ("http://h:/", "no port ``"),
            ("http://h:80a/", "port"),
            ("http://[::1]:99999/", "no port `99999`"),
            ("http://h/x#hunter2", "`#`"),
            ("h:9200", "must begin with"),
            ("/ingest", "must begin with"),
            ("ftp://h", "must begin with http:// or https://"),
            ("http://", ""),
            ("http:///x", ""),
            ("http://:80/", "names no host"),
            ("http://me:hunter2@h/", "credentials"),
            ("http://a..b/", "no name of a host"),
            ("http://-x/", "no name of a host"),
            ("http://h h/", ""),
            ("http://h/?token=hunter2#", "`#`"),
            ("", ""),
        ] {
            let said = Url::parse(text).unwrap_err();
            assert!(said.contains(what) && said.ends_with(URL_ADVICE), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn proxies_keep_their_passwords() {
        assert_eq!(Proxy::parse("").unwrap().get(), None);
        let proxy = Proxy::parse("http://me:p%40ss@proxy:3128").unwrap();
        let (uri, auth) = proxy.get().unwrap();
        assert_eq!(uri.to_string(), "http://proxy:3128/");
        assert_eq!(auth.unwrap().to_str().unwrap(), "Basic bWU6cEBzcw==");
        assert_eq!(format!("{proxy:?}"), "http://proxy:3128");
        for text in [
            "proxy:3128",
            "socks5://me:hunter2@proxy:1",
            "https://me:hunter2@proxy:1",
            "http://me:hunter2@",
            "http://me:hunter2@proxy:70000",
            "http://proxy/hunter2",
        ] {
            let said = Proxy::parse(text).unwrap_err();
            assert!(said.ends_with(PROXY_ADVICE) && !said.contains("hunter2"), "{said}");
        }
    }
}
