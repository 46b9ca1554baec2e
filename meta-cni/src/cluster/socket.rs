//! The plugin's side of the agent's socket. It blocks, at most until the call's deadline.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use attachments::bind::Allocation;
use attachments::dialect::objects;
use attachments::names::PodRef;
use delegates::error::Error as DelegateError;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::wire::{
    self, AddFailure, AgentRequest, Answer, Choose, Devices, Health, Join, Lookup, ObjectLookup, Outcome, Policies,
    Publish, Refusal, Resolve,
};
use super::{Facts, Query};
use crate::fault::{Fault, Result};

/// How long a request is retried while the agent is away: it may be restarting for an upgrade.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for the answer beyond the time that the request gave the agent.
const GRACE: Duration = Duration::from_millis(100);

/// The node agent, as the plugin sees it.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent behind a socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Facts for an ADD, in one round trip. `patient` retries for a second while the agent is away.
    pub fn resolve(&self, query: &Query<'_>, patient: bool, deadline: Instant) -> Result<Facts> {
        let request = AgentRequest::Resolve(Resolve {
            pod: query.pod.cloned(),
            annotations: query.annotations,
            references: query.references.to_vec(),
            optional: query.optional.to_vec(),
            multus_namespace: query.multus_namespace.clone(),
            wait_ms: wait_ms(deadline),
            policies: query.policies,
            joins: true,
            devices: query.devices,
            objects: query.objects.to_vec(),
            candidates: query.candidates.to_vec(),
        });
        match self.ask(&request, if patient { PATIENCE } else { Duration::ZERO }, deadline)? {
            Answer::Resolved(resolved) => {
                // An agent that knows no policies is older than they are.
                let none = || Policies::Known { facts: attachments::policy::Facts::default() };
                let policies = query.policies.then(|| resolved.policies.unwrap_or_else(none));
                let (annotations, node) = (resolved.annotations, resolved.node);
                let mut facts = Facts { annotations, node, policies, ..Facts::default() };
                for lookup in resolved.definitions {
                    self.take(&mut facts, lookup)?;
                }
                for lookup in resolved.objects {
                    take_object(&mut facts, lookup)?;
                }
                let names_resource = facts.definitions.values().any(|definition| definition.resource().is_some())
                    || facts.objects.iter().any(|(reference, spec)| objects::resource(reference, spec).is_some());
                facts.devices = (query.devices && names_resource).then(|| allocation(resolved.devices));
                Ok(facts)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Returns when the node has what these definitions need of networks that span nodes.
    pub fn join(&self, mut join: Join, deadline: Instant) -> Result<()> {
        join.wait_ms = wait_ms(deadline);
        match self.ask(&AgentRequest::Join(join), PATIENCE, deadline)? {
            // An older agent has joined before it answered the first question.
            Answer::Noted | Answer::Refused(Refusal { cause: wire::Cause::Unsupported, .. }) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The network that the agent chooses for a pod.
    pub fn choose(&self, pod: &PodRef, deadline: Instant) -> Result<String> {
        let request = AgentRequest::Choose(Choose { pod: pod.clone(), wait_ms: wait_ms(deadline) });
        match self.ask(&request, PATIENCE, deadline)? {
            Answer::Chosen(name) => Ok(name),
            other => Err(self.unexpected(&other)),
        }
    }

    fn take(&self, facts: &mut Facts, Lookup { reference, outcome }: Lookup) -> Result<()> {
        match outcome {
            Outcome::Found { config, resource_name } => {
                let definition =
                    attachments::definition::Definition { reference: reference.clone(), config, resource_name };
                facts.definitions.insert(reference, definition);
            }
            Outcome::Missing => {
                facts.missing.insert(reference);
            }
            Outcome::Broken { reason } => {
                return Err(Fault::Config(format!("network-attachment-definition {reference}: {reason}")));
            }
            Outcome::TooLarge { size, limit } => {
                return Err(Fault::Config(format!(
                    "network-attachment-definition {reference}: spec.config: got {size} bytes, want at most {limit}"
                )));
            }
            Outcome::Unreachable { reason } => {
                return Err(Fault::TryLater(format!(
                    "network-attachment-definition {reference}: not known here yet, and the API server cannot be asked: {reason}"
                )));
            }
            Outcome::Unheard => {
                return Err(Fault::TryLater(format!(
                    "network-attachment-definition {reference}: the node agent's answer needs a newer plugin"
                )));
            }
        }
        Ok(())
    }

    /// Hands over a pod's status. An agent that is away is not waited for: its resync finds the missing status.
    pub fn publish(&self, publish: Publish) -> Result<()> {
        let wait = Duration::from_millis(publish.wait_ms);
        let request = AgentRequest::Publish(publish);
        if wait.is_zero() {
            return self.send(&request);
        }
        match self.ask(&request, Duration::ZERO, Instant::now() + wait + GRACE)? {
            Answer::Published(_) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Reports a failed ADD. It does not wait, and ignores failures.
    pub fn report(&self, report: AddFailure) {
        let _ = self.send(&AgentRequest::AddFailure(report));
    }

    /// Asks for the agent's state.
    pub fn health(&self, within: Duration) -> Result<Health> {
        match self.ask(&AgentRequest::Health, within, Instant::now() + within)? {
            Answer::Healthy(health) => Ok(health),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Sets the level of the agent's log.
    pub fn log_level(&self, level: &str, within: Duration) -> Result<()> {
        match self.ask(&AgentRequest::LogLevel(level.to_owned()), within, Instant::now() + within)? {
            Answer::Noted => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Is the agent there, or restarting? A socket without a listener is that of an agent that restarts: calls wait or are
    /// retried, while a node that reports not ready would be taken out of every Service.
    pub fn ready(&self, within: Duration) -> Result<()> {
        let opened = self.open(Instant::now() + within);
        if opened.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            return Ok(());
        }
        self.health(within).map(drop)
    }

    /// Sends a request and reads the answer. While the agent is away it retries for at most `patience`.
    fn ask(&self, request: &AgentRequest, patience: Duration, deadline: Instant) -> Result<Answer> {
        let frame = self.encode(request)?;
        let until = (Instant::now() + patience).min(deadline);
        loop {
            let answer = self.open(deadline).and_then(|mut stream| {
                stream.write_all(&frame)?;
                let mut head = [0; 4];
                stream.read_exact(&mut head)?;
                let length = wire::length(head).map_err(io::Error::other)?;
                let mut json = Vec::new();
                Read::take(&mut stream, length as u64).read_to_end(&mut json)?;
                if json.len() == length { Ok(json) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            });
            match answer {
                Ok(json) => return Answer::decode(&json).map_err(|e| self.failed(&e)),
                Err(e) if is_away(&e) && Instant::now() < until => thread::sleep(PAUSE),
                Err(e) => return Err(self.fault(&e)),
            }
        }
    }

    /// Sends a request without waiting for the answer.
    fn send(&self, request: &AgentRequest) -> Result<()> {
        let frame = self.encode(request)?;
        let told = self.open(Instant::now() + GRACE).and_then(|mut stream| stream.write_all(&frame));
        told.map_err(|e| self.fault(&e))
    }

    fn encode(&self, request: &AgentRequest) -> Result<Vec<u8>> {
        request.encode().map_err(|e| self.failed(&e))
    }

    fn open(&self, deadline: Instant) -> io::Result<Timed> {
        self.check_directory()?;
        // A blocking connect would wait for ever on an agent that does not accept.
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(&self.socket)?)?;
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        Ok(Timed { stream, deadline })
    }

    /// Refuses a directory that others may write to: they could answer in the agent's place.
    fn check_directory(&self) -> io::Result<()> {
        let dir = self.socket.parent().unwrap_or(Path::new("/"));
        let meta = fs::metadata(dir)?;
        let (owner, mode) = (meta.uid(), meta.mode());
        if owner == nix::unistd::geteuid().as_raw() && mode & 0o022 == 0 {
            return Ok(());
        }
        let text = format!(
            "agentSocket: {}: got a directory of uid {owner} with mode {:04o}, want one that is root's and that nobody else may write to",
            dir.display(),
            mode & 0o7777
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    fn fault(&self, error: &io::Error) -> Fault {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied if error.get_ref().is_some() => Fault::Config(error.to_string()),
            io::ErrorKind::TimedOut => {
                Fault::TryLater(format!("agentSocket: the node agent at {socket} gave no answer in time"))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Fault::TryLater(format!("agentSocket: the node agent at {socket} went away before it answered"))
            }
            io::ErrorKind::NotFound => {
                Fault::TryLater(format!("agentSocket: no node agent is at {socket}: there is no such socket"))
            }
            _ => Fault::TryLater(format!("agentSocket: the node agent does not answer at {socket}: {error}")),
        }
    }

    fn failed(&self, error: &dyn std::error::Error) -> Fault {
        Fault::TryLater(format!("agentSocket: {}: {error}", self.socket.display()))
    }

    fn unexpected(&self, answer: &Answer) -> Fault {
        match answer {
            Answer::Refused(Refusal { cause: wire::Cause::Later, message }) => Fault::TryLater(message.clone()),
            Answer::Refused(Refusal { cause: wire::Cause::Configuration, message }) => Fault::Config(message.clone()),
            Answer::Refused(Refusal { cause: wire::Cause::Addresses, message }) => {
                let (subject, why) = message.split_once(": ").unwrap_or(("network", message));
                Fault::Delegate { subject: subject.to_owned(), source: DelegateError::Addresses(why.to_owned()) }
            }
            Answer::Refused(Refusal { message, .. }) => {
                Fault::TryLater(format!("agentSocket: the node agent refuses: {message}"))
            }
            other => self.failed(&io::Error::other(format!("an answer to another question: {other:?}"))),
        }
    }
}

/// Takes the lookup of an object of a dialect. One that is missing is told where it is needed.
fn take_object(facts: &mut Facts, ObjectLookup { reference, outcome }: ObjectLookup) -> Result<()> {
    let later = |why: &str| Err(Fault::TryLater(format!("{reference}: {why}")));
    match outcome {
        Outcome::Found { config: Some(spec), .. } => drop(facts.objects.insert(reference, spec)),
        Outcome::Found { config: None, .. } | Outcome::Missing => {}
        Outcome::Broken { reason } => return Err(Fault::Config(format!("{reference}: {reason}"))),
        Outcome::TooLarge { size, limit } => {
            return Err(Fault::Config(format!("{reference}: spec: got {size} bytes, want at most {limit}")));
        }
        Outcome::Unreachable { reason } => return later(&reason),
        Outcome::Unheard => return later("the node agent's answer needs a newer plugin"),
    }
    Ok(())
}

/// The devices of an answer about definitions that name a resource.
fn allocation(devices: Option<Devices>) -> Allocation {
    match devices {
        Some(Devices::Known { allocated }) => Allocation::Told(allocated),
        Some(Devices::Unknown { reason }) => Allocation::Unknown(reason),
        Some(Devices::Unheard) => Allocation::Unknown("the node agent's answer needs a newer plugin".to_owned()),
        None => Allocation::Unknown(
            "the node agent is older than the plugin and does not tell the pod's devices".to_owned(),
        ),
    }
}

/// True when no agent took the request, so that it can be retried.
fn is_away(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof, WouldBlock};
    let kinds = [NotFound, ConnectionRefused, ConnectionReset, BrokenPipe, UnexpectedEof, WouldBlock];
    kinds.contains(&error.kind())
}

/// The time that an agent has until a deadline. It gives up first: its message about a slow API server says more than ours about a slow
/// agent.
fn wait_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// A stream whose operations end at the deadline.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// A socket timeout is reported as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
