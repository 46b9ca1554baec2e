//! How many bytes the node's links have received: what a dialect chooses the least busy network by.

use std::fs;
use std::thread;
use std::time::Duration;

use attachments::dialect::genie::Genie;
use attachments::names::ConfName;

use crate::fault::{Fault, Result};

/// Between two counts, where nobody has counted before.
const WINDOW: Duration = Duration::from_millis(200);

/// The links of this thread's network namespace, each with the bytes that it has received.
pub fn received() -> Result<Vec<(String, u64)>> {
    const FILE: &str = "/proc/thread-self/net/dev";
    let text = fs::read_to_string(FILE).map_err(|e| Fault::Io(format!("cannot read {FILE}: {e}")))?;
    Ok(read(&text))
}

/// The least busy network by two counts a moment apart.
pub fn least_loaded(genie: &Genie) -> Result<ConfName> {
    let before = received()?;
    thread::sleep(WINDOW);
    choose(genie, &before)
}

/// The same since an earlier count.
pub fn choose(genie: &Genie, before: &[(String, u64)]) -> Result<ConfName> {
    genie.least_loaded(before, &received()?).cloned().ok_or_else(|| {
        let all = genie.load_prefixes.iter();
        let classes: Vec<_> = all.map(|class| format!("{} ({}*)", class.plugin, class.prefixes.join("*, "))).collect();
        let known = classes.join(", ");
        Fault::TryLater(format!(
            "cni: got \"\", and no link of the node belongs to a network of genie.loadPrefixes: {known}; want the name of a network"
        ))
    })
}

/// Lines of `NAME: BYTES ...` below two lines of headings.
fn read(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        Some((name.trim().to_owned(), counters.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    lo: 1240      12    0    0    0     0          0         0     1240\ncali0123456789a:77 1 0 0\n";
        assert_eq!(read(text), [("lo".to_owned(), 1240), ("cali0123456789a".to_owned(), 77)]);
        assert!(received().unwrap().iter().any(|(name, _)| name == "lo"));
    }

    #[test]
    fn a_node_without_such_links_says_which_it_looked_for() {
        let genie = Genie { load_prefixes: Genie::default().load_prefixes, ..Genie::default() };
        let none = Genie {
            load_prefixes: genie
                .load_prefixes
                .into_iter()
                .map(|mut class| {
                    class.prefixes = vec!["no-such-".to_owned()];
                    class
                })
                .collect(),
            ..Genie::default()
        };
        let fault = choose(&none, &[]).unwrap_err();
        assert_eq!(fault.code(), 11);
        assert!(fault.to_string().contains("weave (no-such-*)"), "{fault}");
    }
}
