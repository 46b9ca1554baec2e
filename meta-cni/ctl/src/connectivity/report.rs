//! What was reached, as a table and as JSON.

use std::fmt::Write;

use attachments::text::printable;
use serde_json::{Value, json};

use super::plan::{Pair, Test};
use crate::style::{Style, Tone};

/// For people.
pub fn text(test: &Test, pairs: &[Pair], style: Style) -> String {
    let mut rows = vec![["FROM", "TO", "ADDRESS", "PING", "LARGE", "THROUGHPUT"].map(str::to_owned)];
    rows.extend(pairs.iter().map(row));
    let widths: Vec<usize> =
        (0..6).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default()).collect();
    let mut out = format!("network {}, image {}\n", printable(&test.network), printable(&test.image));
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", printable(cells.join("  ").trim_end()));
    }
    let failed = pairs.iter().filter(|pair| !pair.is_good()).count();
    let verdict =
        if failed == 0 { style.paint(Tone::Good, "all reached") } else { style.paint(Tone::Bad, "not all reached") };
    let _ = writeln!(out, "{verdict}: {} pairs, {failed} failed", pairs.len());
    out
}

fn row(pair: &Pair) -> [String; 6] {
    let time = |time: Option<f64>| time.map_or_else(|| "failed".to_owned(), |time| format!("{time:.2} ms"));
    [
        pair.from.clone(),
        pair.to.clone(),
        pair.address.clone(),
        time(pair.ping),
        pair.large.map_or_else(|| "-".to_owned(), time),
        pair.throughput.map_or_else(|| "-".to_owned(), |bits| format!("{:.2} Gbit/s", bits / 1e9)),
    ]
}

/// For programs.
pub fn json(test: &Test, pairs: &[Pair]) -> String {
    let pair = |one: &Pair| {
        json!({
            "from": one.from, "to": one.to, "address": one.address, "pingMilliseconds": one.ping,
            "largePingMilliseconds": one.large.flatten(), "isMtuKnown": one.large.is_some(), "bitsPerSecond": one.throughput, "good": one.is_good(),
        })
    };
    let all =
        json!({"network": test.network, "image": test.image, "pairs": pairs.iter().map(pair).collect::<Vec<Value>>()});
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_pair() {
        let test = Test {
            id: "x".into(),
            namespace: "shop".into(),
            network: "shop/blue".into(),
            image: "busybox".into(),
            count: 3,
        };
        let pair = |to: &str, ping, large, throughput| Pair {
            from: "n1".into(),
            to: to.into(),
            address: "10.42.0.1".into(),
            ping,
            large,
            throughput,
        };
        let pairs = [
            pair("n1", Some(0.1), Some(Some(0.25)), Some(9.5e9)),
            pair("node2", None, Some(None), None),
            pair("n3", Some(1.0), None, None),
        ];
        let want = "\
network shop/blue, image busybox
FROM  TO     ADDRESS    PING     LARGE    THROUGHPUT
n1    n1     10.42.0.1  0.10 ms  0.25 ms  9.50 Gbit/s
n1    node2  10.42.0.1  failed   failed   -
n1    n3     10.42.0.1  1.00 ms  -        -
not all reached: 3 pairs, 1 failed
";
        assert_eq!(text(&test, &pairs, Style::Plain), want);
        assert!(text(&test, &pairs[..1], Style::Plain).ends_with("all reached: 1 pairs, 0 failed\n"));
    }
}
