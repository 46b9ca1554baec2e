//! How long a process takes, how much memory it held, what it started.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meta_cni_tests::program;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn spawn(command: &mut Command, stdin: File) -> Child {
    command.stdin(stdin).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn end(child: &mut Child, command: &Command) {
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// From before the start to after the end of a process, which must succeed.
pub fn time(command: &mut Command, stdin: &[u8]) -> Duration {
    let input = file_of(stdin);
    let began = Instant::now();
    let mut child = spawn(command, input);
    let status = child.wait().unwrap();
    let elapsed = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    elapsed
}

/// From before the first start to after the last end.
pub fn time_together(mut commands: Vec<Command>, stdin: &[u8]) -> Duration {
    let inputs: Vec<File> = commands.iter().map(|_| file_of(stdin)).collect();
    let began = Instant::now();
    let mut children: Vec<Child> =
        commands.iter_mut().zip(inputs).map(|(command, input)| spawn(command, input)).collect();
    for (child, command) in children.iter_mut().zip(&commands) {
        end(child, command);
    }
    began.elapsed()
}

/// What a record costs on this disk, without the plugin.
pub fn synced_writes(dir: &Path, count: usize) -> Vec<Duration> {
    let (temporary, path) = (dir.join("sync.tmp"), dir.join("sync"));
    let once = |_| {
        let began = Instant::now();
        let mut file = File::create(&temporary).unwrap();
        file.write_all(&[b'x'; 2048]).unwrap();
        file.sync_all().unwrap();
        fs::rename(&temporary, &path).unwrap();
        File::open(dir).unwrap().sync_all().unwrap();
        began.elapsed()
    };
    (0..count).map(once).collect()
}

/// VmHWM of a program at its exit, in KiB. What wait4 reports is no use: a child's figure begins with its parent's.
pub fn peak_rss(command: &Command, stdin: &[u8]) -> u64 {
    // The shell stops itself, so that the program it becomes is watched from its first instruction.
    let mut stopped = program::command("sh");
    stopped.args(["-c", r#"kill -STOP $$; exec "$0""#]).arg(command.get_program());
    stopped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    #[expect(clippy::zombie_processes, reason = "waitpid below sees its end, and every stop before it")]
    let child = spawn(&mut stopped, file_of(stdin));
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let mut peak = 0;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceEvent(_, _, event) => {
                if event == ptrace::Event::PTRACE_EVENT_EXIT as i32 {
                    peak = high_water(pid);
                }
                ptrace::cont(pid, None).unwrap();
            }
            WaitStatus::Stopped(_, signal) => {
                ptrace::cont(pid, Some(signal).filter(|s| *s != Signal::SIGTRAP)).unwrap()
            }
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "{command:?}");
                return peak;
            }
            other => panic!("{command:?}: {other:?}"),
        }
    }
}

fn high_water(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many programs a command executes, itself included.
pub fn programs(command: &Command, stdin: &[u8], trace: &Path) -> usize {
    let mut traced = program::command("strace");
    traced.args(["-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o"]).arg(trace);
    traced.arg(command.get_program()).args(command.get_args());
    traced.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut child = spawn(&mut traced, file_of(stdin));
    end(&mut child, &traced);
    fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains("execve") && line.contains("= 0")).count()
}
