//! Each sink: whether it would start, and whether its server can be reached.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::Finding;
use crate::{
    config::{self, Config},
    supervisor::preflight::{self, SinkCheck},
};

/// For a server to take a connection.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn findings(config: &Config) -> io::Result<Vec<Finding>> {
    let checked = preflight::check(config)?;
    Ok(checked.sinks.into_iter().map(|sink| finding(config, sink)).collect())
}

fn finding(config: &Config, sink: SinkCheck) -> Finding {
    let SinkCheck { name, refusal, waits } = sink;
    let kind = config.sinks.get(&name);
    let name = format!("sink.{name}");
    if let Some(refusal) = refusal {
        return Finding::problem(name, refusal, "Mend that; the agent does not start before.");
    }
    if let Some(waits) = waits {
        let advice =
            "Mend that: the sink waits for it, and what is rotated away meanwhile is lost.";
        return Finding::problem(name, waits, advice);
    }
    match kind {
        Some(config::Sink::Http(http)) if http.proxy.get().is_none() && proxied() => Finding::ok(
            name,
            "What it needs is there; the environment names a proxy, which was not tried.",
        ),
        Some(config::Sink::Http(http)) => match reach(http) {
            Ok(server) => Finding::ok(name, format!("{server} takes connections.")),
            Err((server, error)) => Finding::problem(
                name,
                format!("{server} cannot be reached: {error}."),
                "Check that it runs and can be reached from this node; deliveries wait for it.",
            ),
        },
        _ => Finding::ok(name, "What it needs is there."),
    }
}

/// Whether the environment may send deliveries through a proxy.
fn proxied() -> bool {
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Opens a connection to the server, or to its proxy; nothing is sent.
fn reach(http: &config::Http) -> Result<String, (String, io::Error)> {
    let uri = http.proxy.get().map_or(http.url.uri(), |(proxy, _)| proxy);
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if http.url.is_https() && http.proxy.get().is_none() {
        443
    } else {
        80
    });
    let server = format!("{host}:{port}");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connect = || {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (bare, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(_connection) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match connect() {
        Ok(()) => Ok(server),
        Err(error) => Err((server, error)),
    }
}
