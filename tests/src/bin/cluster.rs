//! `cluster up`, `cluster down`: what `make cluster` and `make cluster-down` run. `hold` and `relay` are processes of a
//! cluster, started by its maker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fixture that fails ends with its reason")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use meta_cni_tests::cluster::{Cluster, Settings, place, relay, take_down};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// Name of the cluster that `up` leaves running.
const NAME: &str = "cluster";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["up"] => up(3),
        ["up", nodes] => match nodes.parse() {
            Ok(nodes @ 1..=200) => up(nodes),
            _ => return refuse(&format!("nodes: got {nodes:?}, want 1 to 200")),
        },
        ["down"] if take_down(NAME) => println!("the cluster is gone"),
        ["down"] => println!("no cluster is there"),
        ["hold", .., "--until-killed"] => hold(|| {
            loop {
                thread::park();
            }
        }),
        ["hold"] => hold(until_orphaned),
        ["hold", "--remove", dir, name] => {
            let (dir, name) = (PathBuf::from(dir), (*name).to_owned());
            hold(move || {
                until_orphaned();
                // Everything else in this pid namespace; it would write into the directory.
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                place::remove(&dir, &name);
            });
        }
        ["relay", own, target] => relay::serve(own.parse().unwrap(), target.parse().unwrap()),
        _ => return refuse("usage: cluster up [NODES] | down"),
    }
    ExitCode::SUCCESS
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}

fn up(nodes: u8) {
    // The reason of a failure is all that a user needs.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{}", panic.payload().downcast_ref::<String>().map_or("cluster up failed", String::as_str))
    }));
    let settings = Settings { name: Some(NAME.to_owned()), lasting: true, ..Settings::default() };
    let cluster = Cluster::start_with(nodes, settings);
    let kubeconfig = cluster.plane().kubeconfig();
    println!("export KUBECONFIG={}", kubeconfig.display());
    cluster.leave();
}

fn until_orphaned() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// Pid 1 of a space: mounts its /proc, takes the children that others leave, and ends, and everything with it, when
/// `life` is over.
fn hold(life: impl FnOnce() + Send + 'static) -> ! {
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    cover(Path::new("/etc/proc-sys"), Path::new("/proc/sys"));
    let mut stdout = std::io::stdout();
    stdout.write_all(b"held\n").unwrap();
    stdout.flush().unwrap();
    thread::spawn(|| {
        life();
        std::process::exit(0);
    });
    loop {
        if waitpid(None, None) == Err(Errno::ECHILD) {
            // Nothing wakes it up when a first child is given to it: look again now and then.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Mounts every file below `from` over the file of that path below `to`.
fn cover(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            cover(&from, &to);
        } else if to.exists() {
            mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        }
    }
}
