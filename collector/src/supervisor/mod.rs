//! The supervisor: starts the data's path, heeds signals, reloads and stops it.
//!
//! The only module that knows every stage. SIGTERM and SIGINT drain, a second one exits at once;
//! SIGHUP reads the configuration again (validate, then swap; the old one stays on error).

mod books;
pub mod pipeline;
mod recovery;
pub mod registry;
pub mod report;
pub mod settle;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    admin,
    checkpoint::{LockError, StateLock, StoreError},
    config::{Config, ConfigError},
    deliver,
    discover::{Discovery, OwnOutputs},
    metrics::Metrics,
};

/// How often the main loop shows that it lives.
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

/// What a signal asks for.
enum Request {
    Stop,
    Reload,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// As [`RunError`] says; what can be waited out (a sink that is down) is not an error.
pub fn run(config: Config, path: Option<PathBuf>) -> Result<ExitCode, RunError> {
    let _lock = StateLock::acquire(&config.state_dir)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One: it only moves compressed bytes and waits; a second one costs a wake-up more a batch.
        .worker_threads(1)
        .thread_name("everyline-net")
        .enable_all()
        .build()
        .map_err(RunError::Start)?;
    let mut requests = listen_for_signals(&runtime)?;
    let metrics = Arc::new(Metrics::new());
    metrics.config_last_reload_success.set(1);
    let health = Arc::new(admin::Health::new());
    let mut config = config;
    let mut adopted = Vec::new();
    loop {
        let running = pipeline::Pipeline::start(&config, &runtime, &metrics, adopted)?;
        let admin = start_admin(&config, &runtime, &metrics, &running, &health);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), state_dir = %config.state_dir.display(), "Everyline runs.");
        let pulse = Pulse { requests: &mut requests, health: &health, running: &running };
        let next = wait(&runtime, pulse, &config, path.as_ref(), &metrics);
        if let Some(admin) = admin {
            admin.stop(&runtime);
        }
        let stopped = running.stop(&runtime, config.drain_timeout.0);
        match next {
            Some(reloaded) => {
                config = reloaded;
                adopted = stopped.files;
                tracing::info!("The configuration was reloaded.");
            }
            None => {
                runtime.shutdown_timeout(Duration::from_millis(200));
                let code = if stopped.drained { ExitCode::SUCCESS } else { ExitCode::FAILURE };
                tracing::info!(drained = stopped.drained, "Everyline has stopped.");
                return Ok(code);
            }
        }
    }
}

/// What the main loop looks after while it waits.
struct Pulse<'a> {
    requests: &'a mut mpsc::UnboundedReceiver<Request>,
    health: &'a admin::Health,
    running: &'a pipeline::Pipeline,
}

/// Shows that the agent lives, and whether its first look for logs is done.
async fn pulse_until_request(
    requests: &mut mpsc::UnboundedReceiver<Request>,
    health: &admin::Health,
    running: &pipeline::Pipeline,
) -> Option<Request> {
    let mut beat = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            request = requests.recv() => return request,
            _ = beat.tick() => {
                health.tick();
                health.set_ready(running.ready.load(Ordering::Acquire));
            }
        }
    }
}

/// Waits until the agent must stop (None) or goes on with another configuration.
fn wait(
    runtime: &Runtime,
    pulse: Pulse<'_>,
    config: &Config,
    path: Option<&PathBuf>,
    metrics: &Metrics,
) -> Option<Config> {
    loop {
        match runtime.block_on(pulse_until_request(pulse.requests, pulse.health, pulse.running)) {
            Some(Request::Reload) => match reload(config, path, runtime) {
                Ok(new) => {
                    metrics.config_last_reload_success.set(1);
                    return Some(new);
                }
                Err(why) => {
                    metrics.config_last_reload_success.set(0);
                    tracing::error!("The configuration was not reloaded, the old one stays: {why}");
                }
            },
            Some(Request::Stop) | None => return None,
        }
    }
}

fn reload(old: &Config, path: Option<&PathBuf>, runtime: &Runtime) -> Result<Config, String> {
    let loaded =
        Config::load(path.map(PathBuf::as_path)).map_err(|error: ConfigError| error.to_string())?;
    let new = loaded.config;
    if new.state_dir != old.state_dir {
        return Err("state_dir cannot change while the agent runs; restart it".to_owned());
    }
    // What would end the next pipeline as it starts must not end this one.
    for (name, sink) in &new.sinks {
        deliver::check(sink, name, runtime.handle()).map_err(|error| error.to_string())?;
    }
    Discovery::new(&new, &OwnOutputs::detect(&new)).map_err(|error| error.to_string())?;
    Ok(new)
}

/// Turns signals into requests; a second request to stop ends the process at once.
fn listen_for_signals(runtime: &Runtime) -> Result<mpsc::UnboundedReceiver<Request>, RunError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let _guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Start)?;
    runtime.spawn(async move {
        let mut stopping = false;
        loop {
            let request = tokio::select! {
                _ = terminate.recv() => Request::Stop,
                _ = interrupt.recv() => Request::Stop,
                _ = hang_up.recv() => Request::Reload,
            };
            if matches!(request, Request::Stop) {
                if stopping {
                    tracing::warn!("Asked to stop a second time: exiting at once. What is not acknowledged is sent again at the next start.");
                    std::process::exit(1);
                }
                stopping = true;
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The admin port's task.
struct AdminTask {
    shutdown: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl AdminTask {
    fn stop(self, runtime: &Runtime) {
        let _gone = self.shutdown.send(true);
        self.task.abort();
        let _aborted = runtime.block_on(self.task);
    }
}

/// Listens on the admin port; a busy port is said, tried again, and does not stop collection.
fn start_admin(
    config: &Config,
    runtime: &Runtime,
    metrics: &Arc<Metrics>,
    running: &pipeline::Pipeline,
    health: &Arc<admin::Health>,
) -> Option<AdminTask> {
    if !config.admin.enabled {
        return None;
    }
    let (shutdown, stopped) = tokio::sync::watch::channel(false);
    let state = Arc::new(report::admin_state(config, metrics, running, health));
    let task = runtime.spawn(admin::listen(config.admin.listen.clone(), state, stopped));
    Some(AdminTask { shutdown, task })
}

/// Every collected file is held open: as many as the system allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "The limit on open files could not be raised.");
    }
}
