//! `cargo xtask e2e kubernetes`: the manifest as it is delivered, on a node with a real kubelet and a real
//! container runtime, without a registry.
//!
//! Pods print numbered lines faster than kubelet keeps them for long; meanwhile the DaemonSet is rolled, killed,
//! deleted by force, taken away and brought back. In the end every line is in the archive once, or was
//! lost and stated. What was printed is known from the writers themselves, not from their logs.

mod inside;
mod judge;
mod manifest;
mod node;
mod parts;
mod settings;
mod told;
mod trial;
mod verdict;
mod workload;

use std::time::Instant;

use anyhow::{Context, Result, ensure};

pub(super) use self::inside::Args as Inside;
use self::{
    judge::{judge, lines},
    manifest::manifest,
    node::Node,
    parts::Parts,
    told::Told,
    trial::{CAUGHT_UP, NAMESPACE, Trial},
    verdict::Table,
};
use super::{
    image::{self, Image},
    step,
};
use crate::process::Scratch;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Five seconds of quiet before the last roll instead of five minutes
    #[arg(long)]
    quick: bool,
    /// Megabytes a second that the pods print together
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
}

/// As the manifest calls it, and as the runtime does.
const IMAGE: &str = "docker.io/library/everyline:0.1.0";

/// Does it; an error if a line was lost that is not stated, or doubled.
pub(super) fn run(args: &Args) -> Result<()> {
    let root = rustix::process::getuid().is_root();
    ensure!(root, "A node needs namespaces and control groups: run this as root.");
    step("Building a node (Kubernetes from source the first time), the agent and the writers.");
    let parts = Parts::get()?;
    let scratch = Scratch::new("e2e-kubernetes")?;
    let begun = Instant::now();
    let done = show(args, &parts, &scratch);
    println!("    {:.0} s in all", begun.elapsed().as_secs_f64());
    done
}

/// Is the node, in namespaces of its own.
pub(super) fn inside(args: &Inside) -> Result<()> {
    inside::enter(args)
}

fn show(args: &Args, parts: &Parts, scratch: &Scratch) -> Result<()> {
    step("Starting the node.");
    let mut node = Node::start(scratch, parts)?;
    import(&mut node, scratch, parts)?;
    node.ready()?;
    let told = Told::follow(&node.settings.path("varlog/pods"), NAMESPACE);
    let mut trial = Trial { node, begun: Instant::now() };
    step("kubectl apply: the manifest; only the archive's bound is another.");
    trial.node.apply(&manifest("")?)?;
    trial.rolled()?;
    trial.happens(args)?;
    let (audit, settled) = trial.caught_up()?;
    trial.remove()?;
    let lines = lines(&trial.node, parts, &told)?;
    let table = Table(lines.0);
    judge(&table, &lines.1, &audit).with_context(|| {
        let said = told.said();
        said[said.len().saturating_sub(30)..].join("\n")
    })?;
    ensure!(settled, "After {CAUGHT_UP:?} there were still bytes unread or in flight.");
    Ok(())
}

fn import(node: &mut Node<'_>, scratch: &Scratch, parts: &Parts) -> Result<()> {
    let writer = Image {
        tag: settings::WRITER_IMAGE,
        programs: &[(&parts.podlog, "podlog")],
        applets: &[],
        entrypoint: &[],
        command: &["/podlog", "pause"],
    };
    let agent = Image {
        tag: IMAGE,
        programs: &[(&parts.everyline, "everyline")],
        applets: &[],
        entrypoint: &["/everyline"],
        command: &["run"],
    };
    for (dir, image) in [("image-writer", writer), ("image-agent", agent)] {
        let archive = image::build(&scratch.directory(dir)?, &image)?;
        node.import(&archive)?;
    }
    Ok(())
}
