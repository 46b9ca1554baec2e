//! A running program: it is fed and read at once, and its whole process group ends with it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// A program that prints more is broken: results are a few kilobytes.
pub const STDOUT_MAX: usize = 4 << 20;
/// At least so much of the end of stderr is kept, and at most twice as much.
const STDERR_KEPT: usize = 64 << 10;
/// How often a silent program is looked at. One that ends closes its pipes, and is noticed at once.
const TICK: Duration = Duration::from_millis(20);
/// How long the pipes of a program that has exited may stay open in the hands of its children.
const GRACE: Duration = Duration::from_millis(200);
/// How long we wait for a killed program: one that hangs in the kernel does not end, and keeps the sandbox lock.
const KILLED: Duration = Duration::from_millis(500);

/// Why a program was given up.
pub enum Broken {
    /// The deadline passed.
    Late,
    /// More than [`STDOUT_MAX`] bytes on stdout.
    TooMuch,
    /// The system refused.
    System(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Broken {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// A child that leads its own process group. Dropping it before it has ended kills the group.
pub struct Process {
    /// What it printed so far.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to stderr so far.
    pub stderr: Vec<u8>,
    /// It exited and left children behind that held its output: they were killed, and those that had left its process group
    /// may be at work still. (A daemon in good order closes what it inherits, or the callers of its plugin would hang.)
    pub is_cut_off: bool,
    child: Child,
    reaped: bool,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
}

impl Process {
    /// Takes over a child with three pipes that was started with `process_group(0)`.
    pub fn new(mut child: Child) -> Result<Self, Broken> {
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Self {
            stdout: Vec::new(),
            stderr: Vec::new(),
            is_cut_off: false,
            child,
            reaped: false,
            input,
            output,
            errors,
        };
        let pipes = [
            process.input.as_ref().map(AsFd::as_fd),
            process.output.as_ref().map(AsFd::as_fd),
            process.errors.as_ref().map(AsFd::as_fd),
        ];
        // The flag belongs to our end alone; the child's end stays blocking.
        for pipe in pipes.into_iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(process)
    }

    /// Feeds stdin and drains both outputs until the program has ended.
    pub fn converse(&mut self, input: &[u8], deadline: Instant) -> Result<ExitStatus, Broken> {
        let mut rest = input;
        let mut next_look = Instant::now() + TICK;
        let mut give_up = None;
        while self.output.is_some() || self.errors.is_some() || self.input.is_some() {
            let now = Instant::now();
            if now >= deadline {
                return Err(Broken::Late);
            }
            if now >= next_look {
                next_look = now + TICK;
                if give_up.is_none() && self.has_exited() {
                    self.input = None;
                    give_up = Some(now + GRACE);
                }
            }
            if give_up.is_some_and(|at| now >= at) {
                break;
            }
            self.exchange(&mut rest, TICK.min(deadline - now))?;
        }
        if !self.exits_before(deadline) {
            return Err(Broken::Late);
        }
        if self.output.is_some() || self.errors.is_some() {
            self.is_cut_off = true;
            self.kill_group();
        }
        self.reaped = true;
        Ok(self.child.wait()?)
    }

    /// Waits until a pipe is ready, for at most `wait`, and serves all of them: none of them blocks.
    fn exchange(&mut self, rest: &mut &[u8], wait: Duration) -> Result<(), Broken> {
        let input = self.input.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        let output = self.output.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let errors = self.errors.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let mut open: Vec<PollFd<'_>> = [input, output, errors].into_iter().flatten().collect();
        // Rounded up, or the last millisecond before the deadline would be spent in a busy loop.
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut open, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        feed(&mut self.input, rest)?;
        drain(&mut self.output, &mut self.stdout)?;
        if self.stdout.len() > STDOUT_MAX {
            return Err(Broken::TooMuch);
        }
        drain(&mut self.errors, &mut self.stderr)?;
        if self.stderr.len() > 2 * STDERR_KEPT {
            self.stderr.drain(..self.stderr.len() - STDERR_KEPT);
        }
        Ok(())
    }

    /// True when the program has exited; it stays a zombie, so that its number, its group's too, is not reused.
    fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.pid()), flags), Ok(WaitStatus::StillAlive))
    }

    /// Waits for the exit. A program closes its pipes some microseconds before it becomes waitable.
    fn exits_before(&self, deadline: Instant) -> bool {
        let mut pause = Duration::from_micros(20);
        while !self.has_exited() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            sleep(pause.min(left));
            pause = (2 * pause).min(Duration::from_millis(5));
        }
        true
    }

    fn kill_group(&self) {
        // ESRCH, the one possible failure, says that the group is gone.
        let _ = killpg(self.pid(), Signal::SIGKILL);
    }

    fn pid(&self) -> Pid {
        // Process numbers are below 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_group();
            if self.exits_before(Instant::now() + KILLED) {
                let _ = self.child.wait();
            }
        }
    }
}

/// Writes once; closes the pipe when everything is written or the program reads no more, which is its right.
fn feed(pipe: &mut Option<ChildStdin>, rest: &mut &[u8]) -> io::Result<()> {
    let Some(writer) = pipe else { return Ok(()) };
    match writer.write(rest) {
        Ok(written) => *rest = &rest[written..],
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => *rest = &[],
        Err(e) => return Err(e),
    }
    if rest.is_empty() {
        *pipe = None;
    }
    Ok(())
}

/// Reads once; closes the pipe at its end.
fn drain(pipe: &mut Option<impl Read>, kept: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut buffer = [0; 16 << 10];
    match reader.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(length) => kept.extend_from_slice(&buffer[..length]),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}
