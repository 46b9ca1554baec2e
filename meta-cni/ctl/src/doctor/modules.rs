//! What a kernel says of its modules, as files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Modules by where they are.
#[derive(Debug, Default)]
pub struct Modules {
    present: BTreeSet<String>,
    loadable: BTreeSet<String>,
}

impl Modules {
    /// Those of the kernel that runs, in a root directory.
    pub fn of(root: &Path, release: &str) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let lib = format!("lib/modules/{release}");
        Self::read(
            &read("proc/modules"),
            &read(&format!("{lib}/modules.builtin")),
            &read(&format!("{lib}/modules.dep")),
        )
    }

    /// From the texts of /proc/modules, modules.builtin and modules.dep.
    fn read(loaded: &str, builtin: &str, dep: &str) -> Self {
        let file = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split(".ko").next().unwrap_or_default().replace('-', "_")
        };
        let loaded = loaded.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
        Self {
            present: loaded.chain(builtin.lines().map(file)).collect(),
            loadable: dep.lines().filter_map(|line| line.split(':').next()).map(file).collect(),
        }
    }

    /// Is it in the kernel, or would it be loaded on demand?
    pub fn has(&self, name: &str) -> bool {
        self.present.contains(name) || self.loadable.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_built_in_or_loadable() {
        let modules = Modules::read(
            "vxlan 139264 0 - Live 0x0\nip6_udp_tunnel 16384 1 vxlan, Live 0x0\n",
            "kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko\n",
            "kernel/drivers/net/macvlan.ko.xz: \nkernel/net/8021q/8021q.ko.zst: kernel/net/802/garp.ko\nkernel/net/x/nft-chain-nat.ko:\n",
        );
        for name in ["vxlan", "bridge", "veth", "macvlan", "8021q", "nft_chain_nat"] {
            assert!(modules.has(name), "{name}");
        }
        assert!(!modules.has("ipvlan") && !modules.has(""));
    }
}
