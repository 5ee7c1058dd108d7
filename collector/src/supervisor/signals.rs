//! Signals, as requests: SIGTERM and SIGINT stop, a second time at once; SIGHUP reloads.
//!
//! One wish to stop often arrives as several signals: `timeout` sends SIGTERM to its child and to its process
//! group, and a terminal's SIGINT goes to the agent and to the wrapper that passes it on. So what comes
//! within a second after the first is the same wish.

use std::time::{Duration, Instant};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::RunError;

/// Signals to stop that come so soon after the first are the same wish.
const ONE_WISH: Duration = Duration::from_secs(1);

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Stop,
    Reload,
}

/// Turns signals into requests from now on; a second wish to stop ends the process at once.
pub(super) fn listen(runtime: &Runtime) -> Result<mpsc::UnboundedReceiver<Request>, RunError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let _guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Start)?;
    runtime.spawn(async move {
        let mut wish = StopWish::default();
        loop {
            let request = tokio::select! {
                _ = terminate.recv() => Request::Stop,
                _ = interrupt.recv() => Request::Stop,
                _ = hang_up.recv() => Request::Reload,
            };
            if request == Request::Stop {
                match wish.signal(Instant::now()) {
                    Wished::First => tracing::info!("Asked to stop: what is there is still delivered, for at most drain_timeout. Asked again after a second, the agent exits at once."),
                    Wished::Already => continue,
                    Wished::Again => {
                        tracing::warn!("Asked to stop a second time: exiting at once. What is not acknowledged is sent again at the next start.");
                        std::process::exit(1);
                    }
                }
            }
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// When it was first wished that the agent stops.
#[derive(Debug, Default)]
struct StopWish(Option<Instant>);

/// What a signal to stop means.
#[derive(Debug, PartialEq, Eq)]
enum Wished {
    First,
    /// It belongs to the first.
    Already,
    Again,
}

impl StopWish {
    fn signal(&mut self, now: Instant) -> Wished {
        match self.0 {
            None => {
                self.0 = Some(now);
                Wished::First
            }
            Some(first) if now.duration_since(first) < ONE_WISH => Wished::Already,
            Some(_) => Wished::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_within_a_second_of_the_first_are_one_wish() {
        let begin = Instant::now();
        let mut wish = StopWish::default();
        let mut after = |ms| wish.signal(begin + Duration::from_millis(ms));
        assert_eq!(after(0), Wished::First);
        assert_eq!(after(0), Wished::Already);
        assert_eq!(after(600), Wished::Already);
        assert_eq!(after(999), Wished::Already);
        // Counted from the first: whoever goes on asking is heard.
        assert_eq!(after(1_001), Wished::Again);
    }
}
