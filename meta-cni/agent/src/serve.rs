//! The agent's socket: who may ask, how many at once, and for how long. What is answered is not its business.

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
/// Within which a question must have come, and its answer be taken: both ends are on this node.
const TRANSFER: Duration = Duration::from_secs(5);
/// A question up to this long is read at once.
const SHORT: usize = 16 << 10;
/// Memory for longer questions, in bytes: room for the longest one.
const ROOM: usize = wire::LIMIT;
/// No question takes longer, whatever it says itself.
const LONGEST: Duration = Duration::from_secs(3600);

/// Answers questions.
pub trait Service: Send + Sync + 'static {
    /// The answer to one question.
    fn answer(&self, request: AgentRequest) -> impl Future<Output = Reply> + Send;
}

/// An answer, and what it holds until somebody has taken it.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Room for it in memory.
    pub room: Option<OwnedSemaphorePermit>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, room: None }
    }
}

/// Listens at a path whose directory is made, for this user (root) only. A socket that is there is replaced at once: at no
/// moment is there none.
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
    let only = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    only(dir, 0o700).map_err(|e| failed("protect the directory of", e))?;

    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(|e| failed("make", e))?;
    only(&new, 0o600).and_then(|()| fs::rename(&new, path)).map_err(|e| failed("put in place", e))?;
    Ok(listener)
}

/// Serves connections; never ends. One question that panics ends no other.
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

/// One connection: one question and its answer.
async fn answer_one(mut stream: UnixStream, service: &impl Service, room: &Semaphore) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!("dropped a connection of nobody: {error}"),
    };
    let pid = peer.pid().unwrap_or_default();
    if peer.uid() != geteuid().as_raw() {
        return tracing::warn!(pid, "dropped a connection of uid {}, who may not ask", peer.uid());
    }
    let (version, request) = match read(&mut stream, room).await {
        Ok(Some(request)) => request,
        // Somebody only looked whether there is anybody.
        Ok(None) => return,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            (wire::NEWEST, Err(Refusal::new(Cause::Malformed, error.to_string())))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return tracing::warn!(pid, "dropped a question that did not come within {TRANSFER:?}");
        }
        Err(error) => return tracing::warn!(pid, "dropped a question that broke off: {error}"),
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
        Ok(Err(error)) => tracing::debug!(pid, "an answer that nobody took: {error}"),
        Err(_) => tracing::warn!(pid, "dropped an answer that was not taken within {TRANSFER:?}"),
    }
}

/// The version to answer in, and a question or why it is refused.
type Asked = (u32, std::result::Result<AgentRequest, Refusal>);

/// A question, and the version to answer it in; nothing when the asker left without a word.
async fn read(stream: &mut UnixStream, room: &Semaphore) -> io::Result<Option<Asked>> {
    let Some(length) = timeout(TRANSFER, head(stream)).await?? else { return Ok(None) };
    // Whoever waits for room sends nothing meanwhile, and is not to blame.
    let most = u32::try_from(length.min(ROOM)).unwrap_or(u32::MAX);
    let _room = if length > SHORT { room.acquire_many(most).await.ok() } else { None };
    let mut json = Vec::new();
    // Memory is taken as bytes come, not as they are promised.
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
