//! The sections of address management.

use super::*;

#[test]
fn addresses() {
    for (text, want) in [
        ("\"routes\":[]", "ipam.ranges: Required value: set subnet or ranges [I01]"),
        (
            r#""subnet":"10.9.0.0""#,
            r#"ipam.subnet: Invalid value: "10.9.0.0": must be CIDR, for example "10.9.0.0/24" [I02]"#,
        ),
        (
            r#""subnet":"10.9.0.5/24""#,
            r#"ipam.subnet: Invalid value: "10.9.0.5/24": host bits set, use "10.9.0.0/24" [I03]"#,
        ),
        (
            r#""subnet":"10.9.0.0/31""#,
            r#"ipam.subnet: Invalid value: "10.9.0.0/31": must leave at least 2 host bits [I04]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","rangeEnd":"10.9.1.9""#,
            r#"ipam.rangeEnd: Invalid value: "10.9.1.9": must be inside 10.9.0.0/24 [I05]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","rangeStart":"10.9.0.90","rangeEnd":"10.9.0.20""#,
            r#"ipam.rangeStart: Invalid value: "10.9.0.90": must not be above rangeEnd 10.9.0.20 [I06]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.9.0.0/25"}]]"#,
            r#"ipam.ranges[1]: Invalid value: "10.9.0.1-10.9.0.126": overlaps ranges[0] (10.9.0.1-10.9.0.254) [I07]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"},{"subnet":"fd00::/126"}]]"#,
            r#"ipam.ranges[0][1]: Invalid value: "fd00::1-fd00::3": one list per address family [I08]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","gateway":"10.8.0.1""#,
            r#"ipam.gateway: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24 [I10]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","routes":[{"dst":"default"}]"#,
            r#"ipam.routes[0].dst: Invalid value: "default": must be CIDR, use "0.0.0.0/0" for a default route [I11]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","routes":[{"dst":"10.1.0.0/16","gw":"10.8.0.1"}]"#,
            r#"ipam.routes[0].gw: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24 [I11]"#,
        ),
        (r#""subnet":"10.9.0.0/24","dataDir":"x""#, r#"ipam.dataDir: Invalid value: "x": must be an absolute path"#),
    ] {
        says(&host_local(text), want);
    }
    says(
        r#"{"cniVersion":"0.2.0","plugins":[{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.8.0.0/24"}]]}}]}"#,
        r#"cniVersion: Invalid value: "0.2.0": must be "0.3.0" or later for more than one address of a family [I09]"#,
    );
    says(
        &ipam(r#""type":"static","addresses":[{"address":"10.9.0.7"}]"#),
        r#"ipam.addresses[0].address: Invalid value: "10.9.0.7": must include a prefix, for example "10.9.0.7/24" [I15]"#,
    );
    for (text, want) in [
        ("\"exclude\":[]", "ipam.subnet: Required value: set subnet or ranges [I01]"),
        (
            r#""subnet":"10.9.0.0""#,
            r#"ipam.subnet: Invalid value: "10.9.0.0": must be CIDR, for example "10.9.0.0/24" [I02]"#,
        ),
        (
            r#""subnet":"10.9.0.5/24""#,
            r#"ipam.subnet: Invalid value: "10.9.0.5/24": host bits set, use "10.9.0.0/24" [I03]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","rangeStart":"10.9.0.90","rangeEnd":"10.9.0.20""#,
            r#"ipam.rangeStart: Invalid value: "10.9.0.90": must not be above rangeEnd 10.9.0.20 [I06]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.9.0.0/25"}]]"#,
            r#"ipam.ranges[1][0]: Invalid value: "10.9.0.0/25": overlaps ranges[0][0] (10.9.0.0/24) [I07]"#,
        ),
        (
            r#""ranges":[[{"subnet":"10.9.0.0/24"},{"subnet":"fd00::/126"}]]"#,
            r#"ipam.ranges[0][1]: Invalid value: "fd00::/126": one list per address family [I08]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","gateway":"10.8.0.1""#,
            r#"ipam.gateway: Invalid value: "10.8.0.1": must be inside 10.9.0.0/24 [I10]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","blockSize":"64""#,
            r#"ipam.blockSize: Invalid value: "64": must be a number, remove the quotes [N19]"#,
        ),
        (
            r#""subnet":"10.9.0.0/24","dataDir":"/x""#,
            r#"ipam.dataDir: unknown key for "blocks"; allowed: type, subnet, ranges, rangeStart, rangeEnd, gateway, exclude, routes, blockSize, families [N18]"#,
        ),
    ] {
        says(&ipam(&format!(r#""type":"blocks",{text}"#)), want);
    }
    // A gateway that another route leads to is reachable.
    let by_route =
        r#""subnet":"10.9.0.0/24","routes":[{"dst":"169.254.1.1/32"},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]"#;
    assert_eq!(lines(&host_local(by_route)), Vec::<String>::new());
    // An external interface plugin with our IPAM's configuration.
    assert_eq!(lines(&plugin(r#""type":"sriov","ipam":{"type":"host-local","subnet":"x"}"#)).len(), 1);
}
