//! The thread that the admin port lives on: what is asked of it takes no time from deliveries, and they
//! take none from a probe.

use std::{io, net::SocketAddr, thread::JoinHandle, time::Duration};

use tokio::{runtime::Builder, sync::watch};

use super::{State, listen::listen};

/// Large answers that are made at once; further ones wait for their turn.
const MAKERS: usize = 2;
/// For what is being made when the port is closed.
const GRACE: Duration = Duration::from_millis(200);

/// The admin port, open or about to be opened.
#[derive(Debug)]
pub struct Port {
    shutdown: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Port {
    /// Opens the port, however long that takes; this does not wait for it.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn open(address: SocketAddr, state: State) -> io::Result<Self> {
        let (shutdown, stopped) = watch::channel(false);
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(MAKERS).build()?;
        let thread =
            std::thread::Builder::new().name("everyline-admin".to_owned()).spawn(move || {
                runtime.block_on(listen(address, state, stopped));
                runtime.shutdown_timeout(GRACE);
            })?;
        Ok(Self { shutdown, thread })
    }

    /// Closes it. What is being sent may be cut off.
    pub fn close(self) {
        let _gone = self.shutdown.send(true);
        if self.thread.join().is_err() {
            tracing::debug!("The admin port's thread had failed.");
        }
    }
}
