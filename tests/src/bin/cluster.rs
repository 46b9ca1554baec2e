//! `cluster up`, `cluster down`: what `make cluster` and `make cluster-down` run. `hold` and `relay` are processes of a
//! cluster, started by its maker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fixture that fails ends with its reason")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use meta_cni_tests::cluster::relay;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::waitpid;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["hold"] => hold(false),
        ["hold", "--until-killed"] => hold(true),
        ["relay", own, target] => relay::serve(own.parse().unwrap(), target.parse().unwrap()),
        _ => {
            eprintln!("usage: cluster up | down");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Pid 1 of a space: mounts its /proc, takes the children that others leave, and ends when the pipe on stdin breaks.
fn hold(until_killed: bool) -> ! {
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    let boot = Path::new("/etc/boot-id");
    if boot.is_file() {
        let over = "/proc/sys/kernel/random/boot_id";
        mount(Some(boot), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
    let mut stdout = std::io::stdout();
    stdout.write_all(b"held\n").unwrap();
    stdout.flush().unwrap();
    if !until_killed {
        thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
    }
    loop {
        if waitpid(None, None) == Err(Errno::ECHILD) {
            // Nothing wakes it up when a first child is given to it: look again now and then.
            thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}
