//! The figures, beside what they should be.

use std::time::Duration;

use meta_cni_tests::report::{Table, ms};
use serde_json::{Value, json};

use crate::cluster::Memory;
use crate::load::Answers;

/// Everything that was measured.
pub struct Figures {
    pub starts: Vec<Duration>,
    pub at_rest: Memory,
    pub steady: Steady,
    pub burst: Burst,
    pub at_end: Memory,
    pub machine: String,
}

/// Reviews at a rate.
pub struct Steady {
    pub rate: u32,
    pub seconds: usize,
    pub answers: Answers,
    /// Processor time of the webhook.
    pub cpu: Duration,
    /// By the webhook's own clock: the part that took 5 ms at most.
    pub within_5ms: f64,
    pub memory: Memory,
}

/// Creates at the API server.
pub struct Burst {
    pub creates: usize,
    /// Until the last one was answered.
    pub took: Duration,
    /// Creates about which the webhook was not asked, or did not answer.
    pub lost: usize,
    /// Creates that ended otherwise than they should.
    pub wrong: usize,
}

impl Figures {
    /// Was every review answered, and every answer right?
    pub fn is_right(&self) -> bool {
        let answers = &self.steady.answers;
        answers.lost.is_empty() && answers.wrong.is_empty() && self.burst.lost == 0 && self.burst.wrong == 0
    }

    pub fn table(&self) -> Table {
        let steady = &self.steady;
        let mut table = Table::new(["", "measured", "budget"]);
        let mut row =
            |what: &str, measured: String, budget: &str| table.row([what.to_owned(), measured, budget.to_owned()]);
        let starts = format!("{} to {}", seconds(self.starts.iter().min()), seconds(self.starts.iter().max()));
        row(&format!("cold start until ready, {} times, s", self.starts.len()), starts, "2");
        row("memory at rest, MiB (peak; heap)", memory(self.at_rest), "40");
        let count = steady.answers.times.len();
        row(&format!("reviews, {} a second for {} s", steady.rate, steady.seconds), count.to_string(), "");
        for (name, percent, budget) in [("p50", 50, ""), ("p95", 95, ""), ("p99", 99, "5")] {
            row(&format!("answered after, {name}, ms"), ms(percentile(&steady.answers.times, percent)), budget);
        }
        row("answered after, at most, ms", ms(percentile(&steady.answers.times, 100)), "");
        row("of them within 5 ms by the webhook's clock, %", format!("{:.2}", steady.within_5ms * 100.0), "");
        row("lost, answered wrongly", format!("{}, {}", steady.answers.lost.len(), steady.answers.wrong.len()), "0, 0");
        row("one CPU's use meanwhile, %", format!("{:.0}", self.cpu_percent()), "");
        row("processor time of a review, ms", ms(steady.cpu.as_secs_f64() * 1000.0 / count as f64), "");
        row("memory after it, MiB (peak; heap)", memory(steady.memory), "40");
        let took = format!("{:.1}", self.burst.took.as_secs_f64());
        row(&format!("burst of {} creates at the API server, s", self.burst.creates), took, "5");
        row("creates lost, ended wrongly", format!("{}, {}", self.burst.lost, self.burst.wrong), "0, 0");
        row("memory at the end, MiB (peak; heap)", memory(self.at_end), "40");
        table
    }

    fn cpu_percent(&self) -> f64 {
        self.steady.cpu.as_secs_f64() / self.steady.seconds as f64 * 100.0
    }

    pub fn json(&self) -> Value {
        let of = |memory: Memory| json!({"rss_mib": memory.rss, "peak_mib": memory.peak, "heap_mib": memory.heap});
        let (steady, burst) = (&self.steady, &self.burst);
        let times = &steady.answers.times;
        json!({
            "machine": self.machine,
            "cold_starts_s": self.starts.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "at_rest": of(self.at_rest),
            "steady": {
                "rate": steady.rate, "seconds": steady.seconds, "reviews": times.len(),
                "p50_ms": percentile(times, 50), "p95_ms": percentile(times, 95), "p99_ms": percentile(times, 99), "max_ms": percentile(times, 100),
                "lost": steady.answers.lost.len(), "wrong": steady.answers.wrong.len(),
                "cpu_percent": self.cpu_percent(), "within_5ms": steady.within_5ms, "memory": of(steady.memory),
            },
            "burst": {"creates": burst.creates, "took_s": burst.took.as_secs_f64(), "lost": burst.lost, "wrong": burst.wrong},
            "at_end": of(self.at_end),
        })
    }
}

fn memory(memory: Memory) -> String {
    format!("{:.1} ({:.1}; {:.1})", memory.rss, memory.peak, memory.heap)
}

fn seconds(time: Option<&Duration>) -> String {
    format!("{:.2}", time.copied().unwrap_or_default().as_secs_f64())
}

/// A sample: so many of a hundred are not above it.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted: Vec<Duration> = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 95, 99, 100].map(|percent| percentile(&times, percent)), [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(percentile(&[Duration::from_millis(7)], 1), 7.0);
    }
}
