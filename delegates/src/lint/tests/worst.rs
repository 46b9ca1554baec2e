//! The longest texts that are read at all, of whatever would make a reader slow: each is read to its end, and says what is
//! wrong with it. `--nocapture` shows how long each takes.

use std::time::Instant;

use attachments::definition::LONGEST;

use super::*;

/// A text of `head`, as many elements as fit, and `tail`.
fn filled(head: &str, element: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = head.to_owned();
    for i in 0.. {
        let next = element(i);
        if text.len() + next.len() + 1 + tail.len() > LONGEST {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(&next);
    }
    text + tail
}

fn ipam(inner: &str) -> (String, &'static str) {
    (format!(r#"{{"cniVersion":"1.0.0","type":"bridge","ipam":{{"type":"host-local",{inner}"#), "]}}")
}

#[test]
fn the_longest_texts_are_read_to_their_end() {
    let (routes, end) = ipam(r#""subnet":"10.9.0.0/24","routes":["#);
    let (one_set, set_end) = ipam(r#""ranges":[["#);
    let (sets, _) = ipam(r#""ranges":["#);
    let head = |rest: &str| format!(r#"{{"cniVersion":"1.0.0",{rest}"#);
    let long_key = head(&format!(r#""type":"macvlan","{}":["#, "k".repeat(30_000)));
    let subnet = |i: usize| format!(r#"{{"subnet":"10.{}.{}.0/28"}}"#, i / 250, i % 250);
    let cases: Vec<(&str, String, usize)> = vec![
        ("unknown keys", filled(&head(r#""type":"macvlan","#), |i| format!(r#""k{i}":0"#), "}"), 5_000),
        ("keys of a program", filled(&head(r#""type":"mine","#), |i| format!(r#""k{i}":0"#), "}"), 0),
        ("keys in objects in lists", filled(&long_key, |i| format!(r#"{{"a{i}":0}}"#), "]}"), 1),
        ("one key, often", filled(&head(r#""type":"macvlan","#), |_| r#""k":0"#.to_owned(), "}"), 1),
        (
            "objects in lists",
            filled(&head(r#""type":"bridge","vlanTrunk":["#), |_| r#"{"x":1}"#.to_owned(), "]}"),
            5_000,
        ),
        (
            "wrong settings",
            filled(
                &head(r#""plugins":[{"type":"ptp"},{"type":"tuning","sysctl":{"#),
                |i| format!(r#""k.{i}":1"#),
                "}}]}",
            ),
            4_000,
        ),
        (
            "settings",
            filled(
                &head(r#""plugins":[{"type":"ptp"},{"type":"tuning","sysctl":{"#),
                |i| format!(r#""net.{i}":"""#),
                "}}]}",
            ),
            0,
        ),
        (
            "peers",
            filled(
                &head(r#""type":"vxlan","vni":7,"peers":["#),
                |i| format!(r#""10.{}.{}.9""#, i / 250, i % 250),
                "]}",
            ),
            0,
        ),
        ("wrong peers", filled(&head(r#""type":"vxlan","vni":7,"peers":["#), |i| i.to_string(), "]}"), 1),
        (
            "routes that lead nowhere",
            filled(&routes, |i| format!(r#"{{"dst":"10.8.0.0/32","gw":"10.{}.{}.1"}}"#, i / 250, i % 250), end),
            1_000,
        ),
        ("ranges of a set", filled(&one_set, subnet, "]]}}"), 0),
        ("ranges of a set, twice", filled(&one_set, |i| subnet(i / 2), "]]}}"), 1_000),
        ("sets", filled(&sets, |i| format!("[{}]", subnet(i)), set_end), 0),
        ("sets, twice", filled(&sets, |i| format!("[{}]", subnet(i / 2)), set_end), 1_000),
        (
            "addresses",
            filled(
                &head(r#""type":"bridge","ipam":{"type":"static","addresses":["#),
                |i| format!(r#"{{"address":"10.{}.{}.9"}}"#, i / 250, i % 250),
                "]}}",
            ),
            1_000,
        ),
        (
            "capabilities",
            filled(&head(r#""type":"macvlan","capabilities":{"#), |i| format!(r#""c{i}":0"#), "}}"),
            5_000,
        ),
        ("versions", filled(r#"{"type":"macvlan","cniVersions":["#, |_| "7".to_owned(), "]}"), 10_000),
    ];
    for (what, text, least) in cases {
        assert!(text.len() <= LONGEST && text.len() > LONGEST - 200, "{what}: {} bytes", text.len());
        let started = Instant::now();
        let problems = config(&text, Origin::Definition);
        println!("{what}: {} problems in {:?}", problems.len(), started.elapsed());
        assert!(problems.len() >= least, "{what}: {} problems: {:?}", problems.len(), problems.first());
        let said: usize = problems.iter().map(|problem| problem.path.len() + problem.message().len()).sum();
        assert!(said < 8 << 20, "{what}: {said} bytes are said");
    }
    let longer = " ".repeat(LONGEST + 1);
    assert_eq!(config(&longer, Origin::Definition)[0].rule, Some(Rule::ConfigSize));
}
