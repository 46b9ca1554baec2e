//! Everything that makes an interface.
//!
//! [`builtin`] turns a typed configuration into a [`spec`], [`apply`] brings the kernel there, [`firewall`] knows every
//! nftables table of ours, [`overlay`] what a node holds of a VXLAN overlay, [`networks`] what agent and plugin
//! tell one another of networks that span nodes, [`nl`] speaks netlink, [`ipam`] gives addresses. [`exec`] runs what is not built in. A [`call::Call`] is one verb for one plugin; the engine hands it to
//! either. [`leftovers`] is what goes with the plugin. [`lint`] says what is wrong with a definition before anybody is called.

pub mod apply;
pub mod boot;
pub mod builtin;
pub mod call;
pub mod dad;
pub mod default_route;
pub mod error;
pub mod exec;
pub mod firewall;
pub mod host;
pub mod in_process;
pub mod ipam;
pub mod leftovers;
pub mod lint;
pub mod lock;
pub mod netns;
pub mod networks;
pub mod nl;
mod node_links;
pub mod node_networks;
pub mod overlay;
pub mod ownership;
mod poll;
pub mod priority;
mod random;
pub mod reserved;
pub mod routing;
pub mod sandbox;
pub mod saved_states;
mod shared;
pub mod spec;
pub mod spelling;
mod tap;
mod whole_file;
