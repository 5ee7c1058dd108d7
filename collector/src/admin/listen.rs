//! Opens the admin port, however long that takes, and serves.
//!
//! A port that somebody else has does not stop collection, but it is an error: `status` and `audit` would ask
//! the other one. So it is said who that is, and tried again.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::watch, time};

use super::{State, ask, serve};

/// How often a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(3);
/// For whoever has the port to say who it is.
const ASK: Duration = Duration::from_secs(2);

/// Serves at `address` until `shutdown` holds true.
pub(super) async fn listen(address: SocketAddr, state: State, mut shutdown: watch::Receiver<bool>) {
    let listener = tokio::select! {
        listener = bind(address) => listener,
        _ = shutdown.wait_for(|stop| *stop) => return,
    };
    serve(listener, state, shutdown).await;
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut said = String::new();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if !said.is_empty() {
                    tracing::info!(%address, "The admin port is open now.");
                }
                return listener;
            }
            Err(error) => {
                let why = why(address, &error).await;
                if said != why {
                    tracing::error!(%address, %error, "The admin port cannot be opened: {why}. There are no metrics, health and status until it can, which is tried every {RETRY:?}. Set admin.listen to a free address.");
                    said = why;
                }
            }
        }
        time::sleep(RETRY).await;
    }
}

/// Why the port cannot be had; of a taken one, by whom.
async fn why(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return "the system refuses it".to_owned();
    }
    match ask::report(super::reachable(address), ASK).await.map(|report| report.agent) {
        Ok(Some(agent)) => format!("another everyline has it, {agent}"),
        Ok(None) => "an everyline of another version has it".to_owned(),
        Err(_not_ours) => "another program has it".to_owned(),
    }
}
