//! A program of the cluster that runs until it is stopped, and whose last words are shown when it fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::space::Space;
use super::wait;

/// Lines of a log that a failure shows.
const SHOWN: usize = 15;

/// A running program.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a program in a space; what it says is added to `log`.
    pub fn start(name: &str, space: &Space, command: &mut Command, log: &Path) -> Self {
        let file =
            File::options().create(true).append(true).open(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self::started(name, space.spawn(command), log)
    }

    /// A program that was started otherwise.
    pub fn started(name: &str, child: Child, log: &Path) -> Self {
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id, as this process sees it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ok while it runs; else how it ended and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended: {status}\n{}", self.name, self.last_words())),
            Err(e) => Err(format!("{}: {e}", self.name)),
        }
    }

    /// Waits for something that this program brings about. Panics early when it ends, with its last words either way.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
        let mut alive = Ok(());
        let found = wait::patiently(limit, || {
            alive = self.check();
            match &alive {
                // Nothing to wait for any more: the reason is in `alive`.
                Err(_) => Ok(None),
                Ok(()) => attempt().map(Some),
            }
        });
        match (found, alive) {
            (Ok(Some(value)), _) => value,
            (_, Err(ended)) => panic!("no {what}: {ended}"),
            (found, Ok(())) => {
                let why = found.err().unwrap_or_default();
                panic!("no {what} within {limit:?}: {why}\nlast words of {}:\n{}", self.name, self.last_words());
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.name));
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and SIGKILL after a while.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let over = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_))).then_some(()).ok_or(());
        let _ = wait::patiently(Duration::from_secs(10), || over(&mut self.child));
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.iter().skip(lines.len().saturating_sub(SHOWN));
        shown.map(|line| format!("  {line}\n")).chain([format!("  ({})", self.log.display())]).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}
