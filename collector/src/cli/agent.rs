//! Where `status` and `audit` get their report: from the running agent, else from the checkpoint
//! that a stopped one left.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    checkpoint,
    config::Config,
    ledger::report::{Report, from_checkpoint},
};

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REPLY: usize = 256 << 20;

/// Which agent to ask.
#[derive(Debug, clap::Args)]
pub struct Agent {
    /// Ask the agent at this address [default: the configuration's admin.listen, and the state
    /// directory's checkpoint if no agent answers there]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
}

/// The agent's report, and a line for people that says where it is from if that is unusual.
pub fn report(args: &Agent, config: &Config) -> anyhow::Result<(Report, Option<String>)> {
    if let Some(address) = args.admin {
        let report =
            ask(address).with_context(|| format!("Could not ask the agent at {address}"))?;
        return Ok((report, None));
    }
    let why = match configured(config).map(|address| (address, ask(address))) {
        Some((_, Ok(report))) => return Ok((report, None)),
        Some((address, Err(error))) => format!("No agent answers at {address} ({error:#})"),
        None => "The configuration has the admin port off".to_owned(),
    };
    let dir = &config.state_dir;
    let report = stored(dir).with_context(|| {
        format!("{why}, and {} has no checkpoint to read instead", dir.display())
    })?;
    let note = format!("{why}. This is what the checkpoint in {} holds.", dir.display());
    Ok((report, Some(note)))
}

/// Where the configured agent listens, as seen from this machine.
fn configured(config: &Config) -> Option<SocketAddr> {
    let mut address: SocketAddr = config.admin.listen.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    config.admin.enabled.then_some(address)
}

fn stored(dir: &Path) -> anyhow::Result<Report> {
    let recovered = checkpoint::Store::read(dir)?;
    if recovered.fresh {
        bail!("no agent has run with this state directory; start one with `everyline run`");
    }
    Ok(from_checkpoint(&recovered.entries, &recovered.totals))
}

fn ask(address: SocketAddr) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, get(address, "/status")).await.context("it took too long")?
    })?;
    serde_json::from_slice(&body).context("what answers there is not this version of everyline")
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let reply = sender.send_request(request).await?;
    if reply.status() != StatusCode::OK {
        bail!("it answered {}", reply.status());
    }
    let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
    connection.abort();
    body.map(|body| body.to_bytes()).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_listens_everywhere_is_asked_here() {
        let at = |text| configured(&Config::parse(text, "t").unwrap()).map(|a| a.to_string());
        assert_eq!(at("").as_deref(), Some("127.0.0.1:9477"));
        assert_eq!(at("admin: {listen: '0.0.0.0:1'}").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(at("admin: {listen: '[::]:1'}").as_deref(), Some("[::1]:1"));
        assert_eq!(at("admin: {enabled: false}"), None);
    }
}
