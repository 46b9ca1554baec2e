//! The agent's socket: it checks the peer, limits connections, memory and time, and passes requests to a [`Service`].

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meta_cni::cluster::wire::{self, AgentRequest, Answer, Cause, Refusal};
use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Connections that are served at once; others wait in the kernel. More than a node has pods.
const CONNECTIONS: usize = 256;
/// Time for the transfer of a request, and of an answer: both ends are on this node.
const TRANSFER: Duration = Duration::from_secs(5);
/// A request up to this long is read without waiting for memory.
const SHORT: usize = 16 << 10;
/// Memory for longer requests, in bytes: enough for the longest one.
const ROOM: usize = wire::LIMIT;
/// The longest time for an answer, whatever the request says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, request: AgentRequest) -> impl Future<Output = Reply> + Send;
}

/// An answer, and the memory that it holds until it is sent.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// The answer's share of the memory for answers.
    pub room: Option<OwnedSemaphorePermit>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, room: None }
    }
}

/// Listens at a path. Creates its directory for this user (root) only. Replaces an existing socket by a rename, so that there
/// always is one.
pub fn bind(path: &Path) -> Result<UnixListener> {
    let failed = |what: &str, e: io::Error| Error::Io(format!("--socket: cannot {what} {}: {e}", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.ok_or_else(|| Error::Config(format!("--socket: got {path:?}, want an absolute path")))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed("make the directory of", e))?;
    let owner = fs::metadata(dir).map_err(|e| failed("look at the directory of", e))?.uid();
    if owner != geteuid().as_raw() {
        let dir = dir.display();
        return Err(Error::Config(format!("--socket: {dir}: got a directory of uid {owner}, want one that is root's")));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| failed("protect the directory of", e))?;
    replace_socket(path, 0o600).map_err(|e| failed("listen at", e))
}

/// Listens at a path. An existing socket is replaced by a rename, so that there always is one.
pub fn replace_socket(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves connections; never ends. A panic ends its own connection only.
pub async fn serve(listener: UnixListener, service: Arc<impl Service>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let room = Arc::new(Semaphore::new(ROOM));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (service, room) = (Arc::clone(&service), Arc::clone(&room));
                tokio::spawn(async move {
                    let _seat = permit;
                    answer_one(stream, &*service, &room).await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection: one request and its answer.
async fn answer_one(mut stream: UnixStream, service: &impl Service, room: &Semaphore) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!("dropped a connection without a known peer: {error}"),
    };
    let pid = peer.pid().unwrap_or_default();
    if peer.uid() != geteuid().as_raw() {
        return tracing::warn!(pid, "dropped a connection of uid {}, which has no access", peer.uid());
    }
    let (version, request) = match read(&mut stream, room).await {
        Ok(Some(request)) => request,
        // A probe: it connects and sends nothing.
        Ok(None) => return,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            (wire::NEWEST, Err(Refusal::new(Cause::Malformed, error.to_string())))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return tracing::warn!(pid, "dropped a request that did not arrive within {TRANSFER:?}");
        }
        Err(error) => return tracing::warn!(pid, "dropped an incomplete request: {error}"),
    };
    let Reply { answer, room: _room } = match request {
        Ok(request) => match timeout(LONGEST, service.answer(request)).await {
            Ok(reply) => reply,
            Err(_) => return,
        },
        Err(refusal) => {
            tracing::warn!(pid, "refused {}", refusal.message);
            Answer::Refused(refusal).into()
        }
    };
    let too_long = |e: wire::WireError| Answer::Refused(Refusal::new(Cause::Internal, e.to_string())).encode(version);
    let Ok(frame) = answer.encode(version).or_else(too_long) else { return };
    drop(answer);
    match timeout(TRANSFER, stream.write_all(&frame)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(pid, "an answer was not read: {error}"),
        Err(_) => tracing::warn!(pid, "dropped an answer that was not read within {TRANSFER:?}"),
    }
}

/// The version to answer in, and the request or why it is refused.
type Asked = (u32, std::result::Result<AgentRequest, Refusal>);

/// Reads a request. None when the peer closes without sending one.
async fn read(stream: &mut UnixStream, room: &Semaphore) -> io::Result<Option<Asked>> {
    let Some(length) = timeout(TRANSFER, head(stream)).await?? else { return Ok(None) };
    // The time that a peer waits for memory is not the peer's.
    let most = u32::try_from(length.min(ROOM)).unwrap_or(u32::MAX);
    let _room = if length > SHORT { room.acquire_many(most).await.ok() } else { None };
    let mut json = Vec::new();
    // Memory is allocated as bytes arrive, not by the announced length.
    timeout(TRANSFER, stream.take(length as u64).read_to_end(&mut json)).await??;
    if json.len() == length { Ok(Some(AgentRequest::decode(&json))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The length of a frame.
async fn head(stream: &mut UnixStream) -> io::Result<Option<usize>> {
    let mut head = [0; 4];
    match stream.read(&mut head).await? {
        0 => return Ok(None),
        n => stream.read_exact(&mut head[n..]).await?,
    };
    let length = wire::length(head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    Ok(Some(length))
}

#[cfg(test)]
mod tests;
