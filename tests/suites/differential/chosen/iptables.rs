//! Rules of the packet filter where the reference plugin takes iptables and we take nftables.

use crate::compare::ABSENT;

const THERE: &str = "there";

/// Masquerading of one pod.
pub const MASQUERADE: &[(&str, &str, &str)] = &[
    ("host/nft/table inet cni_plugins_masquerade", ABSENT, THERE),
    (
        "host/nft/table inet cni_plugins_masquerade/01",
        ABSENT,
        r#"comment "Masquerading for plugins from github.com/containernetworking/plugins""#,
    ),
    ("host/nft/table inet cni_plugins_masquerade/chain masq_checks", ABSENT, THERE),
    (
        "host/nft/table inet cni_plugins_masquerade/chain masq_checks/01",
        ABSENT,
        r#"comment "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet""#,
    ),
    (
        "host/nft/table inet cni_plugins_masquerade/chain masq_checks/02",
        ABSENT,
        r#"ip saddr 10.1.0.2 ip daddr != 10.1.0.0/24 masquerade comment "92402fd872967d3c-cafffc4ee68bef59, net: compared, if: eth0, id: <container>""#,
    ),
    ("host/nft/table inet cni_plugins_masquerade/chain postrouting", ABSENT, THERE),
    (
        "host/nft/table inet cni_plugins_masquerade/chain postrouting/01",
        ABSENT,
        "type nat hook postrouting priority srcnat; policy accept;",
    ),
    ("host/nft/table inet cni_plugins_masquerade/chain postrouting/02", ABSENT, "ip daddr 224.0.0.0/4 return"),
    ("host/nft/table inet cni_plugins_masquerade/chain postrouting/03", ABSENT, "ip6 daddr ff00::/8 return"),
    ("host/nft/table inet cni_plugins_masquerade/chain postrouting/04", ABSENT, "goto masq_checks"),
    ("host/nft/table ip nat", THERE, ABSENT),
    ("host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f", THERE, ABSENT),
    ("host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f/01", "ip daddr 10.1.0.0/24  counter accept", ABSENT),
    (
        "host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f/02",
        "ip daddr != 224.0.0.0/4  counter masquerade",
        ABSENT,
    ),
    ("host/nft/table ip nat/chain POSTROUTING", THERE, ABSENT),
    ("host/nft/table ip nat/chain POSTROUTING/01", "type nat hook postrouting priority srcnat; policy accept;", ABSENT),
    (
        "host/nft/table ip nat/chain POSTROUTING/*",
        "ip saddr 10.1.0.2  counter jump CNI-1eea603b6b94d4ff5080669f",
        ABSENT,
    ),
];

/// One host port of one pod.
pub const PORTS: &[(&str, &str, &str)] = &[
    ("host/nft/table ip cni_hostport", ABSENT, THERE),
    ("host/nft/table ip cni_hostport/01", ABSENT, r#"comment "CNI portmap plugin""#),
    ("host/nft/table ip cni_hostport/chain hostip_hostports", ABSENT, THERE),
    ("host/nft/table ip cni_hostport/chain hostports", ABSENT, THERE),
    (
        "host/nft/table ip cni_hostport/chain hostports/01",
        ABSENT,
        r#"tcp dport 8080 dnat to 10.1.0.2:80 comment "<container>""#,
    ),
    ("host/nft/table ip cni_hostport/chain hostports_all", ABSENT, THERE),
    ("host/nft/table ip cni_hostport/chain hostports_all/01", ABSENT, "jump hostip_hostports"),
    ("host/nft/table ip cni_hostport/chain hostports_all/02", ABSENT, "jump hostports"),
    ("host/nft/table ip cni_hostport/chain masquerading", ABSENT, THERE),
    (
        "host/nft/table ip cni_hostport/chain masquerading/01",
        ABSENT,
        "type nat hook postrouting priority srcnat; policy accept;",
    ),
    (
        "host/nft/table ip cni_hostport/chain masquerading/02",
        ABSENT,
        r#"ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment "<container>""#,
    ),
    (
        "host/nft/table ip cni_hostport/chain masquerading/03",
        ABSENT,
        r#"ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment "<container>""#,
    ),
    ("host/nft/table ip cni_hostport/chain output", ABSENT, THERE),
    ("host/nft/table ip cni_hostport/chain output/01", ABSENT, "type nat hook output priority -100; policy accept;"),
    ("host/nft/table ip cni_hostport/chain output/02", ABSENT, "fib daddr type local jump hostports_all"),
    ("host/nft/table ip cni_hostport/chain prerouting", ABSENT, THERE),
    (
        "host/nft/table ip cni_hostport/chain prerouting/01",
        ABSENT,
        "type nat hook prerouting priority dstnat; policy accept;",
    ),
    ("host/nft/table ip cni_hostport/chain prerouting/02", ABSENT, "fib daddr type local jump hostports_all"),
    ("host/nft/table ip nat", THERE, ABSENT),
    ("host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806", THERE, ABSENT),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/01",
        "ip saddr 10.1.0.0/24 tcp dport 8080 counter jump CNI-HOSTPORT-SETMARK",
        ABSENT,
    ),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/02",
        "ip saddr 127.0.0.1 tcp dport 8080 counter jump CNI-HOSTPORT-SETMARK",
        ABSENT,
    ),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/03",
        "tcp dport 8080 counter dnat to 10.1.0.2:80",
        ABSENT,
    ),
    ("host/nft/table ip nat/chain CNI-HOSTPORT-DNAT", THERE, ABSENT),
    (
        "host/nft/table ip nat/chain CNI-HOSTPORT-DNAT/01",
        "meta l4proto tcp  tcp dport 8080 counter jump CNI-DN-1eea603b6b94d4ff50806",
        ABSENT,
    ),
    ("host/nft/table ip nat/chain CNI-HOSTPORT-MASQ", THERE, ABSENT),
    (
        "host/nft/table ip nat/chain CNI-HOSTPORT-MASQ/01",
        "meta mark & 0x00002000 == 0x00002000 counter masquerade",
        ABSENT,
    ),
    ("host/nft/table ip nat/chain CNI-HOSTPORT-SETMARK", THERE, ABSENT),
    ("host/nft/table ip nat/chain CNI-HOSTPORT-SETMARK/01", "counter meta mark set mark or 0x2000", ABSENT),
    ("host/nft/table ip nat/chain OUTPUT", THERE, ABSENT),
    ("host/nft/table ip nat/chain OUTPUT/01", "type nat hook output priority -100; policy accept;", ABSENT),
    ("host/nft/table ip nat/chain OUTPUT/02", "fib daddr type local counter jump CNI-HOSTPORT-DNAT", ABSENT),
    ("host/nft/table ip nat/chain POSTROUTING", THERE, ABSENT),
    ("host/nft/table ip nat/chain POSTROUTING/01", "type nat hook postrouting priority srcnat; policy accept;", ABSENT),
    ("host/nft/table ip nat/chain POSTROUTING/02", "counter jump CNI-HOSTPORT-MASQ", ABSENT),
    ("host/nft/table ip nat/chain PREROUTING", THERE, ABSENT),
    ("host/nft/table ip nat/chain PREROUTING/01", "type nat hook prerouting priority dstnat; policy accept;", ABSENT),
    ("host/nft/table ip nat/chain PREROUTING/02", "fib daddr type local counter jump CNI-HOSTPORT-DNAT", ABSENT),
];

/// What a DEL by us leaves of what they made.
pub const LEFT: &[(&str, &str, &str)] = &[
    ("host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806", ABSENT, THERE),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/01",
        ABSENT,
        "ip saddr 10.1.0.0/24 tcp dport 8080 counter jump CNI-HOSTPORT-SETMARK",
    ),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/02",
        ABSENT,
        "ip saddr 127.0.0.1 tcp dport 8080 counter jump CNI-HOSTPORT-SETMARK",
    ),
    (
        "host/nft/table ip nat/chain CNI-DN-1eea603b6b94d4ff50806/03",
        ABSENT,
        "tcp dport 8080 counter dnat to 10.1.0.2:80",
    ),
    (
        "host/nft/table ip nat/chain CNI-HOSTPORT-DNAT/01",
        ABSENT,
        "meta l4proto tcp  tcp dport 8080 counter jump CNI-DN-1eea603b6b94d4ff50806",
    ),
    ("host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f", ABSENT, THERE),
    ("host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f/01", ABSENT, "ip daddr 10.1.0.0/24  counter accept"),
    (
        "host/nft/table ip nat/chain CNI-1eea603b6b94d4ff5080669f/02",
        ABSENT,
        "ip daddr != 224.0.0.0/4  counter masquerade",
    ),
    (
        "host/nft/table ip nat/chain POSTROUTING/*",
        ABSENT,
        "ip saddr 10.1.0.2  counter jump CNI-1eea603b6b94d4ff5080669f",
    ),
];
