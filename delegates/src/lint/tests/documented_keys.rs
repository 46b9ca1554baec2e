//! The keys in docs/delegates are those that the delegates read.

use std::collections::BTreeSet;

use crate::builtin::Builtin;
use crate::ipam;

/// The first column of a page's table of keys is the keys that its delegate reads.
#[test]
fn the_documented_keys_are_the_known_ones() {
    let documented = |page: &str| -> BTreeSet<String> {
        let table = page.split("\n## ").find(|section| section.starts_with("Keys")).unwrap_or_default();
        let table = table.split("\n\n").find(|part| part.starts_with("| key")).unwrap_or_default();
        let cells = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
        let keys = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned);
        keys.filter(|key| !key.starts_with("args.") && !key.starts_with("runtimeConfig.")).collect()
    };
    let known = |keys: &[&str]| -> BTreeSet<String> {
        keys.iter().filter(|key| **key != "type").map(|key| (*key).to_owned()).collect()
    };
    for (kind, page) in [
        ("bridge", include_str!("../../../../docs/delegates/bridge.md")),
        ("macvlan", include_str!("../../../../docs/delegates/macvlan.md")),
        ("ipvlan", include_str!("../../../../docs/delegates/ipvlan.md")),
        ("vxlan", include_str!("../../../../docs/delegates/vxlan.md")),
        ("bond", include_str!("../../../../docs/delegates/bond.md")),
    ] {
        let builtin = Builtin::from_type(&kind.parse().unwrap()).unwrap();
        assert_eq!(documented(page), known(builtin.keys()), "{kind}");
    }
    for (kind, page) in [
        ("blocks", include_str!("../../../../docs/delegates/blocks.md")),
        ("dhcp", include_str!("../../../../docs/delegates/dhcp.md")),
        ("host-local", include_str!("../../../../docs/delegates/host-local.md")),
        ("static", include_str!("../../../../docs/delegates/static.md")),
    ] {
        assert_eq!(documented(page), known(ipam::known(kind).keys[0]), "{kind}");
    }
}
