//! `make bench-overlay`: what an overlay of ours carries, beside a vxlan that is made by hand with `ip`, in one run.
//!
//! Two nodes are network namespaces with a wire between them, a pod on each in both overlays. Rounds take turns, and the ratio of
//! each round counts: whatever else the machine does then concerns both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that fails stops and says where")]

mod nodes;

use std::path::PathBuf;
use std::time::Duration;

use meta_cni_tests::report::Table;
use serde_json::{Value, json};

use nodes::{Overlay, Pair};

/// Rounds before anything counts.
const WARM_UP: usize = 1;

struct Arguments {
    rounds: usize,
    seconds: u32,
    json: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut given = Arguments { rounds: 7, seconds: 3, json: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => given.rounds = value().parse().unwrap(),
            "--seconds" => given.seconds = value().parse().unwrap(),
            "--json" => given.json = Some(value().into()),
            other => panic!("got {other}, want --rounds, --seconds or --json"),
        }
    }
    given
}

/// The overlays by turns.
const ALL: [Overlay; 2] = [Overlay::Ours, Overlay::ByHand];

fn main() {
    let Arguments { rounds, seconds, json } = arguments();
    let dir = tempfile::TempDir::with_prefix("meta-cni-bench-overlay-").unwrap();
    let pair = Pair::new(dir.path());
    for overlay in ALL {
        assert!(pair.answers(overlay), "{overlay:?}: the first packet is answered");
    }
    let (mut rates, mut trips) = (vec![[0.0; 2]; rounds], vec![[0.0; 2]; rounds]);
    for round in 0..WARM_UP + rounds {
        for turn in 0..ALL.len() {
            let which = (round + turn) % ALL.len();
            let (rate, trip) = (pair.throughput(ALL[which], seconds), pair.round_trip(ALL[which]));
            if let Some(counted) = round.checked_sub(WARM_UP) {
                rates[counted][which] = rate;
                trips[counted][which] = trip;
            }
        }
    }
    let (rate, trip) = (Figures::of(&rates), Figures::of(&trips));
    let mut table = Table::new(["median of rounds", "ours", "by hand", "ours / by hand", "worst round"]);
    let row = |name: &str, figures: &Figures, worst: f64| {
        let [ours, by_hand] = figures.medians.map(|value| format!("{value:.2}"));
        [name.to_owned(), ours, by_hand, format!("{:.3}", figures.ratio), format!("{worst:.3}")]
    };
    table.row(row("TCP, Gbit/s", &rate, rate.ratios[0]));
    table.row(row("round trip, µs", &trip, *trip.ratios.last().unwrap()));
    println!("{}", table.text());
    if let Some(path) = json {
        let results: Value = json!({"throughput_gbps": rates, "round_trip_us": trips, "ratios": {"throughput": rate.ratio, "round_trip": trip.ratio}});
        std::fs::write(path, results.to_string()).unwrap();
    }
}

/// What rounds say.
struct Figures {
    /// Ours, by hand.
    medians: [f64; 2],
    /// Median of the rounds' ratios.
    ratio: f64,
    /// Every round's, in order.
    ratios: Vec<f64>,
}

impl Figures {
    fn of(rounds: &[[f64; 2]]) -> Self {
        let sorted = |of: &dyn Fn(&[f64; 2]) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let middle = |all: &[f64]| all[all.len() / 2];
        let ratios = sorted(&|round| round[0] / round[1]);
        Self { medians: [0, 1].map(|which| middle(&sorted(&|round| round[which]))), ratio: middle(&ratios), ratios }
    }
}

/// Nothing here takes nearly as long.
const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let figures = Figures::of(&[[1.0, 2.0], [10.0, 10.0], [9.0, 3.0]]);
        assert_eq!((figures.medians, figures.ratio, figures.ratios.len()), ([9.0, 3.0], 1.0, 3));
    }
}
