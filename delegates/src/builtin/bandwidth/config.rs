//! The configuration of `bandwidth`: the keys of the reference plugin, in bits, and what the kernel makes of them.

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::selection::BANDWIDTH;

use crate::builtin::keys::Keys;
use crate::nl::traffic::{Burst, TokenBucket};

pub(super) const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
const RATE: &str = "0 for no limit, or an integer of at least 8: bits per second";
const BURST: &str = "0 for no limit, or an integer from 8 to 34359738359: bits";
/// A packet waits no longer than this, in parts of a second.
const LATENCY: u64 = 40;

/// The limits of an attachment, seen from the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::builtin) struct Config {
    /// What the pod receives.
    pub ingress: Option<Limit>,
    /// What the pod sends.
    pub egress: Option<Limit>,
}

/// A limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::builtin) struct Limit {
    /// Per second.
    pub rate: u64,
    /// At once.
    pub burst: u32,
}

impl Limit {
    /// The bucket that the reference plugin makes. Where its number of ticks would be none, or lose its upper bits, the
    /// kernel is told bytes instead.
    pub fn bucket(self) -> TokenBucket {
        let microseconds = u128::from(self.burst) * 1_000_000 / u128::from(self.rate);
        // A tick of the kernel's is 64 ns.
        let burst = match u32::try_from(microseconds * 125 / 8) {
            Ok(ticks) if ticks > 0 => Burst::Ticks(ticks),
            _ => Burst::Bytes(self.burst),
        };
        let limit = (self.rate / LATENCY).saturating_add(self.burst.into());
        TokenBucket { rate: self.rate, limit: u32::try_from(limit).unwrap_or(u32::MAX), burst }
    }
}

impl Config {
    /// The keys of the configuration; `runtimeConfig.bandwidth` only where it has none of them.
    pub(in crate::builtin) fn read(conf: &Object) -> Result<Self, Vec<Finding>> {
        let mut keys = Keys::of(conf);
        let runtime = keys.keep(conf.object("runtimeConfig")).unwrap_or_default();
        let given = keys.keep(runtime.object("bandwidth").map_err(|e| e.under("runtimeConfig"))).unwrap_or_default();
        let given = BANDWIDTH.read(&given).map_err(|e| vec![e.under("runtimeConfig.bandwidth")])?.into_owned();
        let is_inline = KEYS.iter().any(|key| conf.get(key).is_some());
        let (source, path) = if is_inline { (conf, "") } else { (&given, "runtimeConfig.bandwidth") };
        let mut limit = |rate, burst| match read_limit(source, rate, burst) {
            Ok(limit) => limit,
            Err(findings) => {
                findings.into_iter().for_each(|finding| keys.refuse(finding.under(path)));
                None
            }
        };
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = KEYS;
        let config = Self { ingress: limit(ingress_rate, ingress_burst), egress: limit(egress_rate, egress_burst) };
        keys.finish(config)
    }
}

fn read_limit(source: &Object, rate_key: &str, burst_key: &str) -> Result<Option<Limit>, Vec<Finding>> {
    let mut keys = Keys::of(source);
    let mut bytes = |key: &str, allowed: &str, most: u64| {
        let bits = keys.keep(source.decode::<u64>(key, allowed)).unwrap_or_default();
        if (1..8).contains(&bits) || bits / 8 > most {
            keys.refuse(Finding::new(key, bits, allowed));
        }
        bits / 8
    };
    let rate = bytes(rate_key, RATE, u64::MAX);
    // The reference plugin refuses 4 GiB and more.
    let burst = bytes(burst_key, BURST, u64::from(u32::MAX) - 1);
    for (here, there, key, other) in [(rate, burst, rate_key, burst_key), (burst, rate, burst_key, rate_key)] {
        if here == 0 && there != 0 && source.get(key).is_none_or(|value| value.get() == "0") {
            keys.refuse(Finding::missing(key, format!("a value, because {other} has one")));
        }
    }
    let limit = u32::try_from(burst).ok().filter(|_| rate != 0).map(|burst| Limit { rate, burst });
    keys.finish(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::Builtin;

    fn findings(conf: &str) -> Vec<String> {
        let conf = Object::parse(conf.as_bytes()).unwrap();
        Builtin::Bandwidth.validate(&conf).iter().map(Finding::to_string).collect()
    }

    fn read(conf: &str) -> Config {
        Config::read(&Object::parse(conf.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn limits_are_read_as_containerd_spells_them() {
        let conf = r#"{"runtimeConfig":{"bandwidth":{"IngressRate":8000,"IngressBurst":4294967295,"EgressRate":0,"EgressBurst":0}}}"#;
        assert_eq!(read(conf), Config { ingress: Some(Limit { rate: 1000, burst: 536_870_911 }), egress: None });
    }

    #[test]
    fn the_configuration_wins_over_the_runtime() {
        let runtime =
            r#""runtimeConfig":{"bandwidth":{"ingressRate":8000,"ingressBurst":800,"egressRate":16,"egressBurst":16}}"#;
        let limit = |rate, burst| Some(Limit { rate, burst });
        assert_eq!(read(&format!("{{{runtime}}}")), Config { ingress: limit(1000, 100), egress: limit(2, 2) });
        let inline = format!(r#"{{"egressRate":80,"egressBurst":8,{runtime}}}"#);
        assert_eq!(read(&inline), Config { ingress: None, egress: limit(10, 1) });
        assert_eq!(read(&format!(r#"{{"ingressRate":0,{runtime}}}"#)), Config::default(), "0 is no limit, said here");
        assert_eq!(read("{}"), Config::default());
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let wrong =
            findings(r#"{"runtimeConfig":{"bandwidth":{"ingressRate":8,"egressRate":-1,"egressBurst":34359738360}}}"#);
        assert_eq!(
            wrong,
            [
                "runtimeConfig.bandwidth.ingressBurst: missing, want a value, because ingressRate has one",
                "runtimeConfig.bandwidth.egressRate: got -1, want 0 for no limit, or an integer of at least 8: bits per second",
                "runtimeConfig.bandwidth.egressBurst: got 34359738360, want 0 for no limit, or an integer from 8 to 34359738359: bits",
            ]
        );
        assert_eq!(findings(r#"{"ingressBurst":8,"ingressRate":0}"#).len(), 1);
        assert_eq!(findings(r#"{"ingressBurst":7,"ingressRate":8}"#).len(), 1);
        assert_eq!(findings(r#"{"ingressRate":"1M","ingressBurst":"8"}"#).len(), 2);
        assert_eq!(findings(r#"{"runtimeConfig":{"bandwidth":[]}}"#).len(), 1);
    }

    /// Numbers that `bandwidth` v1.9.1 gave the kernel.
    #[test]
    fn the_bucket_is_the_reference_plugins() {
        let bucket =
            |rate_bits: u64, burst_bits: u64| Limit { rate: rate_bits / 8, burst: (burst_bits / 8) as u32 }.bucket();
        let same = TokenBucket { rate: 1000, limit: 35, burst: Burst::Ticks(156_250) };
        assert_eq!(bucket(8000, 80), same);
        // What containerd says for `kubernetes.io/ingress-bandwidth: 10M`: the reference plugin's ticks overflow here.
        let wide = TokenBucket { rate: 1_250_000, limit: 536_902_161, burst: Burst::Bytes(536_870_911) };
        assert_eq!(bucket(10_000_000, u32::MAX.into()), wide);
        let most = bucket(u64::MAX, 34_359_738_359);
        assert_eq!((most.rate, most.limit), (u64::MAX / 8, u32::MAX));
    }
}
