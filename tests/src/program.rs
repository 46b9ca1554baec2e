//! The one place where the suites start programs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A program to start; environment and arguments as for [`Command`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the ban is for the plugin; here is the tests' own place")]
    Command::new(program)
}

/// A program of this package's build directory, for example the fake delegate.
///
/// Test executables lie in `deps` below it, programs in it.
pub fn built(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let path = me.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace --bins"))
}

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status, absent when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything it printed.
    pub stdout: Vec<u8>,
    /// Everything it said on stderr.
    pub stderr: Vec<u8>,
    /// From before the start to after the end.
    pub elapsed: Duration,
}

/// A program under way. Its input and output are files: an orphan that keeps them open holds nobody up.
pub struct Running {
    child: Child,
    began: Instant,
    stdout: File,
    stderr: File,
}

/// Starts a program with these bytes on stdin.
pub fn start(command: &mut Command, stdin: &[u8]) -> Running {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(stdin).unwrap();
    input.seek(SeekFrom::Start(0)).unwrap();
    let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(input).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let began = Instant::now();
    let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Running { child, began, stdout, stderr }
}

impl Running {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// True until the program ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL to the program itself, not to its children.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for the end; a program that is not over in `limit` is killed and fails the test.
    pub fn finish(mut self, limit: Duration) -> Finished {
        let mut pause = Duration::from_micros(100);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.began.elapsed() > limit {
                self.kill();
                // The namespaces of a node do not end before it is taken.
                let _ = self.child.wait();
                panic!("no end after {limit:?}; stderr: {}", String::from_utf8_lossy(&content(self.stderr)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        };
        let elapsed = self.began.elapsed();
        let (stdout, stderr) = (content(self.stdout), content(self.stderr));
        Finished { code: status.code(), signal: status.signal(), stdout, stderr, elapsed }
    }
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs a program of the machine that must succeed, and gives what it printed.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    run_with(program, args, "")
}

/// The same with a text on stdin.
pub fn run_with<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>, stdin: &str) -> String {
    let mut command = command(program);
    command.args(args);
    let finished = start(&mut command, stdin.as_bytes()).finish(Duration::from_secs(60));
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert!(finished.code == Some(0), "{command:?}: {:?}\n{out}{err}", finished.code);
    out.into_owned()
}
