//! Where we differ from the reference plugins on purpose: the exact values of both, and the reason.

mod iptables;

use crate::compare::ABSENT;

/// A difference that we chose.
#[derive(Debug)]
pub struct Chosen {
    /// What cases call it.
    pub id: &'static str,
    /// Why it is so.
    #[expect(dead_code, reason = "for who reads this file")]
    pub reason: &'static str,
    /// Path (`*` stands for anything), their value, our value. At least one of them shows in a case that names the id.
    pub values: &'static [(&'static str, &'static str, &'static str)],
}

/// A link that was given IPv6 addresses makes no others itself.
pub const ADVERTISEMENTS: &str = "advertisements";

/// All of them.
pub const ALL: &[Chosen] = &[
    Chosen {
        id: "group",
        reason: "DEL removes all links of a pod with one message, by their group; the host's end shows whose it is",
        values: &[("*/link/*/group", "default", "<of the record>")],
    },
    Chosen {
        id: ADVERTISEMENTS,
        reason: "an address that IPAM gave is not joined by others, nor its routes by a router's",
        values: &[
            ("pod/setting/ipv6/conf/eth0/accept_ra", "1", "0"),
            ("pod/setting/ipv6/conf/eth0/autoconf", "1", "0"),
        ],
    },
    Chosen {
        id: "announced",
        reason: "neighbours hear of a new address in both families, as they do of a macvlan's",
        values: &[("pod/setting/ipv6/conf/eth0/ndisc_notify", "0", "1")],
    },
    Chosen {
        id: "tap-headers",
        reason: "the same device with an owner and a group as with one of them; every program that opens it says anew which headers it wants",
        values: &[
            ("pod/link/eth0/linkinfo/info_data/pi", "true", "false"),
            ("pod/link/eth0/linkinfo/info_data/vnet_hdr", "true", "false"),
        ],
    },
    Chosen {
        id: "veth-queue",
        reason: "the kernel's default; a queue of length 0 drops everything once somebody adds a queueing discipline",
        values: &[("host/link/<veth of *>/txqlen", ABSENT, "1000")],
    },
    Chosen {
        id: "bridge-mac",
        reason: "left to itself a bridge takes the lowest address of its ports, another one with every pod",
        values: &[
            ("host/link/br0/address", "<mac of <veth of eth0>>", "<mac of br0>"),
            ("host/link/br0/address", "00:00:00:00:00:00", "<mac of br0>"),
            ("host/link/*_id", "8000.<mac of <veth of eth0>>", "8000.<mac of br0>"),
            ("host/link/*_id", "8000.0:0:0:0:0:0", "8000.<mac of br0>"),
            ("result/interfaces/0/mac", "<mac of <veth of eth0>>", "<mac of br0>"),
            ("host/address/br0/<former link-local of br0>/64", LINK_LOCAL, ABSENT),
            ("host/address/br0/<link-local of br0>/64", ABSENT, LINK_LOCAL),
            ("host/route/inet6/local local <former link-local of br0> br0 0", LOCAL, ABSENT),
            ("host/route/inet6/local local <link-local of br0> br0 0", ABSENT, LOCAL),
            ("host/forwarding/br0 <former multicast of br0>", GROUP, ABSENT),
            ("host/forwarding/br0 <multicast of br0>", ABSENT, GROUP),
            ("host/forwarding/br0 <mac of br0>", ABSENT, PORT),
            ("host/forwarding/br0 <mac of br0> vlan 1", ABSENT, PORT),
            ("host/forwarding/br0 <mac of <veth of *>> vlan 1", PORT, ABSENT),
            ("host/forwarding/<veth of eth0> <mac of <veth of eth0>> vlan 1", ABSENT, PORT),
            ("host/link/br0/address", "<mac of <veth of br0.100>>", "<mac of br0>"),
            ("host/link/*_id", "8000.<mac of <veth of br0.100>>", "8000.<mac of br0>"),
            ("result/interfaces/0/mac", "<mac of <veth of br0.100>>", "<mac of br0>"),
        ],
    },
    Chosen {
        id: "default-route-twice",
        reason: "the default route that IPAM lists is the one that is wanted",
        values: &[(
            "ADD",
            "failed to add route '{0.0.0.0 00000000000000000000ffff00000000} via 10.1.0.1 dev eth0 metric 0 (Scope: universe, Table: 0)': file exists",
            "attached",
        )],
    },
    Chosen {
        id: "route-sizes",
        reason: "the result would tell of what is not there",
        values: &[(
            "pod/route/inet/main unicast 192.0.2.0/24 eth0 -",
            r#"{"flags":[],"gateway":"10.1.0.1","protocol":"boot","scope":"global"}"#,
            r#"{"flags":[],"gateway":"10.1.0.1","metrics":[{"advmss":1200,"mtu":1300}],"protocol":"boot","scope":"global"}"#,
        )],
    },
    Chosen {
        id: "iptables-tables",
        reason: "asks iptables whether it holds rules, and thereby makes its tables; we start no program",
        values: &[("host/nft/table ip nat", "there", ABSENT), ("host/nft/table ip6 nat", "there", ABSENT)],
    },
    Chosen {
        id: "masquerade-iptables",
        reason: "masquerading is nftables, in process, in the table that the reference plugin has for its own nftables rules",
        values: iptables::MASQUERADE,
    },
    Chosen {
        id: "tuning-backup",
        reason: "old values are in the record, which survives a reboot and is restored by DEL and GC",
        values: &[
            ("file/data/<container>_eth0.json/mac", "<a former mac>", ABSENT),
            ("file/data/<container>_eth0.json/mtu", "1500", ABSENT),
            ("file/data/<container>_eth0.json/promisc", "false", ABSENT),
            ("file/data/<container>_eth0.json/allmulti", "false", ABSENT),
            ("file/data/<container>_eth0.json/txQLen", "1000", ABSENT),
        ],
    },
    Chosen {
        id: "tuning-restores",
        reason: "settings come back as well as the link's properties",
        values: &[("pod/setting/core/somaxconn", "500", "4096")],
    },
    Chosen {
        id: "tuning-args-alone",
        reason: "it crashes where only args name settings",
        values: &[("ADD", "panic: assignment to entry in nil map", "attached")],
    },
    Chosen {
        id: "portmap-masquerades-all",
        reason: "its nftables backend forgets masqAll",
        values: &[(
            "host/nft/table ip cni_hostport/chain masquerading/04",
            ABSENT,
            "ip daddr 10.1.0.2 tcp dport 80 ct status dnat ct original proto-dst 8080 masquerade comment \"<container>\"",
        )],
    },
    Chosen {
        id: "portmap-conditions",
        reason: "one pod's conditions must not hold for the ports of all others",
        values: &[
            (
                "host/nft/table ip cni_hostport/chain hostports/01",
                r#"tcp dport 8080 dnat to 10.1.0.2:80 comment "<container>""#,
                r#"ip daddr != 192.0.2.0/24 tcp dport 8080 dnat to 10.1.0.2:80 comment "<container>""#,
            ),
            (
                "host/nft/table ip cni_hostport/chain *put/02",
                "ip daddr != 192.0.2.0/24 fib daddr type local jump hostports_all",
                "fib daddr type local jump hostports_all",
            ),
            (
                "host/nft/table ip cni_hostport/chain prerouting/02",
                "ip daddr != 192.0.2.0/24 fib daddr type local jump hostports_all",
                "fib daddr type local jump hostports_all",
            ),
            (
                "host/nft/table ip6 cni_hostport/chain hostports/01",
                r#"tcp dport 8080 dnat to [fd00:1::2]:80 comment "<container>""#,
                r#"ip6 daddr != fc00::/7 tcp dport 8080 dnat to [fd00:1::2]:80 comment "<container>""#,
            ),
            (
                "host/nft/table ip6 cni_hostport/chain *put/02",
                "ip6 daddr != fc00::/7 fib daddr type local jump hostports_all",
                "fib daddr type local jump hostports_all",
            ),
            (
                "host/nft/table ip6 cni_hostport/chain prerouting/02",
                "ip6 daddr != fc00::/7 fib daddr type local jump hostports_all",
                "fib daddr type local jump hostports_all",
            ),
        ],
    },
    Chosen {
        id: "portmap-one-family",
        reason: "in a family in which no port is mapped, no packet is one that was",
        values: &[
            (
                "host/nft/table ip cni_hostport/chain masquerading/02",
                r#"ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment "<container>""#,
                ABSENT,
            ),
            (
                "host/nft/table ip cni_hostport/chain masquerading/03",
                r#"ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment "<container>""#,
                ABSENT,
            ),
        ],
    },
    Chosen {
        id: "portmap-iptables",
        reason: "host ports are nftables, in process, in the tables that the reference plugin has for its own nftables rules",
        values: iptables::PORTS,
    },
    Chosen {
        id: "sbr-tables",
        reason: "the result tells which table a route moved to",
        values: &[("result/routes/0/table", ABSENT, "100"), ("result/routes/1/table", ABSENT, "101")],
    },
    Chosen {
        id: "sbr-link-local",
        reason: "without its route in the main table no link-local address is reached",
        values: &[
            ("pod/route/inet6/10* unicast fe80::/64 eth0 256", LOCAL, ABSENT),
            ("pod/route/inet6/main unicast fe80::/64 eth0 256", ABSENT, LOCAL),
        ],
    },
    Chosen {
        id: "sbr-other-family",
        reason: "a table for IPv4 source addresses needs no IPv6 routes",
        values: &[("pod/route/inet6/100 unicast fd00:1::/64 eth0 256", LOCAL, ABSENT)],
    },
    Chosen {
        id: "bandwidth-mirror",
        reason: "what was redirected once is gone: its second action is never reached",
        values: &[
            (
                r#"host/queue/ingress/<veth of eth0>/*"to_dev":"bwp1eea603b6b94"},{"bind":1,"control_action":{"type":"pass"}*"#,
                "there",
                ABSENT,
            ),
            (r#"host/queue/ingress/<veth of eth0>/*"to_dev":"bwp1eea603b6b94"}],*"#, ABSENT, "there"),
        ],
    },
    Chosen {
        id: "ptp-no-detection",
        reason: "on a wire with nobody else a search for duplicates takes a second and finds nothing",
        values: &[
            (
                "host/address/<veth of eth0>/fd00:1::1/128",
                ADDRESS,
                r#"{"family":"inet6","nodad":true,"preferred_life_time":4294967295,"scope":"global","valid_life_time":4294967295}"#,
            ),
            ("pod/setting/ipv6/conf/eth0/accept_dad", "1", "0"),
        ],
    },
    Chosen {
        id: "ptp-full-length",
        reason: "an address that is its own subnet has its gateway on the wire all the same",
        values: &[(
            "ADD",
            "failed to add route '{0.0.0.0 00000000} via 169.254.1.1 dev eth0 metric 0 (Scope: universe, Table: 0)': network is unreachable",
            "attached",
        )],
    },
    Chosen {
        id: "device-as-it-was",
        reason: "a device goes back with the state and the addresses that it had",
        values: &[
            ("host/link/up0/flags", r#"["BROADCAST","MULTICAST"]"#, r#"["BROADCAST","MULTICAST","UP","LOWER_UP"]"#),
            ("host/link/up0/qdisc", "noop", "noqueue"),
            ("host/link/up*/operstate", "DOWN", "UP"),
            (
                "host/link/up1/flags",
                r#"["NO-CARRIER","BROADCAST","MULTICAST","UP","M-DOWN"]"#,
                r#"["BROADCAST","MULTICAST","UP","LOWER_UP"]"#,
            ),
            (
                "host/address/up0/10.9.0.2/24",
                ABSENT,
                r#"{"family":"inet","label":"up0","preferred_life_time":4294967295,"scope":"global","valid_life_time":4294967295}"#,
            ),
            ("host/address/up0/<*link-local of up0>/64", ABSENT, LINK_LOCAL),
            ("host/forwarding/up0 01:00:5e:00:00:01", ABSENT, GROUP),
            ("host/forwarding/up0 <*multicast of up0>", ABSENT, GROUP),
            (
                "host/route/inet/local * up0 -",
                ABSENT,
                r#"{"flags":[],"prefsrc":"10.9.0.2","protocol":"kernel","scope":"link"}"#,
            ),
            (
                "host/route/inet/local local 10.9.0.2 up0 -",
                ABSENT,
                r#"{"flags":[],"prefsrc":"10.9.0.2","protocol":"kernel","scope":"host"}"#,
            ),
            (
                "host/route/inet/main unicast 10.9.0.0/24 up0 -",
                ABSENT,
                r#"{"flags":[],"prefsrc":"10.9.0.2","protocol":"kernel","scope":"link"}"#,
            ),
            ("host/route/inet6/* up0 *", ABSENT, LOCAL),
            (
                "host/route/inet6/* up1 256",
                r#"{"flags":["linkdown"],"pref":"medium","protocol":"kernel","scope":"global"}"#,
                LOCAL,
            ),
        ],
    },
    Chosen {
        id: "loopback-stays-up",
        reason: "the path may lead to another pod by now, and a namespace's lo goes with it",
        values: &[
            (
                "pod/address/lo/::1/128",
                ABSENT,
                r#"{"family":"inet6","preferred_life_time":4294967295,"scope":"host","valid_life_time":4294967295}"#,
            ),
            ("pod/link/lo/flags", r#"["LOOPBACK"]"#, r#"["LOOPBACK","UP","LOWER_UP"]"#),
            ("pod/link/lo/operstate", "DOWN", "UNKNOWN"),
            (
                "pod/route/inet/local broadcast 127.255.255.255 lo -",
                ABSENT,
                r#"{"flags":[],"prefsrc":"127.0.0.1","protocol":"kernel","scope":"link"}"#,
            ),
            ("pod/route/inet6/local local ::1 lo 0", ABSENT, LOCAL),
        ],
    },
    Chosen {
        id: "iptables-rules-stay",
        reason: "rules that were made by iptables are out of reach of a process that starts no program",
        values: iptables::LEFT,
    },
    Chosen {
        id: "loopback-version",
        reason: "the answer is in the version that was asked for",
        values: &[
            ("result/dns", ABSENT, "{}"),
            ("result/interfaces/0/mac", "00:00:00:00:00:00", ABSENT),
            ("result/interfaces/0/name", "lo", ABSENT),
            ("result/interfaces/0/sandbox", "<sandbox>", ABSENT),
            ("result/ips/*/interface", "0", ABSENT),
            ("result/ips/0/address", "127.0.0.1/8", ABSENT),
            ("result/ips/1/address", "::1/128", ABSENT),
            ("result/ip4/ip", ABSENT, "127.0.0.1/8"),
            ("result/ip6/ip", ABSENT, "::1/128"),
            ("result/ips/0/version", ABSENT, "4"),
            ("result/ips/1/version", ABSENT, "6"),
        ],
    },
    Chosen {
        id: "bridge-does-not-filter",
        reason: "without VLAN filtering the key would have no effect",
        values: &[(
            "ADD",
            "attached",
            "network compared (eth0): bridge: got \"br0\", want a bridge with vlan_filtering on, for `vlan` to have an effect: br0 has it off",
        )],
    },
];

const LINK_LOCAL: &str =
    r#"{"family":"inet6","preferred_life_time":4294967295,"scope":"link","valid_life_time":4294967295}"#;
const LOCAL: &str = r#"{"flags":[],"pref":"medium","protocol":"kernel","scope":"global"}"#;
const PORT: &str = r#"{"flags":[],"master":"br0","state":"permanent"}"#;
const GROUP: &str = r#"{"flags":["self"],"state":"permanent"}"#;
const ADDRESS: &str =
    r#"{"family":"inet6","preferred_life_time":4294967295,"scope":"global","valid_life_time":4294967295}"#;
