//! Asks an agent's admin port for its report. It believes nothing: whoever asks compares the identity
//! in the reply ([`Report::agent`]) with the one that it means.

use std::{io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

use crate::ledger::report::Report;

const MAX_REPLY: usize = 256 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for us.
    #[error("{0}")]
    Connect(#[from] io::Error),
    /// It took too long.
    #[error("it took longer than {0:?}")]
    Timeout(Duration),
    /// It speaks no HTTP, or the reply broke off.
    #[error("{0}")]
    Http(String),
    /// It has no report.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The reply is no report.
    #[error("what answers there is not this version of everyline ({0})")]
    NoReport(#[from] serde_json::Error),
}

/// The report of the agent that listens at `address`.
///
/// # Errors
/// As [`AskError`] says.
pub async fn report(address: SocketAddr, timeout: Duration) -> Result<Report, AskError> {
    let body = time::timeout(timeout, get(address, "/status"));
    let body = body.await.map_err(|_elapsed| AskError::Timeout(timeout))??;
    Ok(serde_json::from_slice(&body)?)
}

async fn get(address: SocketAddr, path: &str) -> Result<Bytes, AskError> {
    let http = |error: hyper::Error| AskError::Http(error.to_string());
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Http(error.to_string()))?;
    let reply = sender.send_request(request).await.map_err(http)?;
    if reply.status() != StatusCode::OK {
        return Err(AskError::Status(reply.status()));
    }
    let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
    connection.abort();
    body.map(|body| body.to_bytes()).map_err(|error| AskError::Http(error.to_string()))
}
