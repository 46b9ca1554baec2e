//! One process: how long it takes, what it costs, how much memory it holds, what it asks of the kernel.
//!
//! A call that fails ends the bench with what it printed: a failure is never measured as a fast success.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use meta_cni_tests::program;
use meta_cni_tests::report::{Row, Table, ms, times};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;

/// A process to be, with its environment, and what it reads.
pub struct Call {
    /// Program, arguments, environment.
    pub command: Command,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

/// What calls cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// From before the start to after the end.
    pub elapsed: Duration,
    /// User and system time of the process and of all that it waited for. Right only while one call runs at a time.
    pub cpu: Duration,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }
}

/// What ADD and DEL of many pods cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Costs {
    /// The times of ADD.
    pub add: Row,
    /// Its processor times.
    pub add_cpu: Row,
    /// The times of DEL.
    pub del: Row,
    /// Its processor times.
    pub del_cpu: Row,
}

impl Costs {
    /// Of ADD and DEL of each pod.
    pub fn of(costs: &[[Cost; 2]]) -> Self {
        let row = |verb: usize, what: fn(&Cost) -> Duration| Row::of(costs.iter().map(|cost| what(&cost[verb])));
        let times = |verb: usize| (row(verb, |cost| cost.elapsed), row(verb, |cost| cost.cpu));
        let ((add, add_cpu), (del, del_cpu)) = (times(0), times(1));
        Self { add, add_cpu, del, del_cpu }
    }

    /// A table of several, each with its name. The ratios are to the first, which the head calls `base`.
    pub fn table<'a>(base: &str, lines: impl Iterator<Item = (&'a str, &'a Self)> + Clone) -> Table {
        let ratio = format!("x {base}");
        let head = ["", "ADD p50", "p95", &ratio, "CPU p50", "DEL p50", "p95", &ratio, "CPU p50"];
        let mut table = Table::new(head);
        let first = lines.clone().next().map(|(_, first)| first);
        for (name, line) in lines {
            let first = first.unwrap_or(line);
            table.row([
                name.to_owned(),
                ms(line.add.p50_ms),
                ms(line.add.p95_ms),
                times(line.add.p50_ms, first.add.p50_ms),
                ms(line.add_cpu.p50_ms),
                ms(line.del.p50_ms),
                ms(line.del.p95_ms),
                times(line.del.p50_ms, first.del.p50_ms),
                ms(line.del_cpu.p50_ms),
            ]);
        }
        table
    }
}

/// A process under way.
struct Running {
    child: Child,
    told: String,
    stdout: File,
    stderr: File,
}

impl Running {
    fn start(mut command: Command, input: File) -> Self {
        let told = format!("{command:?}");
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdin(input).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let child = command.spawn().unwrap_or_else(|e| panic!("{told}: {e}"));
        Self { child, told, stdout, stderr }
    }

    /// What it printed, if it succeeded.
    fn judge(self, succeeded: bool) -> Vec<u8> {
        let out = content(self.stdout);
        let words = || format!("{}\n{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&content(self.stderr)));
        assert!(succeeded, "a call failed; nothing is measured.\n{}\n{}", self.told, words());
        out
    }
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// Runs a call: its cost, and what it printed.
pub fn run(call: Call) -> (Cost, Vec<u8>) {
    let input = file_of(&call.stdin);
    let before = cpu_of_children();
    let began = Instant::now();
    let mut running = Running::start(call.command, input);
    let status = running.child.wait().unwrap();
    let cost = Cost { elapsed: began.elapsed(), cpu: cpu_of_children() - before };
    (cost, running.judge(status.success()))
}

/// What a record costs on this disk, without the plugin.
pub fn synced_writes(dir: &Path, count: usize) -> Vec<Duration> {
    let path = dir.join("sync");
    let once = |_| {
        let began = Instant::now();
        let mut file = File::create(&path).unwrap();
        file.write_all(&[b'x'; 2048]).unwrap();
        file.sync_data().unwrap();
        let elapsed = began.elapsed();
        fs::remove_file(&path).unwrap();
        elapsed
    };
    (0..count).map(once).collect()
}

/// The largest VmHWM, in KiB, of the program and of everything that it starts, each read at its exit; and what it printed.
/// What wait4 reports is no use: a child's figure begins with its parent's.
pub fn peak_rss(call: Call) -> (u64, Vec<u8>) {
    // The shell stops itself, so that the program it becomes is watched from its first instruction.
    let mut stopped = program::command("sh");
    stopped
        .args(["-c", r#"kill -STOP $$; exec "$0" "$@""#])
        .arg(call.command.get_program())
        .args(call.command.get_args());
    same_environment(&mut stopped, &call.command);
    let running = Running::start(stopped, file_of(&call.stdin));
    let first = Pid::from_raw(running.child.id().try_into().unwrap());
    waitpid(first, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let births = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(first, Options::PTRACE_O_TRACEEXIT | births).unwrap();
    kill(first, Signal::SIGCONT).unwrap();
    let mut peak = 0;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == Event::PTRACE_EVENT_EXIT as i32 {
                    peak = peak.max(high_water(pid));
                }
                // A thread may be gone: its process has ended.
                let _ = ptrace::cont(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                let _ = ptrace::cont(pid, Some(signal).filter(|s| *s != Signal::SIGTRAP));
            }
            WaitStatus::Exited(pid, code) if pid == first => return (peak, running.judge(code == 0)),
            WaitStatus::Signaled(pid, ..) if pid == first => return (peak, running.judge(false)),
            _ => {}
        }
    }
}

/// 0 where the process has no memory any more.
fn high_water(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

fn same_environment(to: &mut Command, from: &Command) {
    to.env_clear().envs(from.get_envs().filter_map(|(name, value)| Some((name, value?))));
}

/// What a call and everything that it starts ask of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Programs executed, the first included.
    pub programs: usize,
    /// System calls.
    pub calls: usize,
    /// Of these, those that wait for the disk.
    pub synced: usize,
}

impl std::ops::AddAssign for Asked {
    fn add_assign(&mut self, other: Self) {
        self.programs += other.programs;
        self.calls += other.calls;
        self.synced += other.synced;
    }
}

/// Runs a call under strace: what it asks of the kernel, and what it printed.
pub fn ask(call: Call, trace: &Path) -> (Asked, Vec<u8>) {
    let mut traced = program::command("strace");
    traced.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(trace);
    traced.arg(call.command.get_program()).args(call.command.get_args());
    same_environment(&mut traced, &call.command);
    traced.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let (_, out) = run(Call { command: traced, stdin: call.stdin });
    (count(&fs::read_to_string(trace).unwrap()), out)
}

/// Counts the lines of `strace -f -o`: `PID NAME(ARGUMENTS) = RESULT`, some of them in two parts.
fn count(trace: &str) -> Asked {
    let mut asked = Asked::default();
    for line in trace.lines() {
        let text = line.split_once(' ').map_or("", |(_, text)| text.trim_start());
        let resumed = text.starts_with("<... ");
        let name = text.trim_start_matches("<... ").split(['(', ' ']).next().unwrap_or_default();
        if name.is_empty() || text.starts_with("+++") || text.starts_with("---") {
            continue;
        }
        asked.programs += usize::from(name == "execve" && text.ends_with("= 0"));
        asked.calls += usize::from(!resumed);
        asked.synced += usize::from(!resumed && SYNCS.contains(&name));
    }
    asked
}

const SYNCS: [&str; 6] = ["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_counted_once_and_programs_where_they_began() {
        let trace = "\
7 execve(\"/p\", [\"/p\"], 0x7 /* 3 vars */) = 0
7 openat(AT_FDCWD, \"fsync(\", O_RDONLY) = -1 ENOENT (No such file or directory)
7 vfork( <unfinished ...>
8 execve(\"/absent\", [\"x\"], 0x7 /* 3 vars */) = -1 ENOENT (No such file or directory)
8 execve(\"/q\", [\"x\"], 0x7 /* 3 vars */ <unfinished ...>
7 <... vfork resumed>)              = 8
8 <... execve resumed>)             = 0
8 fdatasync(3)                      = 0
8 exit_group(0)                     = ?
8 +++ exited with 0 +++
7 --- SIGCHLD {si_signo=SIGCHLD} ---
";
        assert_eq!(count(trace), Asked { programs: 2, calls: 7, synced: 1 });
    }

    #[test]
    fn a_call_that_fails_ends_the_bench_with_its_words() {
        let call = |text: &str| {
            let mut command = program::command("sh");
            command.args(["-c", text]);
            Call { command, stdin: b"in".to_vec() }
        };
        let (cost, out) = run(call("cat"));
        assert_eq!(out, b"in");
        assert!(cost.elapsed > Duration::ZERO);
        let failed = std::panic::catch_unwind(|| run(call("echo said; echo cried >&2; exit 3"))).unwrap_err();
        let words = failed.downcast_ref::<String>().unwrap();
        assert!(words.contains("said") && words.contains("cried"), "{words}");
    }
}
