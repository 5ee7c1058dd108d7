//! Which way to the server: directly, or through a proxy. HTTP proxies only; no SOCKS, no PAC files.

use hyper::{Uri, header::HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;

use super::Fault;
use crate::{config, deliver::StartError};

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
    url: &config::Url,
    configured: &config::Proxy,
    environment: Environment,
    fault: Fault<'_>,
) -> Result<Route, StartError> {
    let of_environment;
    let proxy = match configured.get() {
        Some(_) => configured,
        None => match environment.proxy(url, fault)? {
            Some(proxy) => {
                of_environment = proxy;
                &of_environment
            }
            None => return Ok(Route::Direct),
        },
    };
    let Some((uri, auth)) = proxy.get() else { return Ok(Route::Direct) };
    let proxy = Proxy { uri: uri.clone(), auth: auth.cloned() };
    Ok(if url.is_https() { Route::Tunnel(proxy) } else { Route::Forward(proxy) })
}

impl Environment {
    /// The proxy for `url`; none where none is set, or `NO_PROXY` excepts the host.
    fn proxy(
        self,
        url: &config::Url,
        fault: Fault<'_>,
    ) -> Result<Option<config::Proxy>, StartError> {
        let Self { http, https, no } = self;
        let (name, setting) =
            if url.is_https() { ("HTTPS_PROXY", https) } else { ("HTTP_PROXY", http) };
        if setting.is_empty() {
            return Ok(None);
        }
        // Often written without.
        let setting = match setting.contains("://") {
            true => setting,
            false => format!("http://{setting}"),
        };
        // The setting may hold a password: it is never repeated.
        let proxy = config::Proxy::parse(&setting).map_err(|wrong| {
            let (what, todo) = wrong.split_once("; ").unwrap_or((&wrong, ""));
            fault.invalid(
                format!("the environment's {name} cannot be used: {what}"),
                format!("{}.", capitalised(todo)),
            )
        })?;
        let matcher = Matcher::builder().all(setting).no(no).build();
        Ok(matcher.intercept(url.uri()).map(|_| proxy))
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, configured: &str, environment: Environment) -> String {
        let url = config::Url::parse(url).unwrap();
        let configured = config::Proxy::parse(configured).unwrap();
        let show = |kind: &str, proxy: Proxy| {
            let auth = proxy.auth.map(|auth| auth.to_str().unwrap().to_owned());
            format!("{kind} {} {}", proxy.uri, auth.unwrap_or_default())
        };
        match route(&url, &configured, environment, Fault { sink: "h" }) {
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
    }

    #[test]
    fn what_the_environment_has_wrong_is_said_without_its_password() {
        for wrong in
            ["socks5://me:p%40ss@proxy:1", "https://me:p%40ss@proxy:1", "me:p%40ss@proxy:99999"]
        {
            let environment = Environment { https: wrong.into(), ..Environment::default() };
            let said = chosen("https://h.example/", "", environment);
            assert!(said.contains("HTTPS_PROXY") && said.contains("proxy.example.com"), "{said}");
            assert!(!said.contains("p%40ss"), "{said}");
        }
    }
}
