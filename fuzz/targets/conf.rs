//! Configurations of networks: tenants write them into definitions, and every built-in delegate reads its own keys.
#![no_main]

use attachments::cni::conf::{Injection, NetworkConf, PluginConf};
use delegates::builtin::Builtin;
use delegates::lint::{Origin, Severity, config};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let problems = config(text, Origin::Definition);
    let is_denied = problems.iter().any(|problem| problem.severity == Severity::Deny);
    let conf = match NetworkConf::parse(text.as_bytes()) {
        Ok(conf) => conf,
        Err(finding) => return assert!(is_denied, "admitted, and then: {finding}"),
    };
    let network = "lan".parse().expect("a name");
    for plugin in &conf.plugins {
        let _ = plugin.request(&network, conf.version, &Injection::default());
        let recorded = serde_json::to_vec(plugin).expect("plain data");
        assert_eq!(serde_json::from_slice::<PluginConf>(&recorded).expect("what was written"), *plugin);
        let findings = Builtin::from_type(&plugin.kind).map(|builtin| builtin.validate(&plugin.object));
        let findings = findings.unwrap_or_default();
        assert!(findings.is_empty() || is_denied, "admitted, and then: {findings:?}");
    }
});
