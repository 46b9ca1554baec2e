//! What the kernel says of this process, under the names that every client library gives it.

use std::fmt;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The collector. What cannot be read is left out.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tell = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let setting = |name| sysconf(name).ok().flatten().filter(|value| *value > 0);
        let ticks = setting(SysconfVar::CLK_TCK).map_or(100.0, |ticks| ticks as f64);
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name, in which anything may stand.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|one| one.parse().unwrap_or(0))
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        if let (Some(user), Some(system)) = (field(14), field(15)) {
            let seconds = (user + system) as f64 / ticks;
            tell("process_cpu_seconds", "Processor time of the agent", &ConstCounter::new(seconds))?;
        }
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<i64>().ok());
        if let (Some(pages), Some(size)) = (resident, setting(SysconfVar::PAGE_SIZE)) {
            tell("process_resident_memory_bytes", "Resident memory of the agent", &ConstGauge::new(pages * size))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory itself is one of them.
            let open = super::level(open.count().saturating_sub(1) as u64);
            tell("process_open_fds", "Open file descriptors of the agent", &ConstGauge::new(open))?;
        }
        if let (Some(began), Some(boot)) = (field(22), booted()) {
            let since = boot as f64 + began as f64 / ticks;
            tell("process_start_time_seconds", "When the agent began, since 1970", &ConstGauge::new(since))?;
        }
        Ok(())
    }
}

fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
