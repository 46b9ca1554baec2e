//! What the kernel says of this process.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::text::{Family, Text};

/// The families, under the names that every client library gives them.
pub const FAMILIES: [Family; 4] = [
    Family { name: "process_cpu_seconds_total", kind: "counter", help: "Processor time of the agent." },
    Family { name: "process_resident_memory_bytes", kind: "gauge", help: "Resident memory of the agent." },
    Family { name: "process_open_fds", kind: "gauge", help: "Open file descriptors of the agent." },
    Family { name: "process_start_time_seconds", kind: "gauge", help: "When the agent began, since 1970." },
];

/// Writes them. What cannot be read is left out.
pub fn write(text: &mut Text) {
    let [cpu, memory, fds, start] = &FAMILIES;
    let setting = |name| sysconf(name).ok().flatten().filter(|value| *value > 0);
    let ticks = setting(SysconfVar::CLK_TCK).map_or(100.0, |ticks| ticks as f64);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name, in which anything may stand.
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|one| one.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        text.one(cpu, (user + system) as f64 / ticks);
    }
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    if let (Some(pages), Some(size)) = (resident, setting(SysconfVar::PAGE_SIZE)) {
        text.one(memory, pages * u64::try_from(size).unwrap_or_default());
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The directory itself is one of them.
        text.one(fds, open.count().saturating_sub(1));
    }
    if let (Some(began), Some(boot)) = (field(22), booted()) {
        text.one(start, boot as f64 + began as f64 / ticks);
    }
}

fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.finish();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#')).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e5 && value("process_open_fds") >= 3.0, "{text}");
        assert!(value("process_start_time_seconds") > 1.5e9 && value("process_cpu_seconds_total") >= 0.0, "{text}");
    }
}
