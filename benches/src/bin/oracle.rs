//! `oracle`: says what became of every line that `loadgen` wrote.
//!
//! `serve` is an HTTP sink that fails on a seed; `verify` reads records from files. Both print a
//! JSON report and end with exit code 1 if anything is wrong.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use benches::{
    loadgen::Manifest,
    oracle::{Faults, Limits, Oracle, Report, Server, serve, verify_files},
};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[derive(Debug, Parser)]
#[command(version, about)]
enum Command {
    /// Receive deliveries until SIGTERM or SIGINT, then report.
    Serve(Serve),
    /// Check records in files.
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address and port; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What was written; read when a report is asked for.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// What arrived so many seconds before a kill may come again after it.
    #[arg(long, default_value_t = 3)]
    kill_window: u64,
    #[command(flatten)]
    faults: Faults,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// NDJSON, plain, zstd or gzip; in the order written.
    #[arg(long, num_args = 1.., required = true)]
    ndjson: Vec<PathBuf>,
    /// What was written.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Report writer by writer too.
    #[arg(long, requires = "manifest")]
    each: bool,
}

fn main() -> Result<ExitCode> {
    let report = match Command::parse() {
        Command::Serve(options) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options))
        }
        Command::Verify(options) => check(&options),
    }?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    eprintln!("{}", report.summary());
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(options: Serve) -> Result<Report> {
    let window = Duration::from_secs(options.kill_window);
    let oracle = Oracle::new(Limits { kill_window: window, ..Limits::default() });
    let server = Server::new(oracle, options.faults, options.manifest);
    let what = || format!("Listening on {}", options.listen);
    let listener = TcpListener::bind(options.listen).await.with_context(what)?;
    eprintln!("Listening on http://{}.", listener.local_addr()?);
    let serving = tokio::spawn(serve(listener, server.clone()));
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! { _ = term.recv() => {}, done = tokio::signal::ctrl_c() => done? }
    serving.abort();
    Ok(server.report())
}

fn check(options: &Verify) -> Result<Report> {
    let mut oracle = Oracle::new(Limits::default());
    verify_files(&mut oracle, &options.ndjson)?;
    let manifest = match &options.manifest {
        Some(path) => {
            let what = || format!("Reading the manifest {}", path.display());
            Some(Manifest::load(path).with_context(what)?)
        }
        None => None,
    };
    let mut report = oracle.report(manifest.as_ref());
    if let (true, Some(manifest)) = (options.each, &manifest) {
        report.writers = oracle.each(manifest);
    }
    Ok(report)
}
