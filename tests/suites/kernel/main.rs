//! The kernel tier: the real plugin on real kernels. A case runs on the host's kernel and inside User Mode Linux unless its
//! name says `on_host` or `on_uml`, for what the other kernel lacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod addresses;
mod blocks;
mod bonds;
mod bridge;
mod check;
mod damaged;
mod danm;
mod devices;
mod dhcp;
mod duplicates;
mod ending;
mod full_node;
mod gc;
mod hot_plug;
mod masters;
mod migrated;
mod node_keeps;
mod on_demand;
mod on_demand_vxlan;
mod overlay;
mod own_links;
mod repair;
mod replay;
mod route_override;
mod routes;
mod routing;
mod shared;
mod status;
mod tools;
mod tricks;
mod userspace;
