//! The configuration of `dhcp`: what a server is asked for, and what it is told.

use attachments::cni::object::Object;
use attachments::finding::{Allowed, Finding, Findings};
use serde::{Deserialize, Serialize};

use super::super::{Checked, Validated, elements, section};
use super::message::option;

/// The keys of the section `ipam`.
pub const KEYS: [&str; 6] = ["type", "daemonSocketPath", "request", "provide", "priority", "broadcast"];

/// The keys of an element of `request`.
pub const REQUEST_KEYS: [&str; 2] = ["option", "skipDefault"];

/// The keys of an element of `provide`.
pub const PROVIDE_KEYS: [&str; 3] = ["option", "value", "fromArg"];

/// What the client says in every message, for as long as it has the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Codes of the options that the server is asked for.
    pub requested: Vec<u8>,
    /// Options that the server is told.
    pub provided: Vec<(u8, String)>,
}

/// The section, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// See [`Wishes`].
    pub wishes: Wishes,
    /// Metric of the routes; absent and 0: the kernel's.
    pub priority: Option<u32>,
    /// Servers answer to everybody; absent: where the link needs it.
    pub broadcast: Option<bool>,
}

/// The names that options may have in place of their numbers.
const NAMES: [(&str, u8); 6] = [
    ("dhcp-client-identifier", option::CLIENT),
    ("subnet-mask", option::SUBNET_MASK),
    ("routers", option::ROUTER),
    ("host-name", option::HOST_NAME),
    ("user-class", option::USER_CLASS),
    ("vendor-class-identifier", option::VENDOR_CLASS),
];

const OPTION: &str = "an option's number from 1 to 254, or one of dhcp-client-identifier, subnet-mask, routers, host-name, user-class, vendor-class-identifier";

/// What is asked for unless `skipDefault` says otherwise.
const DEFAULTS: [u8; 2] = [option::ROUTER, option::SUBNET_MASK];

/// What is asked for where nothing is left to ask for.
const BARE: [u8; 4] = [option::SUBNET_MASK, option::ROUTER, option::DOMAIN_NAME, option::NAME_SERVER];

/// What the exchange itself says.
const OWN: [u8; 6] = [
    option::REQUESTED_ADDRESS,
    option::OVERLOAD,
    option::MESSAGE_TYPE,
    option::SERVER,
    option::PARAMETERS,
    option::LARGEST,
];

/// The most bytes of options that a server is told: a message must go through every link in one packet.
const MOST: usize = 768;

impl Config {
    /// Reads the section, and what CNI_ARGS say for it.
    pub fn read(conf: &Object, cni_args: &str) -> Validated<Self> {
        let mut findings = Findings::default();
        let ipam = findings.keep(section(conf));
        let wishes =
            Wishes { requested: requested(&ipam, &mut findings), provided: provided(&ipam, cni_args, &mut findings) };
        let at = |finding: Finding| finding.under("ipam");
        // Only the program opens it.
        findings.keep(ipam.text("daemonSocketPath").map_err(at));
        let priority = ipam.decode("priority", Allowed::Integer(0, u32::MAX.into())).map_err(at);
        let broadcast = findings.keep(ipam.decode("broadcast", Allowed::BOOLEAN).map_err(at));
        let priority = findings.keep(priority).filter(|metric| *metric != 0);
        findings.finish(Self { wishes, priority, broadcast })
    }
}

fn requested(ipam: &Object, findings: &mut Findings) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut is_bare = false;
    for (i, element) in elements(ipam, "request", findings) {
        let at = |finding: Finding| finding.under(&format!("ipam.request[{i}]"));
        is_bare |= findings.keep(element.flag("skipDefault").map_err(at));
        let code = findings.keep(code(&element).map_err(at));
        codes.extend(code);
    }
    if !is_bare {
        codes.extend(DEFAULTS);
    }
    if codes.is_empty() {
        codes.extend(BARE);
    }
    let mut once: Vec<u8> = Vec::new();
    for code in codes {
        if !once.contains(&code) {
            once.push(code);
        }
    }
    once
}

fn provided(ipam: &Object, cni_args: &str, findings: &mut Findings) -> Vec<(u8, String)> {
    let mut options: Vec<(u8, String)> = Vec::new();
    for (i, element) in elements(ipam, "provide", findings) {
        let at = |finding: Finding| finding.under(&format!("ipam.provide[{i}]"));
        let code = findings.keep(own_code(&element).map_err(at));
        let value = findings.keep(element.text("value").map_err(at)).filter(|value| !value.is_empty());
        let argument = findings.keep(element.text("fromArg").map_err(at)).filter(|key| !key.is_empty());
        let said = argument.and_then(|key| argument_of(cni_args, &key));
        let (Some(code), Some(value)) = (code, said.or(value)) else { continue };
        if value.len() > 255 {
            let got = format!("{} bytes", value.len());
            findings.push(Finding::new(format!("ipam.provide[{i}].value"), got, "at most 255 bytes"));
        }
        options.retain(|(other, _)| *other != code);
        options.push((code, value));
    }
    let all: usize = options.iter().map(|(_, value)| value.len() + 2).sum();
    if all > MOST {
        let allowed = format!("at most {MOST} bytes of options");
        findings.push(Finding::new("ipam.provide", format!("{all} bytes"), allowed));
    }
    options
}

/// The value of a key in CNI_ARGS; of a repeated key the last counts, as in Go.
fn argument_of(cni_args: &str, key: &str) -> Option<String> {
    let mut pairs = cni_args.split(';').filter_map(|pair| pair.split_once('='));
    pairs.rfind(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// `option`; absent and empty are `None`.
fn code(element: &Object) -> Checked<Option<u8>> {
    let Some(text) = element.text("option")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, code)| *code);
    let numbered = || text.parse::<u8>().ok().filter(|code| !matches!(*code, option::PAD | option::END));
    let code = named.or_else(numbered);
    code.map(Some).ok_or_else(|| Finding::new("option", format_args!("{text:?}"), OPTION))
}

/// The same where it is told: the exchange's own options are not the configuration's.
fn own_code(element: &Object) -> Checked<Option<u8>> {
    let code = code(element)?.ok_or_else(|| Finding::missing("option", OPTION))?;
    if OWN.contains(&code) {
        return Err(Finding::new("option", code, "another option: the exchange itself says this one"));
    }
    Ok(Some(code))
}

/// Everything that is wrong with a configuration.
pub fn validate(conf: &Object) -> Validated<()> {
    Config::read(conf, "").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ipam: &str, args: &str) -> Result<Config, Vec<String>> {
        let conf = Object::parse(format!(r#"{{"ipam":{ipam}}}"#).as_bytes()).unwrap();
        Config::read(&conf, args).map_err(|findings| findings.iter().map(Finding::to_string).collect())
    }

    #[test]
    fn router_and_mask_are_asked_for_unless_the_configuration_says_otherwise() {
        let codes = |ipam: &str| read(ipam, "").unwrap().wishes.requested;
        assert_eq!(codes(r#"{"type":"dhcp"}"#), [3, 1]);
        assert_eq!(codes(r#"{"request":[{"option":"121"},{"option":"routers"},{"option":"121"}]}"#), [121, 3, 1]);
        assert_eq!(codes(r#"{"request":[{"skipDefault":true},{"option":"subnet-mask"}]}"#), [1]);
        assert_eq!(codes(r#"{"request":[{"skipDefault":true}]}"#), [1, 3, 15, 6]);
    }

    #[test]
    fn what_is_told_comes_from_the_configuration_and_from_the_pod() {
        let ipam = r#"{"priority":7,"broadcast":true,"daemonSocketPath":"/run/x","provide":[
            {"option":"host-name","fromArg":"K8S_POD_NAME"},{"option":"60","value":"a"},{"option":"77","fromArg":"none"},
            {"option":"60","value":"b"},{"option":"dhcp-client-identifier","value":"c","fromArg":"none"}]}"#;
        let config = read(ipam, "K8S_POD_NAME=old;K8S_POD_NAME=web").unwrap();
        let told = [(12, "web"), (60, "b"), (61, "c")].map(|(code, value)| (code, value.to_owned()));
        assert_eq!(config.wishes.provided, told);
        assert_eq!((config.priority, config.broadcast), (Some(7), Some(true)));
        assert_eq!(read(r#"{"priority":0}"#, "").unwrap().priority, None);
    }

    #[test]
    fn every_wrong_key_is_named_in_one_go() {
        let long = "x".repeat(256);
        let ipam = format!(
            r#"{{"request":[{{"option":"0"}},{{"option":"mask","skipDefault":1}}],"provide":[{{"value":"x"}},{{"option":"53","value":"1"}},
            {{"option":"12","value":"{long}"}}],"priority":-1,"broadcast":"yes","daemonSocketPath":3}}"#
        );
        let wrong = read(&ipam, "").unwrap_err();
        let paths: Vec<&str> = wrong.iter().filter_map(|text| text.split(": ").next()).collect();
        let want = [
            "ipam.request[0].option",
            "ipam.request[1].skipDefault",
            "ipam.request[1].option",
            "ipam.provide[0].option",
            "ipam.provide[1].option",
            "ipam.provide[2].value",
            "ipam.daemonSocketPath",
            "ipam.broadcast",
            "ipam.priority",
        ];
        assert_eq!(paths, want, "{wrong:#?}");
        let many = (128..132).map(|code| format!(r#"{{"option":"{code}","value":"{}"}}"#, "y".repeat(250)));
        let many = format!(r#"{{"provide":[{}]}}"#, many.collect::<Vec<_>>().join(","));
        assert_eq!(read(&many, "").unwrap_err(), ["ipam.provide: got 1008 bytes, want at most 768 bytes of options"]);
    }
}
