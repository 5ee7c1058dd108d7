//! A client of the container runtime interface: the kubelet's half of a container's life, in a few
//! calls over the runtime's Unix socket. Blocking; one call at a time.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use tokio::{net::UnixStream, runtime::Runtime};

use super::protobuf::{Message, Value, field};

/// A connection to the runtime.
#[derive(Debug)]
pub(super) struct Cri {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// A pod to be.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    /// Its containers' logs lie here.
    pub(super) log_directory: &'a str,
}

/// A container to be, its log `NAME/0.log` in its pod's directory.
#[derive(Debug)]
pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    pub(super) command: &'a [&'a str],
    /// Host and container paths, mounted read-only.
    pub(super) mounts: &'a [(&'a str, &'a str)],
}

/// `NamespaceMode.NODE`: the host's network, so no network plugin is needed.
const NODE: u64 = 2;
/// `ContainerState.CONTAINER_EXITED`.
const EXITED: u64 = 2;

impl Cri {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let send = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await?;
            let (send, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(connection);
            anyhow::Ok(send)
        });
        let send = send.with_context(|| format!("Connecting to {}", socket.display()))?;
        Ok(Self { runtime, send })
    }

    /// The runtime's version; also tells that it answers.
    pub(super) fn version(&self) -> Result<String> {
        text(&self.call("Version", Message::new())?, 3)
    }

    /// Starts a pod's sandbox; its id.
    pub(super) fn run_pod(&self, pod: &Pod<'_>) -> Result<String> {
        let request = Message::new().message(1, &sandbox(pod));
        text(&self.call("RunPodSandbox", request)?, 1)
    }

    /// Creates and starts a container in a sandbox; its id.
    pub(super) fn run_container(
        &self,
        sandbox_id: &str,
        pod: &Pod<'_>,
        container: &Container<'_>,
    ) -> Result<String> {
        let mut config = Message::new()
            .message(1, &Message::new().text(1, container.name))
            .message(2, &Message::new().text(1, container.image))
            .text(11, &format!("{}/0.log", container.name));
        for word in container.command {
            config = config.text(3, word);
        }
        for (host, inside) in container.mounts {
            let mount = Message::new().text(1, inside).text(2, host).number(3, 1);
            config = config.message(7, &mount);
        }
        let request =
            Message::new().text(1, sandbox_id).message(2, &config).message(3, &sandbox(pod));
        let id = text(&self.call("CreateContainer", request)?, 1)?;
        self.call("StartContainer", Message::new().text(1, &id))?;
        Ok(id)
    }

    /// After its log was renamed: the runtime opens a new one.
    pub(super) fn reopen_log(&self, id: &str) -> Result<()> {
        self.call("ReopenContainerLog", Message::new().text(1, id)).map(drop)
    }

    /// Whether a container has ended.
    pub(super) fn has_exited(&self, id: &str) -> Result<bool> {
        let reply = self.call("ContainerStatus", Message::new().text(1, id))?;
        let Some(Value::Bytes(status)) = field(&reply, 1) else { bail!("{id} has no status") };
        Ok(field(status, 3) == Some(Value::Number(EXITED)))
    }

    /// Stops and removes a sandbox and its containers.
    pub(super) fn remove_pod(&self, sandbox_id: &str) -> Result<()> {
        self.call("StopPodSandbox", Message::new().text(1, sandbox_id))?;
        self.call("RemovePodSandbox", Message::new().text(1, sandbox_id)).map(drop)
    }

    fn call(&self, method: &str, message: Message) -> Result<Vec<u8>> {
        let call = self.exchange(method, message.finish());
        self.runtime.block_on(call).with_context(|| format!("Calling the runtime's {method}"))
    }

    /// One unary gRPC call: a message each way, each behind five bytes of length.
    async fn exchange(&self, method: &str, message: Vec<u8>) -> Result<Vec<u8>> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut send = self.send.clone().ready().await?;
        let (reply, mut body) = send.send_request(request, false)?;
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        framed.extend_from_slice(&message);
        body.send_data(framed.into(), true)?;
        let (head, mut body) = reply.await?.into_parts();
        let mut data = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            data.extend_from_slice(&piece);
        }
        // A call that fails at once has its status in the head.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            bail!("{:?}", trailers.get("grpc-message"));
        }
        ensure!(data.len() >= 5, "the reply is too short");
        Ok(data.split_off(5))
    }
}

fn sandbox(pod: &Pod<'_>) -> Message {
    let metadata = Message::new().text(1, pod.name).text(2, pod.uid).text(3, pod.namespace);
    let namespaces = Message::new().number(1, NODE);
    let linux = Message::new().message(2, &Message::new().message(1, &namespaces));
    Message::new().message(1, &metadata).text(3, pod.log_directory).message(8, &linux)
}

fn text(message: &[u8], number: u32) -> Result<String> {
    match field(message, number) {
        Some(Value::Bytes(bytes)) => Ok(String::from_utf8(bytes.to_vec())?),
        _ => bail!("the reply lacks field {number}"),
    }
}
