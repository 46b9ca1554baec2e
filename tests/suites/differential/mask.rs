//! Random names and hardware addresses, masked by whose they are: they must be there, and in the same places.

use std::net::Ipv6Addr;

use serde_json::Value;

/// Texts, and what stands for them.
pub struct Mask(Vec<(String, String)>);

impl Mask {
    /// From the links of the pod and of the host. What the configuration says is not masked.
    pub fn of(pod: &Value, host: &Value, conf: &str) -> Self {
        let mut mask = Self(Vec::new());
        for link in links(host) {
            if let Some(owner) = owner(link, pod, host) {
                mask.text(name(link), &format!("<veth of {owner}>"));
            }
        }
        let (veths, others): (Vec<_>, Vec<_>) = links(host).partition(|link| is_generated(name(link)));
        for link in links(pod).chain(veths).chain(others) {
            let label = mask.apply(name(link));
            mask.hardware(link["address"].as_str().unwrap_or_default(), &label, conf);
        }
        // A bridge keeps the address that it had before it took over a port's.
        for link in links(pod).chain(links(host)) {
            let label = mask.apply(name(link));
            for address in link["addr_info"].as_array().into_iter().flatten() {
                mask.former(address["local"].as_str().unwrap_or_default(), &label);
            }
        }
        mask
    }

    /// One text.
    pub fn text(&mut self, text: &str, stands: &str) {
        self.0.push((text.to_owned(), stands.to_owned()));
    }

    /// A hardware address, and the IPv6 addresses that follow from it. The first owner counts.
    fn hardware(&mut self, address: &str, label: &str, conf: &str) {
        let known = conf.to_lowercase().contains(address) || self.0.iter().any(|(text, _)| text == address);
        let bytes: Vec<u16> = address.split(':').filter_map(|byte| u16::from_str_radix(byte, 16).ok()).collect();
        let [a, b, c, d, e, f] = bytes[..] else { return };
        if known || bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        let local = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
        self.text(&format!("33:33:ff:{d:02x}:{e:02x}:{f:02x}"), &format!("<multicast of {label}>"));
        self.text(address, &format!("<mac of {label}>"));
        // As the ids of bridges are printed.
        self.text(&format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}"), &format!("<mac of {label}>"));
        self.text(&local.to_string(), &format!("<link-local of {label}>"));
    }

    /// A link-local address that follows from no hardware address that is there.
    fn former(&mut self, address: &str, label: &str) {
        let Some(local) = address.parse::<Ipv6Addr>().ok().filter(|local| local.is_unicast_link_local()) else {
            return;
        };
        if self.0.iter().any(|(text, _)| text == address) {
            return;
        }
        let [.., d, e, f] = local.octets();
        self.text(&format!("33:33:ff:{d:02x}:{e:02x}:{f:02x}"), &format!("<former multicast of {label}>"));
        self.text(address, &format!("<former link-local of {label}>"));
    }

    /// The text with everything masked.
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// A hardware address that nothing has any more, as a file remembers it; every other text stays.
pub fn forget(text: &str) -> String {
    let is_one = text.len() == 17 && text.split(':').filter(|byte| byte.len() == 2).count() == 6;
    if is_one { "<a former mac>".to_owned() } else { text.to_owned() }
}

/// For which link a veth with a generated name is the other end.
fn owner(link: &Value, pod: &Value, host: &Value) -> Option<String> {
    if !is_generated(name(link)) {
        return None;
    }
    if let Some(peer) = link["link"].as_str() {
        return links(host).any(|other| name(other) == peer).then(|| peer.to_owned());
    }
    let peer = links(pod).find(|other| other["ifindex"] == link["link_index"])?;
    Some(name(peer).to_owned())
}

/// "veth" and eight hexadecimal digits.
fn is_generated(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn links(links: &Value) -> impl Iterator<Item = &Value> {
    links.as_array().into_iter().flatten()
}

fn name(link: &Value) -> &str {
    link["ifname"].as_str().unwrap_or_default()
}
