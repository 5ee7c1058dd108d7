//! An HTTP client of a few lines, for the oracle's and the agent's ports on this machine.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The body of the reply to a request without a body; an error unless it is 200.
pub(crate) fn ask(method: &str, address: &str, path: &str) -> Result<String> {
    let what = || format!("{method} http://{address}{path}");
    let mut stream = TcpStream::connect(address).with_context(what)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).with_context(what)?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).with_context(what)?;
    let (head, body) = reply.split_once("\r\n\r\n").with_context(what)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{} answered {head}", what());
    Ok(body.to_owned())
}
