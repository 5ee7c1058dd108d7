//! Which way to the server: directly, or through a proxy. HTTP proxies only; no SOCKS, no PAC files.

use hyper::{Uri, header::HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;

use super::Fault;
use crate::deliver::StartError;

/// The way to the server.
#[derive(Clone)]
pub(super) enum Route {
    Direct,
    /// Requests in absolute form to the proxy (for `http://` servers).
    Forward(Proxy),
    /// A CONNECT tunnel through the proxy (for `https://` servers).
    Tunnel(Proxy),
}

/// An HTTP proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Without credentials.
    pub(super) uri: Uri,
    /// For `Proxy-Authorization`; sensitive.
    pub(super) auth: Option<HeaderValue>,
}

/// The proxy variables of the environment.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) http: String,
    pub(super) https: String,
    pub(super) no: String,
}

impl Environment {
    /// Lower case first, as curl does.
    pub(super) fn of_process() -> Self {
        let get = |names: [&str; 2]| {
            names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
        };
        Self {
            http: get(["http_proxy", "HTTP_PROXY"]),
            https: get(["https_proxy", "HTTPS_PROXY"]),
            no: get(["no_proxy", "NO_PROXY"]),
        }
    }
}

/// Chooses the way to `url`. A configured proxy is used for every host; the environment is asked
/// only without one.
pub(super) fn route(
    url: &Uri,
    configured: &str,
    environment: Environment,
    fault: Fault<'_>,
) -> Result<Route, StartError> {
    let (name, setting, matcher) = if configured.is_empty() {
        let Environment { http, https, no } = environment;
        let tls = url.scheme_str() == Some("https");
        let (name, setting) = if tls { ("HTTPS_PROXY", https) } else { ("HTTP_PROXY", http) };
        let matcher = Matcher::builder().all(setting.clone()).no(no).build();
        (name, setting, matcher)
    } else {
        let matcher = Matcher::builder().all(configured.to_owned()).build();
        ("`proxy`", configured.to_owned(), matcher)
    };
    // The setting may hold a password: it is never repeated.
    let advice = "Write it like http://proxy.example.com:3128.";
    let Some(intercept) = matcher.intercept(url) else {
        // Excepted by NO_PROXY, not set, or not legible.
        let legible = Matcher::builder().all(setting.clone()).build().intercept(url).is_some();
        if setting.is_empty() || legible {
            return Ok(Route::Direct);
        }
        return Err(fault.invalid(format!("{name} is not a URL"), advice));
    };
    if intercept.uri().scheme_str() != Some("http") {
        return Err(fault.invalid(format!("{name} is not an http:// proxy"), advice));
    }
    let mut auth = intercept.basic_auth().cloned();
    if let Some(auth) = &mut auth {
        auth.set_sensitive(true);
    }
    let proxy = Proxy { uri: intercept.uri().clone(), auth };
    Ok(match url.scheme_str() {
        Some("https") => Route::Tunnel(proxy),
        _ => Route::Forward(proxy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, configured: &str, environment: Environment) -> String {
        let url = url.parse().unwrap();
        let show = |kind: &str, proxy: Proxy| {
            let auth = proxy.auth.map(|auth| auth.to_str().unwrap().to_owned());
            format!("{kind} {} {}", proxy.uri, auth.unwrap_or_default())
        };
        match route(&url, configured, environment, Fault { sink: "h" }) {
            Ok(Route::Direct) => "direct".into(),
            Ok(Route::Forward(proxy)) => show("forward", proxy),
            Ok(Route::Tunnel(proxy)) => show("tunnel", proxy),
            Err(error) => error.to_string(),
        }
    }

    fn environment() -> Environment {
        Environment {
            http: "http://plain:1".into(),
            https: "secure:2".into(),
            no: "localhost, 10.0.0.0/8, .internal".into(),
        }
    }

    #[test]
    fn the_environment_is_respected() {
        let via = |url| chosen(url, "", environment());
        assert_eq!(via("http://a.example/x"), "forward http://plain:1/ ");
        assert_eq!(via("https://a.example/x"), "tunnel http://secure:2/ ");
        for direct in ["http://localhost:9/", "https://10.1.2.3/", "https://logs.internal/"] {
            assert_eq!(via(direct), "direct");
        }
        assert_eq!(chosen("http://a.example/", "", Environment::default()), "direct");
    }

    #[test]
    fn a_configured_proxy_wins_and_keeps_its_password_to_itself() {
        let said = chosen("https://localhost/", "http://me:p%40ss@proxy:3128", environment());
        assert_eq!(said, "tunnel http://proxy:3128/ Basic bWU6cEBzcw==");
        for wrong in
            ["socks5://me:p%40ss@proxy:1", "https://me:p%40ss@proxy:1", "http://me:p%40ss@"]
        {
            let said = chosen("https://localhost/", wrong, environment());
            assert!(said.contains("proxy.example.com") && !said.contains("p%40ss"), "{said}");
        }
    }
}
