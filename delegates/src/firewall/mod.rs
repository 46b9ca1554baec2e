//! Every nftables table of ours: its chains and hooks, what its rules are, and whose each rule is.
//!
//! A module for each table knows its rules as values ([`Rule`](crate::nl::nft::Rule)) and brings the kernel there by
//! atomic batches; [`crate::nl::nft`] knows their bytes. All tables are in the host's namespace, the thread's own. Tables,
//! base chains and the rules that lead from one chain to the next stay once they are there, as the reference plugins' do; a
//! rule that belongs to an attachment goes with it. Another plugin process may do the same at the same moment: what was
//! listed is read again when a batch was refused for it ([`again_when_raced`]).
//!
//! ```text
//! inet cni_plugins_masquerade         ipMasq of bridge and ptp                                     module masquerade
//!   postrouting   nat, hook postrouting, srcnat (100)
//!     to multicast: return (one rule a family)                                    the table's, shared
//!     goto masq_checks                                                            the table's, shared
//!   masq_checks
//!     from a pod's address, not to its subnet: masquerade                         the attachment's, by comment
//!
//! ip cni_hostport, ip6 cni_hostport   portMappings of portmap                                      module port_mappings
//!   prerouting    nat, hook prerouting, dstnat (-100)
//!   output        nat, hook output, dstnat (-100)
//!     to an address of the node: jump hostports_all                               the table's, shared
//!   hostports_all
//!     jump hostip_hostports, then jump hostports                                  the table's, shared
//!   hostports
//!     to a mapped port: dnat to the pod                                           the container's, by comment
//!   masquerading  nat, hook postrouting, srcnat (100)
//!     from a pod or 127.0.0.1 to the pod itself: masquerade                       the container's, by comment
//!
//! bridge nat                          macspoofchk of bridge                                        module mac_spoof_check
//!   PREROUTING    filter, hook prerouting, dstnat (-300)
//!     in by a port of a pod: jump cni-br-iface-ID                                 the attachment's, by its chain
//!   cni-br-iface-ID                                                               the attachment's
//!     jump cni-br-iface-ID-mac
//!   cni-br-iface-ID-mac                                                           the attachment's
//!     from the pod's MAC address: return
//!     drop
//!
//! netdev meta_cni_ports               macspoofchk and bumRate of vxlan                             module pod_ports
//!   vethXXXXXXXX  filter, hook ingress of the port                                the attachment's, by its chain
//!     from another than the pod's MAC address: drop
//!     to many, beyond the rate: drop
//!
//! inet meta_cni_overlays              overlays whose members are known                             module overlays
//!   prerouting    filter, hook prerouting, raw (-300)
//!     to a port of overlays: jump tunnels
//!   tunnels
//!     from a member, by the underlay: return
//!     to a tunnel end of the node or of a member: drop
//!   input         filter, hook input, filter (-10)
//!     in by a bridge of overlays: goto from-pods
//!   from-pods
//!     ICMP, or of a known connection: return
//!     drop
//!   forward       filter, hook forward, filter (-10)
//!     within one overlay: return
//!     from a bridge that is no gateway, or from one gateway to another: drop
//!     to a gateway, of a known connection: return
//!     to a bridge of overlays: drop
//! ```
//!
//! The names, chains, rules and comments of the first three are the reference plugins', so that each undoes what the other
//! made. A table that is ours alone has a name that begins with `meta_cni_`, and goes with
//! its last port.

pub mod mac_spoof_check;
pub mod masquerade;
pub mod noted;
pub mod overlays;
pub mod pod_ports;
pub mod port_mappings;
mod table;
mod unused;

pub use self::table::{again_when_raced, leads, present, require};
pub use self::unused::clear;
