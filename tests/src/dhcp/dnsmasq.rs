//! dnsmasq.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::netns::Netns;
use crate::program::{self, Running};

/// A running dnsmasq; ends when it is dropped.
pub struct Dnsmasq {
    leases: PathBuf,
    log: PathBuf,
    running: Option<Running>,
}

impl Dnsmasq {
    /// Serves 10.9.0.10 to 10.9.0.199 on `up0` of a namespace for two minutes each, its shortest lease, with further arguments.
    pub fn start(netns: &Netns, more: &[&str]) -> Self {
        let beside = |end: &str| PathBuf::from(format!("{}.{end}", netns.text()));
        let (leases, log) = (beside("leases"), beside("log"));
        let mut command = netns.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=up0",
            "--bind-interfaces",
        ]);
        command.args([
            "--dhcp-range=10.9.0.10,10.9.0.199,255.255.255.0,120",
            "--no-ping",
            "--user=root",
            "--pid-file=",
        ]);
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        command.args(["--log-dhcp".to_owned(), format!("--log-facility={}", log.display())]).args(more);
        let running = Some(program::start(&mut command, b""));
        let server = Self { leases, log, running };
        for _ in 0..200 {
            if server.log().contains("DHCP, IP range") {
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("dnsmasq does not serve: {}", server.log());
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its leases, sorted: address, name and client identifier.
    pub fn leases(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.leases).unwrap_or_default();
        let words = |line: &str| line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
        let mut leases: Vec<String> = text.lines().map(words).collect();
        leases.sort();
        leases
    }

    /// Waits until it has no lease any more: it hears of a release when it comes to it.
    #[track_caller]
    pub fn has_nothing(&self) {
        for _ in 0..100 {
            if self.leases().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("leases are left: {:?}\n{}", self.leases(), self.log());
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }
}
