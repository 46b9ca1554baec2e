//! The tables, for people and as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// The middle and the upper end of a measurement, in milliseconds.
pub struct Row {
    p50: f64,
    p95: f64,
}

impl Row {
    /// From at least one duration.
    pub fn of(times: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
        Self { p50: at(50), p95: at(95) }
    }

    fn json(&self) -> Value {
        let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
        json!({"p50_ms": rounded(self.p50), "p95_ms": rounded(self.p95)})
    }
}

/// Everything that was measured, in order.
pub struct Report {
    text: String,
    json: Map<String, Value>,
}

impl Report {
    /// A report on `count` pods per contender.
    pub fn new(count: usize) -> Self {
        let head = format!(
            "A pod with eth0 and three bridge networks, host-local; {count} pods each, whole processes, milliseconds\n\n{:<46}{:>10}{:>10}{:>12}{:>10}\n",
            "", "ADD p50", "p95", "DEL p50", "p95"
        );
        Self { text: head, json: Map::from_iter([("pods".to_owned(), json!(count))]) }
    }

    /// A contender's line.
    pub fn pods(&mut self, name: &str, add: &Row, del: &Row) {
        self.text += &format!("{name:<46}{:>10.2}{:>10.2}{:>12.2}{:>10.2}\n", add.p50, add.p95, del.p50, del.p95);
        self.json.insert(name.to_owned(), json!({"ADD": add.json(), "DEL": del.json()}));
    }

    /// A measurement of one thing.
    pub fn single(&mut self, name: &str, row: &Row) {
        self.text += &format!("\n{name:<68}{:>10.2}{:>10.2}", row.p50, row.p95);
        self.json.insert(name.to_owned(), row.json());
    }

    /// A number that is no time.
    pub fn fact(&mut self, name: &str, value: Value) {
        self.text += &format!("\n{name:<68}{value:>10}");
        self.json.insert(name.to_owned(), value);
    }

    /// To stdout.
    pub fn print(&self) {
        println!("{}", self.text);
    }

    /// The same as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.json).unwrap() + "\n"
    }
}
