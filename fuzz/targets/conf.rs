//! Configurations of networks: tenants write them into definitions, and every built-in delegate reads its own keys.
#![no_main]

use attachments::cni::conf::{Injection, NetworkConf, PluginConf};
use attachments::cni::object::{Entries, fold};
use attachments::definition::LONGEST;
use attachments::text::printable;
use delegates::builtin::Builtin;
use delegates::lint::{Origin, Rule, Severity, config};
use delegates::spelling;
use libfuzzer_sys::fuzz_target;
use meta_cni_fuzz as _;

fuzz_target!(|text: &str| {
    let problems = config(text, Origin::Definition);
    for problem in &problems {
        let text = problem.to_string();
        let shown = printable(&text);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert_eq!(printable(&shown), shown, "said twice");
    }
    let is_denied = problems.iter().any(|problem| problem.severity == Severity::Deny);
    assert!(is_denied || text.len() <= LONGEST, "{} bytes were admitted", text.len());
    let long = config(&(text.to_owned() + &" ".repeat(LONGEST + 1)), Origin::Definition);
    assert!(long.iter().any(|problem| problem.rule == Some(Rule::ConfigSize)), "a text that is too long: {long:?}");
    let conf = match NetworkConf::parse(text.as_bytes()) {
        Ok(conf) => conf,
        Err(finding) => return assert!(is_denied, "admitted, and then: {finding}"),
    };
    assert!(!names_twice(text), "two names, and one of them is read");
    let network = "lan".parse().expect("a name");
    for mut plugin in conf.plugins {
        let recorded = serde_json::to_vec(&plugin).expect("plain data");
        assert_eq!(serde_json::from_slice::<PluginConf>(&recorded).expect("what was written"), plugin);
        if let Err(finding) = spelling::settle(&mut plugin, true) {
            assert!(is_denied, "admitted, and then: {finding}");
            continue;
        }
        let settled = plugin.clone();
        spelling::settle(&mut plugin, true).expect("it is settled");
        assert_eq!(plugin, settled, "settled twice");
        // What its delegate reads is without the keys that only a runtime may set.
        let request = plugin.request(&network, conf.version, &Injection::default()).expect("nothing is injected");
        let findings = Builtin::from_type(&plugin.kind).map(|builtin| builtin.validate(&request));
        let findings = findings.unwrap_or_default();
        assert!(findings.is_empty() || is_denied, "admitted, and then: {findings:?}");
    }
});

/// Has the top of the document its name in two spellings?
fn names_twice(text: &str) -> bool {
    let Ok(Entries(entries)) = serde_json::from_str(text) else { return false };
    let mut spellings: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    spellings.retain(|key| fold(key) == "name");
    spellings.windows(2).any(|two| two[0] != two[1])
}
