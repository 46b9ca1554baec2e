//! Runs an external CNI plugin: the only module that starts a program.
//!
//! A plugin is found by its name in the plugin directories, gets the environment of the specification and its
//! configuration on stdin, and answers on stdout. It runs in the namespaces that we run in, the host's (C19). `process`
//! owns the running program: pipes, deadline and end.

mod process;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use attachments::cni::error::{ErrorObject, code};
use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use attachments::finding::shortened;
use attachments::names::PluginType;
use attachments::text::printable_lines;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket;
use nix::unistd::{AccessFlags, access};
use serde_json::value::RawValue;

use crate::call::{Call, Node, Verb};
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::priority;
use process::{Broken, Process};

/// The variable by which a program of ours knows that one of ours has started it, at whatever remove: children inherit it.
/// Whatever the file is called and whoever wrote its configuration, it is then a delegate and no runtime's plugin.
pub const CALLER: &str = "META_CNI_CALLER";

/// The first word of our own program's arguments when it is to send a netlink message, which follows as hexadecimal digits, over
/// the socket on its stdin (`send_apart`).
pub const SENDER: &str = "netlink-send";

/// How often a program that someone still writes to ("text file busy") is tried again (C47).
const BUSY_RETRIES: u32 = 6;
/// The first pause between two tries; each is twice the one before, 1.3 s in all.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Longest quote of a plugin's output in an error, in characters.
const QUOTED: usize = 240;

/// The program of a plugin type: the first directory that holds a regular file of that name (C4).
pub fn find(kind: &PluginType, dirs: &[PathBuf]) -> Result<PathBuf> {
    let missing = || Error::NoPlugin { kind: kind.to_string(), dirs: search_path(dirs).to_string_lossy().into_owned() };
    let mut candidates = dirs.iter().map(|dir| dir.join(kind.as_str()));
    let path = candidates.find(|path| path.is_file()).ok_or_else(missing)?;
    // Found out here and not after half of the pod is attached: the DEL of a program that cannot run fails too.
    if access(&path, AccessFlags::X_OK).is_err() {
        let what = format!("{} is not executable", path.display());
        return Err(Error::BadAnswer { kind: kind.to_string(), what });
    }
    Ok(path)
}

/// Runs one verb of one plugin and gives what it printed on stdout. The plugin has exited with 0; whatever it wrote to
/// stderr is on ours. No process of its group is left behind when the deadline passes or its answer is refused.
pub fn run(node: &Node<'_>, kind: &PluginType, verb: Verb, call: &Call<'_>) -> Result<Vec<u8>> {
    let program = find(kind, node.plugin_dirs)?;
    let failed = |broken| match broken {
        Broken::Late => Error::Late(format!("{} of plugin {kind} in network {}", verb.as_str(), call.network)),
        Broken::TooMuch => Error::BadAnswer {
            kind: kind.to_string(),
            what: format!("printed more than {} bytes on stdout", process::STDOUT_MAX),
        },
        Broken::System(source) => Error::io(format!("run plugin {}", program.display()))(source),
    };
    let started = start(&mut command(&program, node, verb, call), node.lock, node.deadline);
    let mut process = started.map_err(failed)?;
    let ended = process.converse(call.conf.to_json().as_bytes(), node.deadline);
    if let Some(lock) = node.lock.filter(|_| ended.is_err() || process.is_cut_off) {
        lock.leave_to_orphans();
    }
    forward(&process.stderr);
    judge(kind, ended.map_err(failed)?, &mut process)
}

/// Starts a process that sends a netlink message over a socket, for what the kernel lets the sender wait for. It may outlive us,
/// and has nothing of ours but the socket and the sandbox lock: no pipe that a runtime reads to the end.
#[expect(clippy::disallowed_methods, reason = "this is the one module that starts a program")]
pub(crate) fn send_apart(socket: BorrowedFd<'_>, message: &[u8], lock: &Lock) -> io::Result<Child> {
    let mut digits = String::with_capacity(2 * message.len());
    message.iter().for_each(|byte| _ = write!(digits, "{byte:02x}"));
    let mut command = Command::new("/proc/self/exe");
    command.args([SENDER, &digits]).env_clear().stdin(Stdio::from(socket.try_clone_to_owned()?));
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    inherit(Some(lock), || command.spawn())
}

/// What that process does. False for what is no message, and where stdin takes none.
pub fn send(digits: &str) -> bool {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let message: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    let socket = io::stdin();
    message.is_some_and(|message| socket::send(socket.as_raw_fd(), &message, socket::MsgFlags::empty()).is_ok())
}

/// Reads the result of an ADD; `asked` is the version of the configuration, which a result without one has (C45).
pub fn add_result(kind: &PluginType, stdout: &[u8], asked: Version) -> Result<CniResult> {
    let bad = |what| Error::BadAnswer { kind: kind.to_string(), what };
    if stdout.trim_ascii().is_empty() {
        return Err(bad("succeeded without a result, want one JSON object on stdout".to_owned()));
    }
    CniResult::parse(stdout, asked).map_err(|e| bad(format!("bad result, {e}; it printed {}", quote(stdout))))
}

/// The parent's environment and all six variables, also where a verb has no value for one, as libcni does (C18, C20).
#[expect(clippy::disallowed_methods, reason = "this is the one module that starts a program")]
fn command(program: &Path, node: &Node<'_>, verb: Verb, call: &Call<'_>) -> Command {
    let point = call.point.as_ref();
    let mut command = Command::new(program);
    command
        .env("CNI_COMMAND", verb.as_str())
        .env("CNI_CONTAINERID", point.map_or("", |p| p.container.as_str()))
        .env("CNI_NETNS", point.map_or("", |p| p.netns))
        .env("CNI_IFNAME", point.map_or("", |p| p.ifname.as_str()))
        .env("CNI_ARGS", point.map_or("", |p| p.args))
        .env("CNI_PATH", search_path(node.plugin_dirs))
        .env(CALLER, "meta-cni")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

fn search_path(dirs: &[PathBuf]) -> OsString {
    let mut joined = OsString::new();
    for (i, dir) in dirs.iter().enumerate() {
        if i > 0 {
            joined.push(":");
        }
        joined.push(dir);
    }
    joined
}

fn start(command: &mut Command, lock: Option<&Lock>, deadline: Instant) -> std::result::Result<Process, Broken> {
    let mut pause = BUSY_PAUSE;
    for retry in 0.. {
        if Instant::now() >= deadline {
            break;
        }
        match inherit(lock, || priority::at_normal_priority(|| command.spawn())) {
            Ok(child) => return Process::new(child),
            Err(e) if e.raw_os_error() == Some(Errno::ETXTBSY as i32) && retry < BUSY_RETRIES => {
                sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
                pause *= 2;
            }
            Err(e) => return Err(Broken::System(e)),
        }
    }
    Err(Broken::Late)
}

/// Lets the child have the sandbox lock, at the same number: should we be killed, the orphan keeps its sandbox locked. One start at
/// a time: the end of another would take the lock from this child.
fn inherit<T>(lock: Option<&Lock>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    static STARTS: Mutex<()> = Mutex::new(());
    let Some(lock) = lock else { return spawn() };
    let _start = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let spawned = spawn();
    // Cannot fail where the same call has just succeeded.
    let _ = fcntl(lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    spawned
}

/// A plugin's log is the operator's: it goes where ours goes, line by line, and without what it quotes of a tenant's that
/// a terminal would act on. A closed stderr is no reason to fail.
fn forward(stderr: &[u8]) {
    if !stderr.is_empty() {
        let text = String::from_utf8_lossy(stderr);
        let _ = io::stderr().lock().write_all(printable_lines(&text).as_bytes());
    }
}

/// Success, the plugin's own error object, or the most that can be said about a failure without one (C46).
fn judge(kind: &PluginType, status: ExitStatus, process: &mut Process) -> Result<Vec<u8>> {
    if status.success() {
        return Ok(std::mem::take(&mut process.stdout));
    }
    if let Some(mut object) = error_object(&process.stdout) {
        // A failure must never read as the absence of one.
        if object.code == 0 {
            object.code = code::INTERNAL;
        }
        return Err(Error::Plugin(object));
    }
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "ended abnormally".to_owned(),
    };
    let what = match (process.stdout.trim_ascii(), process.stderr.trim_ascii()) {
        (b"", b"") => format!("{ended} without any output"),
        (b"", stderr) => format!("{ended}, stderr {}", quote(stderr)),
        (stdout, _) => format!("{ended} without an error object, stdout {}", quote(stdout)),
    };
    Err(Error::BadAnswer { kind: kind.to_string(), what })
}

/// The last JSON value on stdout, if it is an error object: Go's skel finds out after the work that CNI_NETNS is our own
/// namespace, and prints the error behind the result (C52).
fn error_object(stdout: &[u8]) -> Option<ErrorObject> {
    let values = serde_json::Deserializer::from_slice(stdout).into_iter::<Box<RawValue>>();
    ErrorObject::parse(values.map_while(std::result::Result::ok).last()?.get().as_bytes())
}

/// Some output in quotes, control characters escaped: the beginning and the end.
fn quote(output: &[u8]) -> String {
    format!("{:?}", shortened(&String::from_utf8_lossy(output), QUOTED))
}
