//! The pod's selection annotations, both grammars, with every value checked (NPWG 1.3, section 4.1).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cni::object::Object;
use crate::cni::spelling::{Known, Slip, one_of_each};
use crate::finding::Finding;
use crate::names::{DeviceId, Guid, IfName, Mac, NetRef, ObjectName};

/// The annotation that lists a pod's networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces the cluster's default network for one pod.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// The keys of an element.
static ELEMENT: Known<'static> = Known {
    keys: &[&[
        "name",
        "namespace",
        "interface",
        "interfaceRequest",
        "ips",
        "mac",
        "infiniband-guid",
        "portMappings",
        "bandwidth",
        "cni-args",
        "default-route",
        "ipam-claim-reference",
        "deviceID",
    ]],
    inside: &[("portMappings", &PORT_MAPPING), ("bandwidth", &BANDWIDTH)],
    only: true,
};

/// The keys of an entry of `portMappings`. containerd hands them over as `HostPort`, without JSON names.
pub static PORT_MAPPING: Known<'static> = Known::of(&[&["hostPort", "containerPort", "protocol", "hostIP"]]);

/// The keys of `bandwidth`. containerd hands them over as `IngressRate`.
pub static BANDWIDTH: Known<'static> = Known::of(&[&["ingressRate", "ingressBurst", "egressRate", "egressBurst"]]);
/// Longest annotation, in bytes: as much as Kubernetes gives all annotations of an object together.
pub const LONGEST: usize = 256 << 10;

/// One element of an annotation. Absent, `null` and empty are the same, as everywhere in the field's Go.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which definition.
    pub network: NetRef,
    /// Name of the interface in the pod.
    pub interface: Option<IfName>,
    /// Addresses with or without a prefix length, each checked and kept as written (R15).
    pub ips: Vec<String>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// InfiniBand port GUID.
    pub infiniband_guid: Option<Guid>,
    /// Entries of `portMappings` as written, each checked.
    pub port_mappings: Vec<Object>,
    /// `bandwidth` as written, checked.
    pub bandwidth: Option<Object>,
    /// `cni-args` as written.
    pub cni_args: Option<Object>,
    /// `default-route`: the pod's default routes go through this attachment, by these gateways, or by its own when empty.
    pub default_route: Option<Vec<IpAddr>>,
    /// Name of an IPAMClaim in the pod's namespace.
    pub ipam_claim: Option<ObjectName>,
    /// A device asked for by name (extension of Multus).
    pub device: Option<DeviceId>,
}

/// Reads [`NETWORKS`], or another annotation of the same grammar; `annotation` is its name in findings. A reference
/// without a namespace means the pod's (R12). No text, no networks; unknown keys are ignored (A27).
pub fn parse(annotation: &str, text: &str, pod_namespace: &ObjectName) -> Result<Vec<Wanted>, Finding> {
    let wanted = match text {
        "" => Ok(Vec::new()),
        _ if text.len() > LONGEST => {
            let allowed = format!("at most {LONGEST} bytes");
            Err(Finding::new("", format_args!("{} bytes", text.len()), allowed))
        }
        _ if text.contains(['[', '{', '"']) => parse_json(text, pod_namespace),
        _ => parse_references(text, pod_namespace),
    };
    wanted.and_then(at_most_one_default_route).map_err(|e| e.under(annotation))
}

/// Reads [`DEFAULT_NETWORK`], which names exactly one network, by default in `multus_namespace` (A35).
pub fn parse_default(text: &str, multus_namespace: &ObjectName) -> Result<Wanted, Finding> {
    match <[Wanted; 1]>::try_from(parse(DEFAULT_NETWORK, text, multus_namespace)?) {
        Ok([wanted]) => Ok(wanted),
        Err(_) => Err(Finding::new(DEFAULT_NETWORK, format_args!("{text:?}"), "exactly one network")),
    }
}

/// `[namespace/]name[@interface]`, joined by commas, white space around every part.
fn parse_references(text: &str, namespace: &ObjectName) -> Result<Vec<Wanted>, Finding> {
    let each = |(i, item): (usize, &str)| parse_reference(item, namespace).map_err(|e| e.under(&format!("[{i}]")));
    text.split(',').enumerate().map(each).collect()
}

fn parse_reference(item: &str, pod_namespace: &ObjectName) -> Result<Wanted, Finding> {
    const SHAPE: &str = "a reference of the form [namespace/]name[@interface]";
    let (reference, interface) = item.split_once('@').unwrap_or((item, ""));
    let (namespace, name) = reference.split_once('/').unwrap_or(("", reference));
    let nameless_interface = item.contains('@') && interface.trim().is_empty();
    if name.trim().is_empty() || name.contains('/') || interface.contains('@') || nameless_interface {
        return Err(Finding::new("", format_args!("{:?}", item.trim()), SHAPE));
    }
    let network = NetRef {
        namespace: checked("namespace", namespace)?.unwrap_or_else(|| pod_namespace.clone()),
        name: checked("name", name)?.ok_or_else(|| Finding::missing("name", SHAPE))?,
    };
    Ok(Wanted { interface: checked("interface", interface)?, ..Wanted::new(network) })
}

/// One part of a reference; an empty one is absent.
fn checked<T: FromStr<Err = Finding>>(key: &str, text: &str) -> Result<Option<T>, Finding> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|e: Finding| e.under(key)),
    }
}

fn parse_json(text: &str, namespace: &ObjectName) -> Result<Vec<Wanted>, Finding> {
    const SHAPE: &str = "a JSON list of objects, or references joined by ','";
    if let Err(e) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(Finding::new("", format_args!("invalid JSON ({e})"), SHAPE));
    }
    let elements: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(|_| Finding::new("", text, SHAPE))?;
    let each = |(i, element): (usize, Box<RawValue>)| {
        serde_json::from_str(element.get())
            .map_err(|_| Finding::new("", element.get(), "a JSON object"))
            .and_then(|object| Wanted::decode(&*ELEMENT.read(&object)?, namespace))
            .map_err(|e| e.under(&format!("[{i}]")))
    };
    elements.into_iter().enumerate().map(each).collect()
}

/// The keys of an annotation that are spelled otherwise than here. None of a text that [`parse`] refuses.
pub fn slips(annotation: &str, text: &str) -> Vec<Slip> {
    let mut slips = Vec::new();
    let elements: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
    for (i, element) in elements.iter().enumerate() {
        if let Ok(object) = serde_json::from_str(element.get()) {
            ELEMENT.respell(&object, &mut |slip| slips.push(slip.under(&format!("[{i}]")).under(annotation)));
        }
    }
    slips
}

/// R21. Two elements with the key contradict each other, even when one of them is empty.
fn at_most_one_default_route(wanted: Vec<Wanted>) -> Result<Vec<Wanted>, Finding> {
    match wanted.iter().enumerate().filter(|(_, w)| w.default_route.is_some()).nth(1) {
        None => Ok(wanted),
        Some((i, second)) => Err(Finding::new(
            format!("[{i}].default-route"),
            format_args!("{:?}", second.default_route.as_deref().unwrap_or_default()),
            "default-route in at most one element",
        )),
    }
}

impl Wanted {
    /// The network and nothing particular.
    pub fn new(network: NetRef) -> Self {
        Self {
            network,
            interface: None,
            ips: Vec::new(),
            mac: None,
            infiniband_guid: None,
            port_mappings: Vec::new(),
            bandwidth: None,
            cni_args: None,
            default_route: None,
            ipam_claim: None,
            device: None,
        }
    }

    fn decode(object: &Object, pod_namespace: &ObjectName) -> Result<Self, Finding> {
        let name = object.parsed("name", ObjectName::ALLOWED)?;
        let network = NetRef {
            namespace: object.parsed("namespace", ObjectName::ALLOWED)?.unwrap_or_else(|| pod_namespace.clone()),
            name: name.ok_or_else(|| Finding::missing("name", ObjectName::ALLOWED))?,
        };
        // `interfaceRequest` is the key's name before Multus 3.2.
        let interface = match object.parsed("interface", IfName::ALLOWED)? {
            Some(interface) => Some(interface),
            None => object.parsed("interfaceRequest", IfName::ALLOWED)?,
        };
        let wanted = Self {
            network,
            interface,
            ips: decode_ips(object)?,
            mac: object.parsed("mac", Mac::ALLOWED)?,
            infiniband_guid: object.parsed("infiniband-guid", Guid::ALLOWED)?,
            port_mappings: decode_port_mappings(object)?,
            bandwidth: decode_bandwidth(object)?,
            cni_args: decode_cni_args(object)?,
            default_route: decode_default_route(object)?,
            ipam_claim: object.parsed("ipam-claim-reference", ObjectName::ALLOWED)?,
            device: object.parsed("deviceID", DeviceId::ALLOWED)?,
        };
        match &wanted.ipam_claim {
            Some(claim) if !wanted.ips.is_empty() => {
                Err(Finding::new("ipam-claim-reference", claim, "either ips or ipam-claim-reference, not both"))
            }
            _ => Ok(wanted),
        }
    }

    /// The element of the JSON form; it reads back as the same value.
    pub fn to_object(&self) -> Object {
        let mut object = Object::new();
        object.set("name", &self.network.name);
        object.set("namespace", &self.network.namespace);
        object.set_some("interface", self.interface.as_ref());
        object.set_some("ips", Some(&self.ips).filter(|ips| !ips.is_empty()));
        object.set_some("mac", self.mac.as_ref());
        object.set_some("infiniband-guid", self.infiniband_guid.as_ref());
        object.set_some("portMappings", Some(&self.port_mappings).filter(|mappings| !mappings.is_empty()));
        object.set_some("bandwidth", self.bandwidth.as_ref());
        object.set_some("cni-args", self.cni_args.as_ref());
        object.set_some("default-route", self.default_route.as_ref());
        object.set_some("ipam-claim-reference", self.ipam_claim.as_ref());
        object.set_some("deviceID", self.device.as_ref());
        object
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_object().to_json())
    }
}

/// The address of an element of `ips`, which may carry a prefix length.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let address = if text.contains('/') { text.parse::<IpNet>().ok()?.addr() } else { text.parse().ok()? };
    Some(address.to_canonical())
}

fn decode_ips(object: &Object) -> Result<Vec<String>, Finding> {
    let ips: Vec<String> = object.decode("ips", "a list of strings")?.unwrap_or_default();
    match ips.iter().enumerate().find(|(_, ip)| address(ip).is_none()) {
        None => Ok(ips),
        Some((i, ip)) => Err(Finding::new(
            format!("ips[{i}]"),
            format_args!("{ip:?}"),
            "an IPv4 or IPv6 address, with or without a prefix length",
        )),
    }
}

fn decode_default_route(object: &Object) -> Result<Option<Vec<IpAddr>>, Finding> {
    let Some(texts) = object.decode::<Vec<String>>("default-route", "a list of strings")? else { return Ok(None) };
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let refuse = |allowed| Finding::new(format!("default-route[{i}]"), format_args!("{text:?}"), allowed);
        let gateway = text.parse::<IpAddr>().map_err(|_| refuse("an IP address"))?.to_canonical();
        if gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return Err(refuse("at most one gateway of each address family"));
        }
        gateways.push(gateway);
    }
    Ok(Some(gateways))
}

/// They go into one object with the definition's, whose reader may take a key in any case.
fn decode_cni_args(object: &Object) -> Result<Option<Object>, Finding> {
    let Some(args) = object.object("cni-args")? else { return Ok(None) };
    one_of_each(&args).map_err(|e| e.under("cni-args"))?;
    Ok(Some(args))
}

fn decode_port_mappings(object: &Object) -> Result<Vec<Object>, Finding> {
    let mappings = object.objects("portMappings")?;
    for (i, mapping) in mappings.iter().enumerate() {
        check_port_mapping(mapping).map_err(|e| e.under(&format!("portMappings[{i}]")))?;
    }
    Ok(mappings)
}

/// R19. `hostIP` is in no specification, yet in every implementation.
fn check_port_mapping(mapping: &Object) -> Result<(), Finding> {
    const PORT: &str = "an integer from 1 to 65535";
    for key in ["hostPort", "containerPort"] {
        match mapping.decode::<u16>(key, PORT)? {
            Some(0) => return Err(Finding::new(key, 0, PORT)),
            Some(_) => {}
            None => return Err(Finding::missing(key, PORT)),
        }
    }
    let protocol = mapping.text("protocol")?.unwrap_or_default();
    if !["", "tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
        return Err(Finding::new("protocol", format_args!("{protocol:?}"), "TCP, UDP or SCTP"));
    }
    mapping.parsed::<IpAddr>("hostIP", "an IP address")?;
    Ok(())
}

/// R20.
fn decode_bandwidth(object: &Object) -> Result<Option<Object>, Finding> {
    let Some(bandwidth) = object.object("bandwidth")? else { return Ok(None) };
    check_bandwidth(&bandwidth).map_err(|e| e.under("bandwidth"))?;
    Ok(Some(bandwidth))
}

fn check_bandwidth(bandwidth: &Object) -> Result<(), Finding> {
    const AMOUNT: &str = "an integer from 1 to 9223372036854775807";
    let mut any = false;
    for (rate_key, burst_key) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
        let [rate, burst] = [rate_key, burst_key].map(|key| match bandwidth.decode::<i64>(key, AMOUNT)? {
            Some(amount) if amount < 1 => Err(Finding::new(key, amount, AMOUNT)),
            amount => Ok(amount),
        });
        let (rate, burst) = (rate?, burst?);
        if let (None, Some(burst)) = (rate, burst) {
            return Err(Finding::new(burst_key, burst, format!("{burst_key} only beside {rate_key}")));
        }
        any |= rate.is_some();
    }
    if any { Ok(()) } else { Err(Finding::missing("", "ingressRate or egressRate")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> ObjectName {
        "pods".parse().unwrap()
    }

    fn read(text: &str) -> Vec<Wanted> {
        parse("nets", text, &namespace()).unwrap()
    }

    fn refusal(text: &str) -> String {
        parse("nets", text, &namespace()).unwrap_err().to_string()
    }

    fn element(fields: &str) -> String {
        format!(r#"[{{"name":"a"}},{{"name":"b",{fields}}}]"#)
    }

    #[test]
    fn references_may_name_namespace_and_interface() {
        let wanted = read(" a , ns/b.c@eth_1,/d , e @ x ");
        let shown: Vec<_> = wanted
            .iter()
            .map(|w| format!("{} {}", w.network, w.interface.as_ref().map_or("-", IfName::as_str)))
            .collect();
        assert_eq!(shown, ["pods/a -", "ns/b.c eth_1", "pods/d -", "pods/e x"]);
    }

    #[test]
    fn no_text_and_an_empty_list_ask_for_nothing() {
        assert!(read("").is_empty() && read(" [] ").is_empty());
    }

    #[test]
    fn malformed_references_are_refused_by_position() {
        let shape = "want a reference of the form [namespace/]name[@interface]";
        for (text, at, value) in
            [(" ", 0, ""), ("a,,", 1, ""), ("a,b/c/d", 1, "b/c/d"), ("a@b@c", 0, "a@b@c"), ("ns/", 0, "ns/")]
        {
            assert_eq!(refusal(text), format!("nets[{at}]: got {value:?}, {shape}"));
        }
        assert!(refusal("a,B").starts_with("nets[1].name: got \"B\", want DNS-1123 labels"));
        assert!(refusal("N/b").starts_with("nets[0].namespace: got \"N\""));
        assert!(refusal("b@sixteen-bytes-xx").starts_with("nets[0].interface: got"));
        assert!(refusal("b@a:b").starts_with("nets[0].interface: got"));
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"[{"name":"b","namespace":"ns","interface":"if0","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01",
            "infiniband-guid":"c2:11:22:33:44:55:66:77","portMappings":[{"hostPort":1,"containerPort":65535,"protocol":"Tcp"}],
            "bandwidth":{"ingressRate":1},"cni-args":{"big":12345678901234567890.10},"default-route":["10.0.0.254","fd00::9"],
            "deviceID":"0000:00:01.0","unknown":1,"org.foo.key":2}]"#;
        assert_eq!(
            read(text)[0].to_string(),
            r#"{"name":"b","namespace":"ns","interface":"if0","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01","infiniband-guid":"c2:11:22:33:44:55:66:77","portMappings":[{"hostPort":1,"containerPort":65535,"protocol":"Tcp"}],"bandwidth":{"ingressRate":1},"cni-args":{"big":12345678901234567890.10},"default-route":["10.0.0.254","fd00::9"],"deviceID":"0000:00:01.0"}"#
        );
        assert_eq!(read(&element(r#""interfaceRequest":"x""#))[1].interface, Some("x".parse().unwrap()));
        assert_eq!(read(&element(r#""ipam-claim-reference":"vm.net.if""#))[1].ipam_claim, "vm.net.if".parse().ok());
    }

    #[test]
    fn keys_are_read_in_any_case_and_once() {
        let text = "[{\"Name\":\"b\",\"IPs\":[\"10.0.0.1/24\"],\"PortMapping\u{17f}\":[{\"HostPort\":80,\"containerPort\":80}],\"CNI-args\":{\"IPS\":1}}]";
        assert_eq!(
            read(text)[0].to_string(),
            r#"{"name":"b","namespace":"pods","ips":["10.0.0.1/24"],"portMappings":[{"hostPort":80,"containerPort":80}],"cni-args":{"IPS":1}}"#
        );
        let paths: Vec<String> = slips("nets", text).into_iter().map(|slip| slip.path).collect();
        assert_eq!(
            paths,
            [
                "nets[0].Name",
                "nets[0].IPs",
                "nets[0].PortMapping\u{17f}",
                "nets[0].PortMapping\u{17f}[0].HostPort",
                "nets[0].CNI-args"
            ]
        );
        for (fields, start) in [
            (r#""NAME":"c""#, r#"NAME: got "NAME" beside "name", want one of them, spelled "name""#),
            (r#""ips":[],"IPs":[]"#, "IPs: got"),
            (r#""portMappings":[{"hostPort":80,"HostPort":81,"containerPort":80}]"#, "portMappings[0].HostPort: got"),
            (r#""bandwidth":{"ingressRate":1,"IngressRate":2}"#, "bandwidth.IngressRate: got"),
            (r#""cni-args":{"ips":1,"IPS":2}"#, "cni-args.IPS: got"),
        ] {
            let message = refusal(&element(fields));
            assert!(message.starts_with(&format!("nets[1].{start}")), "{message}");
        }
    }

    #[test]
    fn links_have_names_that_can_be_seen() {
        for odd in ["br%d", "-a", "a\\u001b", "\u{e4}"] {
            assert!(
                refusal(&element(&format!(r#""interface":"{odd}""#))).starts_with("nets[1].interface: got"),
                "{odd}"
            );
        }
        assert!(refusal("b@net%d").starts_with(r#"nets[0].interface: got "net%d""#));
    }

    #[test]
    fn absent_null_and_empty_are_the_same() {
        let plain = read(&element(r#""x":0"#));
        for same in [r#""mac":"","interface":null,"ips":[],"namespace":"""#, r#""ips":null,"portMappings":[]"#] {
            assert_eq!(read(&element(same)), plain);
        }
        assert_eq!(read(&element(r#""default-route":[]"#))[1].default_route, Some(Vec::new()));
    }

    #[test]
    fn json_of_another_shape_is_refused() {
        assert!(refusal("[{]").starts_with("nets: got invalid JSON ("));
        assert!(refusal(r#"{"name":"a"}"#).starts_with(r#"nets: got {"name":"a"}, want a JSON list"#));
        assert_eq!(refusal(r#"[{"name":"a"},null]"#), "nets[1]: got null, want a JSON object");
        assert_eq!(refusal("[{}]"), format!("nets[0].name: missing, want {}", ObjectName::ALLOWED));
        assert!(refusal(r#"[{"name":"a/b"}]"#).starts_with(r#"nets[0].name: got "a/b""#));
    }

    #[test]
    fn a_bad_value_is_refused_with_its_path() {
        for (fields, start) in [
            (r#""ips":"10.0.0.1""#, r#"ips: got "10.0.0.1", want a list"#),
            (r#""ips":["10.0.0.1","10.0.0.1/33"]"#, r#"ips[1]: got "10.0.0.1/33""#),
            (r#""mac":"02:00:00:00:00:00:00:01""#, r#"mac: got "02:00:00:00:00:00:00:01""#),
            (r#""infiniband-guid":"02:00:00:00:00:01""#, "infiniband-guid: got"),
            (r#""interface":"a b""#, r#"interface: got "a b""#),
            (
                r#""portMappings":[{"hostPort":0,"containerPort":1}]"#,
                "portMappings[0].hostPort: got 0, want an integer",
            ),
            (r#""portMappings":[{"hostPort":80}]"#, "portMappings[0].containerPort: missing"),
            (r#""portMappings":[{"hostPort":65536,"containerPort":1}]"#, "portMappings[0].hostPort: got 65536"),
            (r#""portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]"#, "portMappings[0].protocol: got"),
            (r#""portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]"#, "portMappings[0].hostIP: got"),
            (r#""bandwidth":{}"#, "bandwidth: missing, want ingressRate or egressRate"),
            (r#""bandwidth":{"ingressRate":0}"#, "bandwidth.ingressRate: got 0"),
            (
                r#""bandwidth":{"egressBurst":5}"#,
                "bandwidth.egressBurst: got 5, want egressBurst only beside egressRate",
            ),
            (r#""bandwidth":{"egressRate":1.5}"#, "bandwidth.egressRate: got 1.5"),
            (r#""cni-args":[]"#, "cni-args: got [], want a JSON object"),
            (r#""default-route":["x"]"#, r#"default-route[0]: got "x""#),
            (r#""default-route":["10.0.0.1","10.0.0.2"]"#, r#"default-route[1]: got "10.0.0.2", want at most one"#),
            (r#""ips":["10.0.0.1"],"ipam-claim-reference":"c""#, "ipam-claim-reference: got c, want either"),
            (r#""deviceID":"a b""#, "deviceID: got"),
        ] {
            let message = refusal(&element(fields));
            assert!(message.starts_with(&format!("nets[1].{start}")), "{message}");
        }
    }

    #[test]
    fn one_element_may_carry_the_default_route() {
        let text = r#"[{"name":"a","default-route":[]},{"name":"b"},{"name":"c","default-route":["10.0.0.1"]}]"#;
        assert_eq!(refusal(text), "nets[2].default-route: got [10.0.0.1], want default-route in at most one element");
    }

    #[test]
    fn the_default_network_is_exactly_one() {
        let one = |text| parse_default(text, &"kube-system".parse().unwrap());
        assert_eq!(one("calico").unwrap().network.to_string(), "kube-system/calico");
        assert_eq!(one(r#"[{"name":"x","namespace":"y"}]"#).unwrap().network.to_string(), "y/x");
        for bad in ["", "[]", "a,b"] {
            assert!(one(bad).unwrap_err().to_string().starts_with(DEFAULT_NETWORK), "{bad}");
        }
    }
}
