//! Under which names the port answers.
//!
//! A page in somebody's browser can have its own name lead to this port (DNS rebinding) and would then read
//! the answers as its own. The browser says that name in `Host`, so a name that is not known to be this
//! machine's is refused. An address cannot be led elsewhere: requests to one are answered.

use std::{collections::BTreeSet, net::Ipv4Addr, net::Ipv6Addr};

use hyper::{Request, header};

use crate::config::Config;

/// The names that the port answers under.
#[derive(Debug, Default)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// This machine's names, and those that `admin.hosts` lists.
    pub fn new(config: &Config) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let own = [machine, config.resolved_node_name()];
        let listed = config.admin.hosts.iter().map(|name| name.as_str().to_owned());
        Self(own.into_iter().map(|name| name.to_ascii_lowercase()).chain(listed).collect())
    }

    /// Whether a request is for this machine, as far as it says.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> bool {
        let named = request.headers().get_all(header::HOST);
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        // HTTP/1.0 knows no `Host`, and no browser leaves it out.
        named.iter().map(header::HeaderValue::as_bytes).chain(authority).all(|it| self.knows(it))
    }

    fn knows(&self, authority: &[u8]) -> bool {
        let Ok(authority) = std::str::from_utf8(authority) else { return false };
        if let Some(rest) = authority.strip_prefix('[') {
            let Some((address, port)) = rest.split_once(']') else { return false };
            return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
        }
        let (name, port) = match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        };
        if !is_port(port) {
            return false;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || self.0.contains(&name)
    }
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_answered_and_others_are_not() {
        let hosts = Hosts(["node-1".into(), "everyline.monitoring.svc".into()].into());
        for host in [
            "127.0.0.1:9477",
            "10.0.0.7",
            "[::1]:9477",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:9477",
            "node-1.",
            "Everyline.Monitoring.svc:80",
        ] {
            assert!(hosts.knows(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "",
            ":80",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost.evil.example",
            "evil.example:9477",
            "node-1:evil",
            "[::1]evil.example",
            "[::1",
            "node-1,evil.example",
            "127.1",
            "2130706433",
        ] {
            assert!(!hosts.knows(host.as_bytes()), "{host}");
        }
        assert!(!hosts.knows(b"node-1\xff"));
    }

    #[test]
    fn every_name_that_a_request_gives_counts() {
        let hosts = Hosts::default();
        let request = |uri: &str, names: &[&str]| {
            let mut request = Request::get(uri);
            for name in names {
                request = request.header(header::HOST, *name);
            }
            hosts.admit(&request.body(()).unwrap())
        };
        assert!(request("/status", &[]));
        assert!(request("/status", &["127.0.0.1"]));
        assert!(!request("/status", &["127.0.0.1", "evil.example"]));
        assert!(!request("http://evil.example/status", &["127.0.0.1"]));
        assert!(request("http://127.0.0.1:9477/status", &["localhost"]));
    }
}
