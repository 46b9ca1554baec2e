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

            /// Is it about more than the text of one object? Only admission judges these, with what it knows of the cluster; they
            /// stand behind the others.
            pub const fn needs_cluster(self) -> bool {
                self as u8 >= Self::ClusterSubnet as u8
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
        r#"cfg.vlanID: unknown key for "macvlan"; allowed: master, masterVlan, masterVlanName, masterVxlan, masterVxlanName, mode, mtu, mac, linkInContainer, bcqueuelen, ipam, acceptRA, dns"#;
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
    NoMaster = "N24", Warn, "macvlan or ipvlan has no `master`";
        "cfg.master: not set; the default-route interface of each node will be used";
        "Name the node's interface."
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
    NoResourceName = "N32", Warn, "sriov has no device resource to take its device from; refused with `--strict`";
        r#"metadata.annotations[k8s.v1.cni.cncf.io/resourceName]: Required value: plugin "sriov" needs a device resource"#;
        "Name the resource in the annotation."
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
    CompetingRoute = "I12", Warn, "a default route in a definition";
        "cfg.ipam.routes[0].dst: 0.0.0.0/0 competes with the cluster default route; use default-route in the pod annotation";
        "Drop the route, and set `default-route` where a pod wants it."
    NodeLocalAddresses = "I13", Warn, "host-local on a segment that spans nodes; refused with `--strict`";
        r#"cfg.ipam.type: "host-local" allocates per node; duplicates are likely on a shared segment, use a cluster-wide IPAM"#;
        "Give each node a range of its own, or use a cluster-wide IPAM."
    StaticAddress = "I15", Deny, "a static address without a prefix length";
        r#"cfg.ipam.addresses[0].address: Invalid value: "10.9.0.7": must include a prefix, for example "10.9.0.7/24""#;
        "Append the prefix length."
    WhereaboutsRange = "I16", Deny, "no range of whereabouts, or no exclusion";
        r#"cfg.ipam.range: Invalid value: "abc.1.1.0/24": must be CIDR or start-end/prefix"#;
        "Write a subnet, or its first and last address with the prefix length."
    Exclude = "I17", Deny, "an element of `exclude` is neither an address nor a subnet";
        r#"cfg.ipam.exclude[0]: Invalid value: "10.9.0.300": must be an address or CIDR"#;
        "Write addresses, or subnets with a prefix length."
    BlockSize = "I18", Deny, "no size of a block";
        "cfg.ipam.blockSize: Invalid value: 100: must be a power of two from 1 to 4096";
        "Take a power of two: what a node has at least, and what it takes at once."
    NothingLeft = "I19", Deny, "the pool has no address for pods";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.0/30": leaves no address for pods"#;
        "Take a larger subnet, or exclude less."
    Vni = "X01", Deny, "no VNI";
        "cfg.vni: Invalid value: 0: must be an integer from 1 to 16777215";
        "Take a VNI of the range, or leave `vni` out where a webhook draws it."
    OverlayPort = "O03", Deny, "no UDP port of an overlay";
        "cfg.port: Invalid value: 70000: must be an integer from 1 to 65535";
        "Take a port of the range, or leave `port` out."
    AnnotationJson = "P01", Deny, "the annotation is no JSON";
        r#"nets: Invalid value: line 1 column 16 near "[{\"name\":\"lan\" \"ips\":[]}]": not valid JSON, expected "," or "}""#;
        "Mend the text at that column, or use the short form."
    ElementShape = "P02", Deny, "an element is no object";
        "nets[0]: Invalid value: null: must be a JSON object";
        "Write a list of objects, each with `name`."
    ShortForm = "P03", Deny, "a reference in short form is malformed";
        r#"nets[0]: Invalid value: "a/b/c": must be a reference of the form [namespace/]name[@interface]"#;
        "Write [namespace/]name[@interface]."
    ElementKey = "P04", Warn, "a key that nobody reads";
        r#"nets[0].ip: unknown key, did you mean "ips"?"#;
        "Correct the key or remove it."
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
    Routing = "P36", Deny, "`meta-cni.io/routes` or `meta-cni.io/rules` cannot be followed";
        r#"nets[0].meta-cni.io/routes[0].dst: Invalid value: "10.9.0.1": must be an IPv4 or IPv6 network, as 10.9.0.0/16"#;
        "Write routes as {dst, gw, table} and rules as {from, table}, each destination once in a table."
    AddressRequest = "P37", Deny, "`meta-cni.io/addresses` is no such word, or contradicts `ips` or the network";
        r#"nets[0].meta-cni.io/addresses: Invalid value: "none": must be no IPv4 address in ips, for IPv4 is none"#;
        "Write none, dynamic or static, for both families or as {ipv4, ipv6}; static wants `ips`, the others want none."
    AddressSet = "P38", Deny, "`meta-cni.io/address-set` is no name, stands beside another request, or the network has no blocks";
        r#"nets[0].meta-cni.io/address-set: Forbidden: "web": cannot be combined with ips"#;
        "Name an AddressSet and no addresses, for a network with `ipam.type` `blocks`."
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
    ClusterSubnet = "I14", Deny, "the subnet is the cluster's own: of pods, services, or of the nodes where the network has a gateway or is an overlay";
        r#"cfg.ipam.subnet: Invalid value: "10.244.0.0/16": overlaps the cluster pod network 10.244.0.0/16"#;
        "Take a subnet that the cluster does not use."
    VniTaken = "X02", Deny, "another definition has the VNI on that port";
        "cfg.vni: Duplicate value: 4200: already used by NetworkAttachmentDefinition team-b/red on port 4789";
        "Take another VNI, or ask the owner to list the definition in `sharedWith`."
    VniReserved = "X03", Deny, "the VNI and port of the default network";
        "cfg.vni: Forbidden: 1: reserved by the default network (flannel.1, port 8472)";
        "Take another VNI or port."
    PortTaken = "X04", Warn, "the UDP port of the default network's tunnel; refused with `--strict`";
        "cfg.port: Invalid value: 8472: in use by the default network's tunnel; choose another, for example 4789";
        "Leave `port` out, or take another."
    OverlaySubnet = "X05", Warn, "two overlays share addresses; refused within one namespace";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.0/16": overlaps 10.9.4.0/24 of overlay team-b/red"#;
        "Give each overlay a subnet of its own."
    OverlayMtu = "X06", Deny, "an overlay's MTU is above what its underlay has room for, or another than its nodes have; a warning where other overlays tell";
        "cfg.mtu: Invalid value: 1500: must be at most 1450, the underlay's 1500 less 50 bytes of VXLAN";
        "Leave `mtu` out, or take a smaller one."
    MasterOfBoth = "X07", Warn, "macvlan and ipvlan on one master; refused with `--strict`";
        r#"cfg.master: Forbidden: "ens20": already an ipvlan master in default/br-n6; one interface cannot serve both"#;
        "Use one of the two plugins on an interface, or another interface."
    MasterMode = "X08", Deny, "another mode of ipvlan on one master";
        r#"cfg.mode: Invalid value: "l3": master "ens20" already runs "l2" in default/br-n6"#;
        "Use one mode on an interface."
    MasterAlone = "X09", Deny, "macvlan passthru shares its master";
        r#"cfg.mode: Forbidden: "passthru": needs "ens20" for itself, also used by default/lan"#;
        "Give passthru an interface of its own."
    NameTaken = "X10", Warn, "another definition has the network's name and another content; refused with `--strict`";
        r#"cfg.name: Duplicate value: "bluenet": default/bluenet uses it with another configuration"#;
        "Rename the network: host-local keeps addresses by this name."
    SegmentSubnet = "X11", Warn, "two networks of one segment give out the same addresses, each for itself; refused with `--strict`";
        r#"cfg.ipam.subnet: Invalid value: "10.9.0.0/24": allocated independently by default/lan on the same master"#;
        "Give both one name, or keep their ranges apart."
    BridgeGateway = "X12", Deny, "one bridge, two gateways";
        r#"cfg.ipam.gateway: Invalid value: "10.9.0.1": bridge "br1" already has 10.8.0.1 from default/lan"#;
        "Take the bridge's gateway, or another bridge."
    VlanTaken = "X13", Warn, "another definition of vlan has the same id on the same master";
        r#"cfg.vlanId: 100 on "eth1" can serve one pod per node; consider macvlan on a vlan interface"#;
        "Make the VLAN's interface on the node, and macvlan on it."
    DeviceTaken = "X14", Warn, "another definition has the same device";
        r#"cfg.device: "ens5" is also claimed by default/fast; only one pod per node can hold it"#;
        "Use one definition for a device."
    NoVniLeft = "X15", Deny, "a definition without `vni`, and none is left that could be drawn, or none could be claimed; a warning where nobody takes claims";
        "cfg.vni: Required value: no VNI of 100000-100001 is free on UDP port 4789; delete a network, set a VNI outside of it, or have --vni-range widened";
        "Set `vni`, or free one."
    NoDefinition = "P06", Deny, "there is no such definition (in templates a warning)";
        r#"nets[0].name: Not found: "macvlan-con" in namespace "shop"; did you mean "macvlan-conf"?"#;
        "Correct the name, or create the definition first."
    Isolated = "P07", Deny, "a definition of another namespace, while namespaces are isolated";
        r#"nets[0].namespace: Forbidden: "infra": isolation allows only "shop", "default""#;
        "Use a definition of the pod's namespace or of a global one."
    DefaultIsolated = "P08", Deny, "the default network is another namespace's, while namespaces are isolated";
        r#"metadata.annotations[v1.multus-cni.io/default-network]: Forbidden: "infra/sriov": isolation allows only "shop", "default""#;
        "Use a definition of the pod's namespace or of a global one."
    InterfaceTaken = "P09", Deny, "two networks have one interface name";
        r#"nets[1].interface: Duplicate value: "net2": also given to nets[0]"#;
        "Name every interface, or none."
    InterfaceReserved = "P11", Deny, "a name that an interface of the pod has anyway";
        r#"nets[0].interface: Forbidden: "eth0": used by the cluster network"#;
        "Take another name."
    MacOfMaster = "P14", Deny, "`mac` for ipvlan";
        r#"nets[0].mac: Forbidden: plugin "ipvlan" shares its master's MAC"#;
        "Leave `mac` out."
    MacTaken = "P15", Deny, "another pod of the network has the MAC (a warning for live migration)";
        r#"nets[0].mac: Duplicate value: "02:00:00:00:00:01": used by pod shop/web-1"#;
        "Take another MAC."
    OutsideRanges = "P17", Deny, "an address outside of the network's ranges";
        r#"nets[0].ips[0]: Invalid value: "10.8.0.7": must be inside 10.9.0.10-10.9.0.200"#;
        "Take an address of the ranges."
    ReservedAddress = "P18", Deny, "the address of the subnet, its broadcast address or its gateway";
        r#"nets[0].ips[0]: Forbidden: "10.9.0.1": gateway of shop/lan"#;
        "Take another address."
    Undeclared = "P19", Warn, "the network does not declare the capability; refused for `ips` that nobody would heed";
        r#"nets[0].ips: Forbidden: shop/lan does not declare capability "ips""#;
        "Declare the capability in the definition, or drop the request."
    AddressTaken = "P20", Deny, "another pod holds the address (a warning for live migration)";
        r#"nets[0].ips[0]: Duplicate value: "10.9.0.7": held by pod shop/web-0"#;
        "Take another address, or delete that pod first."
    OneForAll = "P21", Warn, "several pods will ask for one address";
        "spec.replicas: 3 pods will ask for the same address 10.9.0.7";
        "Let the network give addresses, or run one replica."
    DefaultRouteGateway = "P23", Deny, "the gateway is in no subnet of the network";
        r#"nets[0].default-route[0]: Invalid value: "10.8.0.7": must be inside 10.9.0.0/24"#;
        "Name a gateway of the network."
    SubnetTwice = "P24", Warn, "two networks of the pod share addresses";
        "nets[1]: subnet 10.9.0.0/24 overlaps nets[0]; replies may leave by the wrong interface";
        "Attach one of them, or use policy routing (sbr)."
    HostNetwork = "P26", Deny, "a pod of the host's network asks for further networks";
        "nets: Forbidden: hostNetwork pods cannot have attachments";
        "Drop the annotation or `hostNetwork`."
    StatusWritten = "P27", Deny, "`network-status` is written by somebody else than the agent (a warning where the pod is created)";
        "metadata.annotations[k8s.v1.cni.cncf.io/network-status]: Forbidden: written by the node agent";
        "Leave the annotation alone."
    LateChange = "P28", Warn, "the networks of a running pod are changed, and nobody acts on it";
        "nets: changing networks of a running pod has no effect; recreate the pod";
        "Recreate the pod."
    ChangeInPlace = "P29", Deny, "an attachment of a running pod is changed in place";
        r#"nets[0]: Forbidden: interface "net1" is attached; remove it first, then add it back"#;
        "Remove the element, wait, add it again."
    NoResource = "P31", Warn, "no container requests the device of the network";
        r#"spec.containers: no container requests "vendor.com/vf" needed by shop/fast"#;
        "Request the resource in a container."
    ResourceCount = "P34", Deny, "with `--inject`: a container requests another number of a device than the pod's networks use";
        r#"spec.containers[0].resources.requests[vendor.com/vf]: Invalid value: "1": the pod's networks use 2, first shop/fast; ask for 2, or leave it out"#;
        "Request as many as the networks use, or none."
    NodeSelector = "P35", Deny, "with `--inject`: a node selector keeps the pod from the nodes of its network";
        r#"spec.nodeSelector[rack]: Invalid value: "b": network shop/fast is on nodes with rack=a"#;
        "Drop the label from `nodeSelector`, or attach another network."
    OverlayChange = "O01", Deny, "VNI, port or underlay of an overlay in use are changed";
        "cfg.vni: Forbidden: cannot change from 4200 to 4300 while 1 running pod uses it, first shop/web-0; create a new overlay";
        "Create another definition and move the pods."
    OverlayShrinks = "O02", Deny, "an overlay's subnet is removed while its addresses are in use";
        "cfg.ipam: Forbidden: 1 address is in use, first 10.9.0.14 by shop/web-0";
        "Keep the subnet until those pods are gone."
    OverlayOwner = "O04", Warn, "a definition is deleted that owns the VNI of an overlay which nodes are in";
        "owns VNI 4200 on UDP port 4789; the pods on 2 nodes keep the overlay until they go";
        "Delete the pods first, and those of definitions that share the VNI."
    ChangeInUse = "L01", Warn, "a definition in use is changed in what its attachments are made of; refused with `--strict`";
        "cfg.master: Forbidden: 4 running pods use this network, first shop/web-0; create a new NAD";
        "Create another definition and move the pods."
    DeleteInUse = "L02", Warn, "a definition in use is deleted; refused with `--deny-delete-in-use`, unless its namespace is deleted too";
        "4 running pods use it, first shop/web-0; they cannot restart without it";
        "Delete the pods first."
    PolicyLeft = "L03", Warn, "new labels take a namespace out of a policy";
        r#"metadata.labels: policy "tenant-a" no longer applies; 6 attachments stay unrestricted"#;
        "Keep the labels, or look after what is attached already."
    PolicyFor = "M01", Deny, "a MultiNetworkPolicy does not say for which networks";
        "metadata.annotations[k8s.v1.cni.cncf.io/policy-for]: Required value: comma-separated list of networks";
        "Name the networks."
    PolicyNetwork = "M02", Warn, "a MultiNetworkPolicy is for a network that is unknown, or that nobody filters";
        r#"metadata.annotations[k8s.v1.cni.cncf.io/policy-for]: "shop/br" uses plugin "bridge", which the enforcer does not filter"#;
        "Name a network that the enforcer filters."
    PolicyCidr = "M03", Deny, "no CIDR, or an exception outside of its block";
        r#"spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "10.1.0.0/24": must be inside 10.0.0.0/24"#;
        "Correct the block."
    PolicyPeer = "M04", Deny, "a peer has both a block and selectors";
        "spec.egress[0].to[0]: Forbidden: ipBlock cannot be combined with podSelector";
        "Make two peers."
    PolicyPort = "M05", Deny, "`endPort` without a port by number, or below it";
        "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be at least port 443";
        "Give a `port` by number, and an `endPort` that is no less."
    PolicyProtocol = "M06", Deny, "no protocol of the list";
        r#"spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP""#;
        "Name a protocol of the list."
    PolicyUnmet = "A03", Warn, "a new policy, or a level, that definitions break which exist";
        r#"2 existing objects violate rule "vni-pool", first shop/blue"#;
        "Change the definitions, or take mode `Warn` until they are."
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
