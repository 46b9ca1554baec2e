//! `make bench-webhook`: the shipped webhook on one CPU beside a real API server with 1,000 definitions and 5,000 pods. How long it takes
//! to get ready, what it holds, how late it answers at a steady rate of reviews, and whether a burst of creates loses one.
//!
//! A review that is lost or answered wrongly fails the bench; a time never does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that fails stops and says where")]

mod cluster;
mod figures;
mod load;
mod objects;
mod storm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use cluster::{Cluster, Webhook};
use figures::{Burst, Figures, Steady};
use load::Question;
use meta_cni_tests::pages;

const USAGE: &str = "\
bench-webhook PROGRAM [--starts N] [--rate N] [--seconds N] [--json FILE] [--docs ROOT]
  PROGRAM       the webhook as it is shipped
  --starts N    cold starts (5)
  --rate N      reviews a second (500)
  --seconds N   for how long (20)
  --json FILE   also as JSON
  --docs ROOT   also into docs/performance.md of the repository there";

/// Creates of the burst, and how many are due in a second.
const BURST: (usize, u32) = (2000, 400);
/// Reviews before anything counts, in seconds.
const WARM_UP: usize = 2;

fn main() -> ExitCode {
    let words = match Words::read(std::env::args().skip(1)) {
        Ok(words) => words,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let before = load_average();
    let cluster = Cluster::start(words.program.clone());
    // The first one makes certificates.
    let (first, _) = cluster.webhook();
    let authority = cluster.authority();
    first.stop();
    let mut starts = Vec::new();
    for _ in 1..words.starts {
        let (webhook, start) = cluster.webhook();
        starts.push(start);
        webhook.stop();
    }
    let (webhook, start) = cluster.webhook();
    starts.push(start);
    eprintln!("ready after {starts:?}");
    sleep(Duration::from_secs(3));
    let at_rest = webhook.memory();
    let steady = steady(&cluster, &webhook, &authority, words.rate, words.seconds);
    let burst = burst(&cluster, &webhook);
    let figures = Figures { starts, at_rest, steady, burst, at_end: webhook.memory(), machine: machine(&before) };
    println!("{}\n\n{}", figures.machine, figures.table().text().trim_end());
    if let Some(path) = &words.json {
        fs::write(path, serde_json::to_string_pretty(&figures.json()).unwrap() + "\n").unwrap();
    }
    if let Some(root) = &words.docs {
        let text = format!("{}\n\n{}", figures.machine, figures.table().markdown());
        pages::put(&root.join("docs/performance.md"), "webhook", &text).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    if figures.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reviews at a rate, after some that do not count.
fn steady(cluster: &Cluster, webhook: &Webhook<'_>, authority: &[u8], rate: u32, seconds: usize) -> Steady {
    eprintln!("{rate} reviews a second for {seconds} s");
    let questions = |round: usize, seconds: usize| -> Vec<Question> {
        let question = |number: usize| {
            let made = objects::made(round, number);
            Question::new(&made, objects::review(&made, number))
        };
        (0..seconds * rate as usize).map(question).collect()
    };
    load::ask(&cluster.plane, authority, &questions(1, WARM_UP), rate);
    let measured = questions(2, seconds);
    let cpu = webhook.cpu();
    let (count, within) = within(webhook);
    let answers = load::ask(&cluster.plane, authority, &measured, rate);
    let cpu = webhook.cpu() - cpu;
    let (count, within) = (self::within(webhook).0 - count, self::within(webhook).1 - within);
    for said in answers.lost.iter().chain(&answers.wrong).take(5) {
        eprintln!("{said}");
    }
    Steady { rate, seconds, answers, cpu, within_5ms: within / count, memory: webhook.memory() }
}

/// Reviews that the webhook has answered by its own count, and those of them that took 5 ms at most from request to answer.
fn within(webhook: &Webhook<'_>) -> (f64, f64) {
    let of = |webhook_name: &str| {
        let row = |suffix: &str| format!("webhook_duration_seconds_{suffix}{{webhook=\"{webhook_name}\"");
        (webhook.metric(&row("count")), webhook.metric(&(row("bucket") + ",le=\"0.005\"")))
    };
    ["nads", "pods", "templates"].map(of).into_iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Creates at the API server, faster than anybody does it by hand.
fn burst(cluster: &Cluster, webhook: &Webhook<'_>) -> Burst {
    eprintln!("{} creates, {} due in a second", BURST.0, BURST.1);
    // What is only a template is not what a burst is made of.
    let made = (0..).map(|number| objects::made(9, number)).filter(|made| made.webhook != "templates");
    let made: Vec<_> = made.take(BURST.0).collect();
    let answered = || webhook.metric("webhook_requests_total{");
    let before = answered();
    let asked = storm::create(&cluster.plane, made.iter().map(|made| made.object.clone()).collect(), Some(BURST.1));
    let reached = answered() - before;
    let mut wrong = Vec::new();
    for (made, asked) in made.iter().zip(&asked) {
        let is_right = if made.is_good {
            asked.code == 201
        } else {
            asked.code == 422 && asked.said.contains("meta-cni.io\" denied")
        };
        if !is_right {
            wrong.push(format!("{} {}: {} {}", made.webhook, made.object["metadata"]["name"], asked.code, asked.said));
        }
    }
    wrong.iter().take(5).for_each(|said| eprintln!("{said}"));
    let took = asked.iter().map(|asked| asked.at).max().unwrap_or_default();
    // Counts are whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let lost = BURST.0.saturating_sub(reached as usize);
    Burst { creates: BURST.0, took, lost, wrong: wrong.len() }
}

fn machine(before: &str) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.trim().split('-').next().unwrap_or_default().to_owned();
    let cpus = std::thread::available_parallelism().unwrap();
    let after = load_average();
    format!("Linux {release}, {cpus} CPUs; load average at the start {before}, at the end {after}.")
}

fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap_or_default().to_owned()
}

/// The command line.
struct Words {
    program: PathBuf,
    starts: usize,
    rate: u32,
    seconds: usize,
    json: Option<PathBuf>,
    docs: Option<PathBuf>,
}

impl Words {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let program = words.next().filter(|word| !word.starts_with('-')).ok_or("got no PROGRAM")?;
        let program = Path::new(&program).canonicalize().map_err(|e| format!("{program}: {e}"))?;
        let mut read = Self { program, starts: 5, rate: 500, seconds: 20, json: None, docs: None };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word}: got nothing behind it, want a value"))?;
            let number = || match value.parse::<u32>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{word}: got {value:?}, want a number above 0")),
            };
            match word.as_str() {
                "--starts" => read.starts = number()? as usize,
                "--rate" => read.rate = number()?,
                "--seconds" => read.seconds = number()? as usize,
                "--json" => read.json = Some(value.into()),
                "--docs" => read.docs = Some(value.into()),
                _ => return Err(format!("got {word} {value}")),
            }
        }
        Ok(read)
    }
}
