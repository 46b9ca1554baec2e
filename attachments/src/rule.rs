//! The rules of admission: what is refused or warned of, each under an id that messages, docs and tests share.
//!
//! A rule stands here once. Whoever finds something names its rule ([`crate::finding::Finding::of`]): a delegate at ADD, lint, the
//! webhook. The table in docs/lint.md is made from this list, and a golden case for each rule holds its example true.

use serde::Serialize;

/// What follows from a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, and probably not as meant.
    Warn,
    /// No pod could be attached, or not to what was meant.
    Deny,
}

/// Declares the rules: name = id, severity, what it is about; an example; what to do.
macro_rules! rules {
    ($($name:ident = $id:literal, $severity:ident, $about:literal; $example:literal; $fix:literal)*) => {
        /// A rule by its name. Ids are never given to another rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $about] $name,)*
        }

        impl Rule {
            /// Every rule, in the order of docs/lint.md.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The id that stands in brackets behind a message: `N21`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What follows from breaking it. A case of the rule that still works is only warned of.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What it is about, in a few words.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }

            /// A message of the rule as lint prints it: `cfg` is `spec.config`, `nets` the pod's annotation.
            pub const fn example(self) -> &'static str {
                match self { $(Self::$name => $example,)* }
            }

            /// What the author of the text does about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)* }
            }
        }
    };
}

rules! {
    EmptyConfig = "N01", Warn, "`spec.config` is empty";
        "cfg: Required value: put the CNI configuration here; an empty value loads a file from each node";
        "Write the configuration into the definition."
    NoJson = "N02", Deny, "the configuration is no JSON";
        r#"cfg: Invalid value: line 1 column 22 near "\"cniVersion\":\"0.3.0\"mal}": not valid JSON, expected "," or "}""#;
        "Mend the text at that line and column."
    NoObject = "N03", Deny, "the configuration is no JSON object";
        "cfg: Invalid value: array: must be a JSON object";
        "Put the keys between `{` and `}`."
    KeyTwice = "N04", Deny, "a key occurs twice in one object";
        r#"cfg.master: Duplicate value: "master": appears 2 times in one object, keep one"#;
        "Keep one of them."
    KeySpelling = "N05", Deny, "a key is spelled otherwise than it is read; another spelling alone is only warned of";
        r#"cfg.Master: Duplicate value: "Master": stands beside "master", keep one, spelled "master""#;
        "Spell keys as the plugin's page does."
    ConfigSize = "N06", Deny, "the configuration is larger, deeper or longer than is read";
        "cfg.plugins: Too many: 17: must have at most 16";
        "Split the network, or shorten its lists."
    CniVersion = "N07", Deny, "no such version of the CNI specification";
        r#"cfg.cniVersion: Unsupported value: "0.5.0": supported values: "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0""#;
        "Name a version of the list."
    NoCniVersion = "N08", Warn, "`cniVersion` is missing";
        r#"cfg.cniVersion: Required value: assumed "0.1.0", which reports one address per family; set "1.0.0""#;
        "Set `cniVersion`."
    NetworkName = "N09", Deny, "the network's name is none";
        r#"cfg.name: Invalid value: "blue net": must start with a letter or digit and contain only letters, digits, ".", "_" or "-""#;
        "Rename the network, or leave `name` out of a definition."
    DefinitionName = "N10", Warn, "the definition's name cannot be written in the short form";
        r#"metadata.name: Invalid value: "blue.net": pods must use the JSON form; a-z, 0-9 and "-" also work in the short form"#;
        "Rename the definition, or use the JSON form in pods."
    PluginsShape = "N11", Deny, "`plugins` is no list of objects";
        "cfg.plugins: Invalid value: string: must be a list of objects";
        "Write `plugins` as a list of objects."
    NoPlugins = "N12", Deny, "`plugins` is empty";
        "cfg.plugins: Required value: must list at least one plugin";
        "List a plugin."
    TypeAndPlugins = "N13", Deny, "`type` stands beside `plugins`";
        r#"cfg: Forbidden: "type" and "plugins" together; move the plugin into "plugins""#;
        "Move the plugin into the list."
    NoType = "N14", Deny, "`type` is missing";
        r#"cfg.plugins[1].type: Required value: name of the CNI plugin, for example "macvlan""#;
        "Name the plugin."
    TypeName = "N15", Deny, "`type` is no name of a plugin";
        r#"cfg.type: Invalid value: "../bin/sh": must be a plugin name, not a path"#;
        "Name the plugin's file without its directory."
    UnknownType = "N16", Warn, "`type` is one slip away from a known plugin";
        r#"cfg.type: Not found: "mcavlan": not built in; did you mean "macvlan"?"#;
        "Correct the name, or ignore the warning for a program of that name."
    MetaPlugin = "N17", Deny, "a plugin that calls other plugins";
        r#"cfg.type: Forbidden: "multus": an attachment cannot delegate to a meta-plugin"#;
        "Name the plugin that makes the interface."
    UnknownKey = "N18", Warn, "a key that the built-in plugin does not read";
        r#"cfg.vlanID: unknown key for "macvlan"; allowed: master, mode, mtu, mac, linkInContainer, bcqueuelen, ipam, dns"#;
        "Correct the key or remove it."
    JsonType = "N19", Deny, "a value of another JSON type than its key has";
        r#"cfg.vni: Invalid value: "100": must be a number, remove the quotes"#;
        "Write a value of that type."
    ChainedFirst = "N20", Deny, "a plugin that changes an interface comes first";
        r#"cfg.plugins[0].type: Forbidden: "bandwidth": needs a previous plugin, move it after the interface plugin"#;
        "Put the plugin that makes the interface before it."
    MacvlanMode = "N21", Deny, "no mode of macvlan";
        r#"cfg.mode: Unsupported value: "brigde": supported values: "bridge", "passthru", "private", "vepa""#;
        "Name a mode of the list."
    IpvlanMode = "N22", Deny, "no mode of ipvlan";
        r#"cfg.mode: Unsupported value: "l4": supported values: "l2", "l3", "l3s""#;
        "Name a mode of the list."
    VlanMaster = "N23", Deny, "vlan has no usable `master`";
        "cfg.master: Required value: an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first";
        "Name the node's interface that carries the VLAN."
    MasterName = "N25", Deny, "`master` is no name of an interface";
        r#"cfg.master: Invalid value: "bond0.1234567890": must be 1-15 visible ASCII characters without "/", ":" or "%", and no "-" first"#;
        "Name an interface of the node."
    VlanId = "N26", Deny, "no VLAN id";
        "cfg.vlanId: Invalid value: 4095: must be an integer from 0 to 4094";
        "Take an id of the range."
    VlanTrunk = "N27", Deny, "an element of `vlanTrunk` is no range of VLAN ids";
        r#"cfg.vlanTrunk[0]: Invalid value: {"minID":20,"maxID":10}: must be an object with `id`, or with `minID` and `maxID`, which is no less"#;
        "Give `id`, or `minID` and a `maxID` that is no less."
    Mtu = "N28", Deny, "no MTU that a link can have";
        "cfg.mtu: Invalid value: 67: must be 0 for the default, or an integer from 68 to 65535";
        "Take an MTU of the range, or 0 for the default."
    BridgeFlags = "N29", Deny, "two settings of bridge contradict one another";
        "cfg.hairpinMode: Forbidden: true: cannot be combined with promiscMode";
        "Drop one of the two."
    BridgeName = "N30", Deny, "`bridge` is no name of an interface, or too long for the gateway of a VLAN";
        r#"cfg.bridge: Invalid value: "br/0": must be an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first"#;
        "Take a shorter name."
    Device = "N31", Deny, "host-device is not told which device, or by what is no name";
        r#"cfg.device: Invalid value: "ens/5": must be an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first"#;
        "Name the device's interface."
    NoAddresses = "N33", Deny, "the plugin needs addresses, and `ipam` has no type";
        r#"cfg.ipam.type: Required value: the plugin needs addresses: an IPAM type, for example "host-local""#;
        "Configure `ipam`."
    Bandwidth = "N34", Deny, "a rate without a burst, or out of range";
        "cfg.plugins[1].ingressBurst: Required value: a value, because ingressRate has one";
        "Give both, in bits."
    Sysctl = "N35", Deny, "a setting outside of `net.`, or twice";
        r#"cfg.plugins[1].sysctl: Invalid value: "kernel.panic": must be the name of a setting below net/, as net.ipv4.conf.IFNAME.arp_filter"#;
        "Set only settings of the pod's network namespace, each once."
    NoRanges = "I01", Deny, "host-local has no ranges";
        "cfg.ipam.ranges: Required value: set subnet or ranges";
        "Set `subnet` or `ranges`, or declare the capability `ipRanges`."
    Subnet = "I02", Deny, "no subnet";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.0": must be CIDR, for example "10.9.0.0/24""#;
        "Write address and prefix length."
    HostBits = "I03", Deny, "a subnet with host bits";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.5/24": host bits set, use "10.9.0.0/24""#;
        "Clear the host bits."
    SmallSubnet = "I04", Deny, "a subnet that is too small to allocate from";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.0/31": must leave at least 2 host bits"#;
        "Take a larger subnet."
    OutsideSubnet = "I05", Deny, "an end of a range outside of its subnet";
        r#"cfg.ipam.rangeEnd: Invalid value: "10.9.1.9": must be inside 10.9.0.0/24"#;
        "Move the end into the subnet."
    RangeOrder = "I06", Deny, "a range that begins behind its end";
        r#"cfg.ipam.rangeStart: Invalid value: "10.9.0.90": must not be above rangeEnd 10.9.0.20"#;
        "Exchange the two ends."
    RangesOverlap = "I07", Deny, "ranges that share addresses";
        r#"cfg.ipam.ranges[1]: Invalid value: "10.9.0.1-10.9.0.126": overlaps ranges[0] (10.9.0.1-10.9.0.254)"#;
        "Keep the ranges apart."
    RangeFamilies = "I08", Deny, "both address families in one set of ranges";
        r#"cfg.ipam.ranges[0][1]: Invalid value: "fd00::1-fd00::3": one list per address family"#;
        "Make a set for each family."
    VersionForAddresses = "I09", Deny, "more addresses of a family than the version's result has room for";
        r#"cfg.cniVersion: Invalid value: "0.2.0": must be "0.3.0" or later for more than one address of a family"#;
        "Set a later `cniVersion`."
    Gateway = "I10", Deny, "a gateway that is no address, or outside of its subnet (a warning: a route may lead there)";
        r#"cfg.ipam.gateway: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24"#;
        "Name an address of the subnet."
    Route = "I11", Deny, "a route without a destination, or whose gateway no address reaches";
        r#"cfg.ipam.routes[0].dst: Invalid value: "default": must be CIDR, use "0.0.0.0/0" for a default route"#;
        "Name a destination with prefix length and a gateway of a subnet."
    StaticAddress = "I15", Deny, "a static address without a prefix length";
        r#"cfg.ipam.addresses[0].address: Invalid value: "10.9.0.7": must include a prefix, for example "10.9.0.7/24""#;
        "Append the prefix length."
    Vni = "X01", Deny, "no VNI";
        "cfg.vni: Invalid value: 0: must be an integer from 1 to 16777215";
        "Take a VNI of the range."
    AnnotationJson = "P01", Deny, "the annotation is no JSON";
        r#"nets: Invalid value: line 1 column 16 near "[{\"name\":\"lan\" \"ips\":[]}]": not valid JSON, expected "," or "}""#;
        "Mend the text at that column, or use the short form."
    ElementShape = "P02", Deny, "an element is no object";
        "nets[0]: Invalid value: null: must be a JSON object";
        "Write a list of objects, each with `name`."
    ShortForm = "P03", Deny, "a reference in short form is malformed";
        r#"nets[0]: Invalid value: "a/b/c": must be a reference of the form [namespace/]name[@interface]"#;
        "Write [namespace/]name[@interface]."
    SelectionName = "P05", Deny, "`name` or `namespace` is missing or no name";
        "nets[0].name: Required value: DNS-1123 labels: lower-case letters, digits and '-', at most 63 characters each, joined by '.'";
        "Name a NetworkAttachmentDefinition."
    InterfaceLength = "P10", Deny, "`interface` is too long";
        r#"nets[0].interface: Too long: "verylonginterface": must be at most 15 characters"#;
        "Take at most 15 characters."
    InterfaceName = "P12", Deny, "`interface` is no name of an interface";
        r#"nets[0].interface: Invalid value: "net/1": must be an interface name of 1 to 15 visible ASCII characters, not '.' or '..', without '/', ':' or '%' and no '-' first"#;
        "Leave out what names of interfaces cannot have."
    Mac = "P13", Deny, "`mac` is no address that a link can have";
        r#"nets[0].mac: Invalid value: "02-00": must be a MAC address of six bytes, as 02:00:5e:10:00:01"#;
        "Take a unicast address."
    Ips = "P16", Deny, "`ips` has what is no address";
        r#"nets[0].ips[0]: Invalid value: "10.9.0.300": must be an IPv4 or IPv6 address, with or without a prefix length"#;
        "Write addresses, with a prefix length where the network's IPAM is static."
    DefaultRoute = "P22", Deny, "`default-route` is no gateway, or asked for twice";
        r#"nets[0].default-route[1]: Invalid value: "10.9.0.2": must be at most one gateway of each address family"#;
        "Ask for one default route of each address family."
    TooManyNetworks = "P25", Deny, "more networks than a pod may have";
        "nets: Too many: 65: must have at most 64";
        "Attach fewer networks."
    MisplacedAnnotation = "P30", Warn, "the annotation stands on the workload instead of its pods";
        "nets: ignored here, move it to spec.template.metadata.annotations";
        "Move the annotation into the pod's template."
    Guid = "P32", Deny, "`infiniband-guid` is no GUID";
        r#"nets[0].infiniband-guid: Invalid value: "c2:11": must be a GUID of eight bytes, as c2:11:22:33:44:55:66:77"#;
        "Write eight pairs of hexadecimal digits."
    AnnotationSize = "P33", Deny, "an annotation is longer than is read";
        "nets: Too long: 262145: must be at most 262144 bytes";
        "Shorten the annotation."
    PolicyPath = "A01", Deny, "a policy's JSONPath does not parse, or costs too much";
        r#"spec.rules[0].select: Invalid value: "$..a..b": at most one ".." is allowed"#;
        "Write a shorter path, of at most 512 bytes."
    PolicyExpression = "A02", Deny, "a policy's regular expression does not compile";
        r#"spec.rules[0].assert.matches: Invalid value: "(": found open group without closing ')'"#;
        "Mend the expression."
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_one_rules_and_every_rule_says_what_to_do() {
        let mut ids = HashSet::new();
        for rule in Rule::ALL {
            assert!(ids.insert(rule.id()), "{rule:?}");
            let (kind, number) = rule.id().split_at(1);
            assert!("NIXPOALM".contains(kind) && number.len() == 2 && number.parse::<u8>().is_ok(), "{}", rule.id());
            for text in [rule.about(), rule.example(), rule.fix()] {
                assert!(!text.is_empty() && !text.contains('\n'), "{rule:?}");
            }
        }
    }
}
