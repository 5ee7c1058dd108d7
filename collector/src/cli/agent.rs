//! Where `status` and `audit` get their report: from the running agent, else from the checkpoint
//! that a stopped one left. Who answers at the configured address must be the configured agent.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};

use crate::{
    admin, causes, checkpoint,
    config::Config,
    ledger::report::{AgentIdentity, Report, from_checkpoint},
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Which agent to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Agent {
    /// Ask the agent at this address, whichever it is [default: the configuration's admin.listen,
    /// where the agent with the configuration's state directory must answer, and that directory's
    /// checkpoint if nobody does]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
}

/// The agent's report, and a line for people that says where it is from if that is unusual.
pub(super) fn report(args: &Agent, config: &Config) -> anyhow::Result<(Report, Option<String>)> {
    if let Some(address) = args.admin {
        let report =
            ask(address).with_context(|| format!("Could not ask the agent at {address}"))?;
        return Ok((report, None));
    }
    let why = match configured(config).map(|address| (address, ask(address))) {
        Some((address, Ok(report))) => {
            check(&report, address, config)?;
            return Ok((report, None));
        }
        Some((address, Err(error))) => {
            format!("No agent answers at {address} ({})", causes::told(error.as_ref()))
        }
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
    config.admin.enabled.then(|| admin::reachable(config.admin.listen.0))
}

fn stored(dir: &Path) -> anyhow::Result<Report> {
    let recovered = checkpoint::Store::read(dir)?;
    if recovered.fresh {
        bail!("no agent has run with this state directory; start one with `everyline run`");
    }
    Ok(from_checkpoint(&recovered.entries, &recovered.totals))
}

/// Whether who answered has the state directory of this configuration.
fn check(report: &Report, address: SocketAddr, config: &Config) -> anyhow::Result<()> {
    let dir = &config.state_dir;
    let ours = AgentIdentity::of(dir);
    let who = match (&report.agent, &ours) {
        (Some(agent), Ok(ours)) if agent.shares_state_with(ours) => return Ok(()),
        (Some(agent), _) => format!("is {agent} on the node {:?}", report.node),
        (None, _) => "does not say which agent it is (another version?)".to_owned(),
    };
    let meant = match ours {
        Ok(_) => dir.display().to_string(),
        Err(error) => format!("{} ({error})", dir.display()),
    };
    bail!(
        "What answers at {address} {who}, but the configuration in hand has the state directory \
         {meant}. Name the configuration of the agent that you mean (--config FILE), or its address \
         (--admin {address} asks this one). If both run on this machine, give each an admin.listen of \
         its own."
    )
}

fn ask(address: SocketAddr) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(admin::ask::report(address, TIMEOUT))?)
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
