//! Merges the results of all attachments into one for the runtime.

use attachments::cni::result::CniResult;
use attachments::cni::version::Version;
use delegates::builtin::Attached;

/// The default network's addresses, routes and dns; the interfaces of every attachment, the default's first so that its
/// indexes stay valid. `merge_ips` adds the addresses of further networks, each of which CRI-O takes for an address of the pod.
/// Versions below 0.3.0 have no interfaces: the default's result alone.
pub fn merge(attached: &[Attached], merge_ips: bool, version: Version) -> CniResult {
    let mut results = attached.iter().map(|one| &one.result);
    let mut merged = results.next().cloned().unwrap_or_default();
    if version < Version::V0_3_0 {
        return merged;
    }
    for result in results {
        let offset = i64::try_from(merged.interfaces.len()).unwrap_or_default();
        merged.interfaces.extend(result.interfaces.iter().cloned());
        if merge_ips {
            merged.ips.extend(result.ips.iter().cloned().map(|mut ip| {
                ip.interface = ip.interface.filter(|index| *index >= 0).map(|index| index + offset);
                ip
            }));
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(text: &str) -> Attached {
        let result = CniResult::parse(text.as_bytes(), Version::V1_1_0).unwrap();
        Attached { result, links: Vec::new() }
    }

    fn two() -> [Attached; 2] {
        [
            attached(
                r#"{"interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":1,"address":"10.0.0.2/24"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"d"}}"#,
            ),
            attached(
                r#"{"interfaces":[{"name":"net1","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.1.0.2/24"},{"address":"10.2.0.2/24"}],"routes":[{"dst":"10.9.0.0/16"}]}"#,
            ),
        ]
    }

    fn json(result: &CniResult) -> String {
        result.encode(Version::V1_1_0).unwrap().to_json()
    }

    #[test]
    fn interfaces_of_all_and_the_rest_of_the_default() {
        assert_eq!(
            json(&merge(&two(), false, Version::V1_1_0)),
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/n"},{"name":"net1","sandbox":"/n"}],"ips":[{"interface":1,"address":"10.0.0.2/24"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"domain":"d"}}"#
        );
    }

    #[test]
    fn merged_addresses_point_at_their_interfaces() {
        let ips = merge(&two(), true, Version::V1_1_0).ips;
        assert_eq!(ips.iter().map(|ip| ip.interface).collect::<Vec<_>>(), [Some(1), Some(2), None]);
    }

    #[test]
    fn old_versions_get_the_default_alone() {
        assert_eq!(merge(&two(), true, Version::V0_2_0).interfaces.len(), 2);
    }
}
