//! The supervisor: starts the data's path, heeds signals, reloads and stops it.
//!
//! The only module that knows every stage. SIGTERM and SIGINT drain, a second one exits at once (`signals`).
//! SIGHUP, or another content of the configuration file, reads the configuration again: it is checked
//! first, and what it wants otherwise is changed while everything else goes on; the old one stays on
//! error.

mod config_file;
mod keeper;
pub(crate) mod kinds;
pub mod pipeline;
pub(crate) mod preflight;
mod reload;
pub mod report;
mod signals;
mod sinks;
mod stop;
mod threads;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    admin,
    checkpoint::{LockError, StateLock, StoreError},
    config::Config,
    deliver, descriptors,
    discover::OwnOutputs,
    metrics::Metrics,
};

use config_file::ConfigFile;
use reload::Kept;
use signals::Request;

/// How often the main loop shows that it lives, and looks whether the configuration file changed.
const PULSE: Duration = Duration::from_millis(500);

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent uses the state directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The checkpoint cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sink's configuration can never work.
    #[error(transparent)]
    Sink(#[from] deliver::StartError),
    /// The sources' configuration can never work.
    #[error("looking for logs cannot start: {0}")]
    Discover(String),
    /// No way to notice changes.
    #[error("watching files cannot start: {0}")]
    Watch(io::Error),
    /// No thread, runtime or signal handler.
    #[error("starting failed: {0}")]
    Start(io::Error),
}

impl RunError {
    fn discover(error: impl std::fmt::Display) -> Self {
        Self::Discover(error.to_string())
    }

    /// The process's exit status: 75 another agent runs, 78 configuration, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Lock(error) => error.exit_code(),
            Self::Sink(_) | Self::Discover(_) => 78,
            Self::Store(_) | Self::Watch(_) | Self::Start(_) => 1,
        }
    }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// As [`RunError`] says; what can be waited out (a sink that is down) is not an error.
pub fn run(config: Config, path: Option<PathBuf>) -> Result<ExitCode, RunError> {
    let _lock = StateLock::acquire(&config.state_dir)?;
    remember_self(&config);
    raise_file_limit(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One: it only moves compressed bytes and waits; a second one costs a wake-up more a batch.
        .worker_threads(1)
        .thread_name("everyline-net")
        .enable_all()
        .build()
        .map_err(RunError::Start)?;
    let requests = signals::listen(&runtime)?;
    let metrics = Arc::new(Metrics::new());
    metrics.config_last_reload_success.set(1);
    let health = Arc::new(admin::Health::new());
    let pipeline = pipeline::Pipeline::start(&config, &runtime, &metrics)?;
    let admin = open_admin(&config, &metrics, &pipeline, &health);
    let sinks = sinks::described(&config);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state_dir = %config.state_dir.display(), sinks, "Everyline runs.");
    let file = ConfigFile::new(path.as_deref());
    let mut agent = Agent { config, path, file, runtime, metrics, health, pipeline, admin };
    agent.attend(requests);
    Ok(agent.stop())
}

/// The agent while it runs.
struct Agent {
    /// What is in force.
    config: Config,
    /// Where it came from.
    path: Option<PathBuf>,
    file: Option<ConfigFile>,
    runtime: Runtime,
    metrics: Arc<Metrics>,
    health: Arc<admin::Health>,
    pipeline: pipeline::Pipeline,
    admin: Option<admin::Port>,
}

impl Agent {
    /// Attends to requests, to the configuration file and to the signs of life, until the agent is
    /// to stop.
    fn attend(&mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        loop {
            let next =
                self.runtime.block_on(async { tokio::time::timeout(PULSE, requests.recv()).await });
            self.health.tick();
            self.pipeline.balance();
            self.health.set_ready(self.pipeline.ready.load(Ordering::Acquire));
            match next {
                Ok(Some(Request::Reload)) => self.reload(),
                Ok(Some(Request::Stop) | None) => return,
                Err(_nothing_asked) => {
                    if self.file.as_mut().is_some_and(ConfigFile::has_changed) {
                        tracing::info!("The configuration file was changed.");
                        self.reload();
                    }
                }
            }
        }
    }

    /// Changes what the configuration file wants otherwise by now; nothing else, and without waiting.
    fn reload(&mut self) {
        if let Some(file) = &mut self.file {
            file.note();
        }
        let path = self.path.as_deref();
        let (next, discovery, kept) = match reload::load(&self.config, path, self.runtime.handle())
        {
            Ok(loaded) => loaded,
            Err(why) => {
                self.metrics.config_last_reload_success.set(0);
                tracing::error!("The configuration was not reloaded, the old one stays: {why}");
                return;
            }
        };
        for Kept { key, old, new } in kept {
            tracing::warn!(
                key,
                old,
                new,
                "This key cannot change while the agent runs and stays as it is; restart the agent to apply it."
            );
        }
        // Outputs are no logs: what a new sink writes is left out too.
        let changed = self.config.sources != next.sources
            || self.config.read.max_unpacked_bytes != next.read.max_unpacked_bytes
            || OwnOutputs::detect(&self.config) != OwnOutputs::detect(&next);
        self.pipeline.reload(&next, changed.then_some(discovery));
        let config = std::mem::replace(&mut self.config, next);
        if config.admin != self.config.admin {
            self.admin.take().into_iter().for_each(admin::Port::close);
            self.admin = open_admin(&self.config, &self.metrics, &self.pipeline, &self.health);
        }
        self.metrics.config_last_reload_success.set(1);
        tracing::info!("The configuration was reloaded.");
    }

    /// Ends everything, within the configured time and some seconds.
    fn stop(mut self) -> ExitCode {
        self.health.set_ready(false);
        let drained = self.pipeline.stop(&self.runtime, self.config.drain_timeout.0);
        self.admin.take().into_iter().for_each(admin::Port::close);
        self.runtime.shutdown_timeout(Duration::from_millis(200));
        tracing::info!(drained, "Everyline has stopped.");
        if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Has the admin port opened, if there is to be one; without it collection goes on.
fn open_admin(
    config: &Config,
    metrics: &Arc<Metrics>,
    running: &pipeline::Pipeline,
    health: &Arc<admin::Health>,
) -> Option<admin::Port> {
    let state = config.admin.enabled.then(|| report::admin_state(config, metrics, running, health));
    let port = admin::Port::open(config.admin.listen.0, state?);
    if let Err(error) = &port {
        tracing::error!(%error, "The admin port has no thread: there are no metrics, health and status.");
    }
    port.ok()
}

/// Says which logs are the agent's own, and remembers it for the agents to come.
fn remember_self(config: &Config) {
    let own = OwnOutputs::detect(config);
    if let Some(own) = own.described() {
        tracing::info!(own, "The agent never collects its own logs.");
    }
    if let Err(error) = own.remember(&config.state_dir) {
        tracing::warn!(%error, state_dir = %config.state_dir.display(), "Which pod or container this is could not be written down: the next agent may collect its log.");
    }
}

/// How many sinks there are by this configuration.
pub(crate) fn sink_count(config: &Config) -> usize {
    sinks::effective_sinks(config).len()
}

/// Log files are held open: as many as the system allows, but for what the agent needs itself.
pub(crate) fn raise_file_limit(config: &Config) {
    if let Err(error) = descriptors::share_out(sink_count(config)) {
        tracing::warn!(%error, "The limit on open files could not be raised.");
    }
}
