//! `conditionsV4` and `conditionsV6`: what of iptables' and of nft's language is understood in process.
//!
//! The reference plugin hands both on to a program. Here they are read: sources, destinations and incoming links, with
//! and without a negation. Whatever else they say is refused, never left out.

use std::fmt;
use std::net::IpAddr;

use attachments::names::IfName;
use ipnet::IpNet;

use crate::nl::nft::Condition;

/// Who would read the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// Arguments of `iptables`.
    Iptables,
    /// Words of `nft`.
    Nftables,
}

impl Language {
    /// Arguments of iptables begin with a dash or an exclamation mark, as no condition of nft does. `None` for no conditions.
    pub fn of(words: &[String]) -> Option<Self> {
        match words.first().and_then(|word| word.bytes().next())? {
            b'-' | b'!' => Some(Self::Iptables),
            _ => Some(Self::Nftables),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

/// Reads conditions; the error says what is understood.
pub(super) fn read(words: &[String], language: Language, ipv4: bool) -> Result<Vec<Condition>, String> {
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    match language {
        Language::Iptables => iptables(words, ipv4).ok_or_else(|| {
            format!(
                "-s, -d with one {family} network and -i with one interface, each with an optional \"!\" before it; \
                 take portmap out of `builtin` for others"
            )
        }),
        Language::Nftables => nftables(words, ipv4).ok_or_else(|| {
            let ip = if ipv4 { "ip" } else { "ip6" };
            format!(
                "`{ip} saddr`, `{ip} daddr` with one {family} network and `iifname` with one interface, each with an \
                 optional \"!=\"; take portmap out of `builtin` for others"
            )
        }),
    }
}

fn iptables(words: &[String], ipv4: bool) -> Option<Vec<Condition>> {
    let mut words = words.iter().map(String::as_str);
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        let negated = word == "!";
        let option = if negated { words.next()? } else { word };
        let value = words.next()?;
        conditions.push(match option {
            "-s" | "--source" | "--src" => source(network(value, ipv4)?, negated),
            "-d" | "--destination" | "--dst" => destination(network(value, ipv4)?, negated),
            "-i" | "--in-interface" => incoming(value, '+', negated)?,
            _ => return None,
        });
    }
    Some(conditions)
}

fn nftables(words: &[String], ipv4: bool) -> Option<Vec<Condition>> {
    let mut words = words.iter().flat_map(|word| word.split_ascii_whitespace()).peekable();
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        let field = match word {
            "ip" if ipv4 => words.next()?,
            "ip6" if !ipv4 => words.next()?,
            "iifname" => word,
            _ => return None,
        };
        let negated = words.peek() == Some(&"!=");
        if negated || words.peek() == Some(&"==") {
            words.next();
        }
        let value = words.next()?;
        conditions.push(match field {
            "saddr" => source(network(value, ipv4)?, negated),
            "daddr" => destination(network(value, ipv4)?, negated),
            "iifname" => incoming(value.trim_matches('"'), '*', negated)?,
            _ => return None,
        });
    }
    Some(conditions)
}

fn network(text: &str, ipv4: bool) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    (network.addr().is_ipv4() == ipv4).then(|| network.trunc())
}

fn source(network: IpNet, negated: bool) -> Condition {
    if negated { Condition::SourceNotIn(network) } else { Condition::SourceIn(network) }
}

fn destination(network: IpNet, negated: bool) -> Condition {
    if negated { Condition::DestinationNotIn(network) } else { Condition::DestinationIn(network) }
}

fn incoming(text: &str, any: char, negated: bool) -> Option<Condition> {
    let name = text.strip_suffix(any);
    let (name, prefix) = (name.unwrap_or(text), name.is_some());
    // The beginning of a name obeys the rules of a name.
    name.parse::<IfName>().ok()?;
    Some(Condition::Incoming { name: name.to_owned(), prefix, negated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn both_languages_say_the_same() {
        let link = |name: &str, prefix| Condition::Incoming { name: name.to_owned(), prefix, negated: true };
        let want = [
            Condition::DestinationNotIn(net("192.0.2.0/24")),
            Condition::SourceIn(net("10.0.0.1/32")),
            link("eth", true),
            link("lan0.5", false),
        ];
        for text in [
            "! -d 192.0.2.9/24 --src 10.0.0.1 ! -i eth+ ! --in-interface lan0.5",
            "ip daddr != 192.0.2.0/24 ip saddr == 10.0.0.1 iifname != \"eth*\" iifname != lan0.5",
        ] {
            let words = words(text);
            assert_eq!(read(&words, Language::of(&words).unwrap(), true).unwrap(), want, "{text}");
        }
        assert_eq!(nftables(&["ip6 saddr fd00::/8 iifname eth0".to_owned()], false).unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        for text in [
            "! -d",
            "-d",
            "!",
            "-d fd00::/8",
            "-d 10.0.0.0/33",
            "-d 10.0.0.1,10.0.0.2",
            "-p tcp",
            "-m mark --mark 1",
            "-i a/b",
            "-j ACCEPT",
            "ip",
            "ip daddr",
            "ip daddr !=",
            "ip daddr { 10.0.0.1, 10.0.0.2 }",
            "ip6 daddr fd00::/8",
            "meta mark 1",
            "ip daddr 10.0.0.0/8; flush ruleset",
        ] {
            let words = words(text);
            let refused = read(&words, Language::of(&words).unwrap(), true);
            assert!(refused.as_ref().is_err_and(|allowed| allowed.contains("IPv4")), "{text}: {refused:?}");
        }
    }
}
