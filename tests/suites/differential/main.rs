//! The reference plugins v1.9.1 and ours, side by side: the same configuration in namespaces of their own, and everything
//! that can be seen compared. `case` runs one, `state` says what is seen, `chosen` lists where we differ on purpose.
//!
//! Cases of a kernel that lacks what they need live in modules `on_host` and `on_uml`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a failure is the answer")]

mod addresses;
mod bridge;
mod case;
mod chained;
mod chosen;
mod compare;
mod dhcp;
mod documented;
mod flannel;
mod mask;
mod missing;
mod side;
mod stacked;
mod state;
mod wires;

use std::collections::BTreeSet;

#[test]
fn every_chosen_difference_is_shown_by_a_case() {
    let cases = [
        addresses::on_host::cases(),
        bridge::on_host::cases(),
        bridge::on_uml::cases(),
        chained::on_host::cases(),
        chained::on_uml::cases(),
        documented::on_host::cases(),
        documented::on_uml::cases(),
        flannel::on_host::cases(),
        flannel::on_uml::cases(),
        stacked::on_host::cases(),
        stacked::on_uml::cases(),
        wires::on_host::cases(),
    ]
    .concat();
    let shown: BTreeSet<&str> = cases.iter().flat_map(|case| case.differs.iter().copied()).collect();
    let listed: BTreeSet<&str> = chosen::ALL.iter().map(|chosen| chosen.id).collect();
    assert_eq!(shown, listed, "shown by cases, and listed in chosen.rs");
    assert_eq!(listed.len(), chosen::ALL.len(), "an id is listed twice");
}
