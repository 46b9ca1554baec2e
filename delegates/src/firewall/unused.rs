//! Tables that nobody needs when the plugin goes: those in which there is nothing but the frame that leads to attachments' rules.
//!
//! Three tables are the reference plugins' too, and one has a name that anybody may choose (`bridge nat`). So a table goes only when all of
//! its chains are ours by name and no rule is in it but the frame, and in the batch that deletes it the kernel checks that nothing has changed
//! meanwhile. A reference plugin that needs the table makes it again.

use std::time::Instant;

use super::table::{again_when_raced, open};
use super::{mac_spoof_check, masquerade, overlays, pod_ports, port_mappings};
use crate::error::Result;
use crate::nl::nft::{Step, StoredRule, Table, is_missing};

/// A table of ours, and how it looks without attachments.
pub(super) struct Frame {
    pub table: Table<'static>,
    /// All chains that it may have; `None` where the table is nobody else's.
    pub chains: Option<&'static [&'static str]>,
    /// Are these the rules of the frame, and none beside them?
    pub is_bare: fn(&[StoredRule]) -> bool,
}

/// Deletes unused tables of the thread's namespace; gives their names.
pub fn clear(deadline: Instant) -> Result<Vec<String>> {
    let mut frames = vec![masquerade::frame(), mac_spoof_check::frame(), overlays::frame(), pod_ports::frame()];
    frames.extend(port_mappings::frames());
    let mut gone = Vec::new();
    for frame in frames {
        let mut is_gone = false;
        again_when_raced(deadline, || {
            is_gone = delete(&frame, deadline)?;
            Ok(())
        })?;
        if is_gone {
            gone.push(frame.table.to_string());
        }
    }
    Ok(gone)
}

fn delete(frame: &Frame, deadline: Instant) -> Result<bool> {
    let Some(mut nftables) = open(deadline)? else { return Ok(false) };
    let generation = nftables.generation()?;
    let chains = match nftables.chains(frame.table) {
        // A kernel without the family.
        Err(error) if is_missing(&error) => return Ok(false),
        chains => chains?,
    };
    let is_ours =
        !chains.is_empty() && chains.iter().all(|chain| frame.chains.is_none_or(|ours| ours.contains(&chain.as_str())));
    if !is_ours || !(frame.is_bare)(&nftables.rules(frame.table)?) {
        return Ok(false);
    }
    nftables.commit_at(generation, &[(frame.table, vec![Step::DeleteTable])])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::netns::testing::as_host;
    use crate::nl::nft::testing::nft;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    const FRAMES: &str = "
        add table inet cni_plugins_masquerade
        add chain inet cni_plugins_masquerade masq_checks
        add chain inet cni_plugins_masquerade postrouting { type nat hook postrouting priority 100 ; }
        add rule inet cni_plugins_masquerade postrouting ip daddr == 224.0.0.0/4 return
        add rule inet cni_plugins_masquerade postrouting ip6 daddr == ff00::/8 return
        add rule inet cni_plugins_masquerade postrouting goto masq_checks
        add table bridge nat
        add chain bridge nat PREROUTING { type filter hook prerouting priority -300 ; }
        add table inet others
        add chain inet others input { type filter hook input priority 0 ; }\n";

    #[test]
    fn kernel_on_host_tables_without_attachments_go_and_no_others() {
        as_host(|| {
            assert!(clear(soon()).unwrap().is_empty());
            nft(&["-f", "-"], FRAMES);
            assert_eq!(clear(soon()).unwrap(), ["inet cni_plugins_masquerade", "bridge nat"]);
            let left = nft(&["list", "ruleset"], "");
            assert!(left.contains("table inet others") && left.matches("table ").count() == 1, "{left}");
        });
    }

    #[test]
    fn kernel_on_host_a_rule_or_a_chain_of_somebody_keeps_the_table() {
        for strange in [
            "add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.2.3 masquerade",
            "add rule inet cni_plugins_masquerade postrouting counter",
            "add chain inet cni_plugins_masquerade mine",
            "add chain bridge nat mine\nadd rule inet cni_plugins_masquerade masq_checks counter",
            "add rule bridge nat PREROUTING counter\nadd chain inet cni_plugins_masquerade mine",
        ] {
            as_host(|| {
                nft(&["-f", "-"], &format!("{FRAMES}{strange}\n"));
                let gone = clear(soon()).unwrap();
                assert!(!gone.iter().any(|table| table.contains("masquerade")), "{strange}: {gone:?}");
                assert_eq!(gone.contains(&"bridge nat".to_owned()), !strange.contains("bridge"), "{strange}");
            });
        }
    }
}
