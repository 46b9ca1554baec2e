//! What a pod asks for beside the configuration: addresses by three channels, oldest first.

use std::net::IpAddr;

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings};
use ipnet::IpNet;

use super::Checked;

/// What [`net`] takes, in words that follow "want".
pub const NET: &str = "an IP address with a prefix length, as 10.1.2.3/24";

/// One requested address as it was written, and where.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// Path of the field, for messages.
    pub path: String,
    /// The address, with or without a prefix length.
    pub text: String,
}

/// The three channels; each may be empty.
#[derive(Debug, Default, PartialEq)]
pub struct Requests {
    /// `IP` in CNI_ARGS.
    pub env: Vec<Request>,
    /// `args.cni.ips`.
    pub args: Vec<Request>,
    /// `runtimeConfig.ips`, the capability `ips`.
    pub runtime: Vec<Request>,
}

impl Requests {
    /// Reads all three. `IP` may be a list joined by commas, which is how Multus hands two addresses to a plugin without
    /// the capability, and which the reference host-local refuses (A4).
    pub fn read(conf: &Object, cni_args: &str, findings: &mut Findings) -> Self {
        let env = env_list(cni_args, "IP").map(|text| Request { path: "CNI_ARGS IP".to_owned(), text }).collect();
        let args = findings.keep(conf.object("args")).unwrap_or_default();
        let args = findings.keep(args.object("cni").map_err(|e| e.under("args"))).unwrap_or_default();
        let runtime = findings.keep(conf.object("runtimeConfig")).unwrap_or_default();
        Self { env, args: listed(&args, "args.cni", findings), runtime: listed(&runtime, "runtimeConfig", findings) }
    }
}

/// The addresses of all three channels, each with its field. A prefix length is ignored.
pub fn addresses(conf: &Object, cni_args: &str, findings: &mut Findings) -> Vec<(String, IpAddr)> {
    let requests = Requests::read(conf, cni_args, findings);
    let mut addresses = Vec::new();
    for request in requests.env.iter().chain(&requests.args).chain(&requests.runtime) {
        addresses.extend(findings.keep(request.address().map(|address| Some((request.path.clone(), address)))));
    }
    addresses
}

impl Request {
    /// The address; a prefix length is allowed and ignored.
    pub fn address(&self) -> Checked<IpAddr> {
        let parsed = match self.text.contains('/') {
            true => self.text.parse::<IpNet>().ok().map(|net| net.addr()),
            false => self.text.parse::<IpAddr>().ok(),
        };
        parsed.map(|address| address.to_canonical()).ok_or_else(|| self.refused("an IP address"))
    }

    /// The address with its prefix length, which is required.
    pub fn net(&self) -> Checked<IpNet> {
        net(&self.text).ok_or_else(|| self.refused(NET))
    }

    fn refused(&self, allowed: &'static str) -> Finding {
        Finding::new(self.path.as_str(), format_args!("{:?}", self.text), allowed)
    }
}

/// An address with its prefix length. IPv4 in IPv6 notation has none that means anything.
pub fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().filter(|net: &IpNet| net.addr().to_canonical() == net.addr())
}

/// The elements of a key of CNI_ARGS whose value is a list joined by commas. Of a repeated key the last counts, as in Go.
pub fn env_list(cni_args: &str, key: &str) -> impl Iterator<Item = String> {
    let mut pairs = cni_args.split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.rfind(|(name, _)| *name == key).map_or("", |(_, value)| value);
    value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn listed(object: &Object, at: &str, findings: &mut Findings) -> Vec<Request> {
    let texts = object.decode("ips", Allowed::list("a list of IP addresses")).map_err(|e| e.under(at));
    let texts: Vec<String> = findings.keep(texts).unwrap_or_default();
    texts.into_iter().enumerate().map(|(i, text)| Request { path: format!("{at}.ips[{i}]"), text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str, args: &str) -> Result<Requests, Vec<Finding>> {
        let mut findings = Findings::default();
        let requests = Requests::read(&Object::parse(conf.as_bytes()).unwrap(), args, &mut findings);
        findings.finish(requests)
    }

    #[test]
    fn three_channels_are_read() {
        let all = read(
            r#"{"args":{"cni":{"ips":["10.0.0.1"]}},"runtimeConfig":{"ips":["10.0.0.2/24","::ffff:10.0.0.3"]}}"#,
            "IP=9.9.9.9;IgnoreUnknown=1;IP= 10.0.0.4,fd00::4/64",
        )
        .unwrap();
        let addresses = |list: &[Request]| -> Vec<String> {
            list.iter().map(|request| request.address().unwrap().to_string()).collect()
        };
        assert_eq!(addresses(&all.args), ["10.0.0.1"]);
        assert_eq!(addresses(&all.runtime), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(addresses(&all.env), ["10.0.0.4", "fd00::4"]);
        assert_eq!(read("{}", ""), Ok(Requests::default()));
    }

    #[test]
    fn refusals_name_the_channel() {
        let refusal = |conf: &str| read(conf, "").unwrap_err()[0].to_string();
        assert!(refusal(r#"{"args":3}"#).starts_with("args: got 3"));
        assert!(refusal(r#"{"args":{"cni":3}}"#).starts_with("args.cni: got 3"));
        assert!(refusal(r#"{"args":{"cni":{"ips":"x"}}}"#).starts_with("args.cni.ips: got \"x\""));
        assert!(refusal(r#"{"runtimeConfig":{"ips":[1]}}"#).starts_with("runtimeConfig.ips: got [1]"));
        let bad = read(r#"{"runtimeConfig":{"ips":["10.0.0.1","x"]}}"#, "").unwrap();
        let finding = bad.runtime[1].address().unwrap_err().to_string();
        assert_eq!(finding, r#"runtimeConfig.ips[1]: got "x", want an IP address"#);
        assert!(bad.runtime[0].net().is_err(), "a prefix length is missing");
        assert!(net("::ffff:10.0.0.1/120").is_none());
    }
}
