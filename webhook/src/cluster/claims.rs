//! Who owns which VNI on which UDP port, as VniClaims say.

use std::collections::{BTreeSet, HashMap};

use attachments::names::NetRef;
use serde_json::Value;

/// UDP port and VNI: what the kernel tells overlays apart by.
pub type Pair = (u16, u32);

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The definition that owns it, as `namespace/name`. It may not be there yet, or not any more.
    pub owner: Box<str>,
    /// MTU of the overlay, once a node has pinned it.
    pub mtu: Option<u32>,
    /// How many nodes are in the overlay, as far as the janitor has told.
    pub members: u64,
}

/// The claims by pair and by owner.
#[derive(Debug, Default)]
pub struct Claims {
    claims: HashMap<Pair, Claim>,
    owned: HashMap<Box<str>, BTreeSet<Pair>>,
}

impl Claims {
    /// A claim is there, or has changed. Its name is the pair, `PORT-VNI`.
    pub fn apply(&mut self, name: &str, spec: &Value, members: u64) {
        let Some(pair) = pair(name) else { return };
        self.delete(name);
        let text = |key: &str| spec["owner"][key].as_str().unwrap_or_default();
        let owner: Box<str> = format!("{}/{}", text("namespace"), text("name")).into();
        let mtu = spec["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok());
        self.owned.entry(owner.clone()).or_default().insert(pair);
        self.claims.insert(pair, Claim { owner, mtu, members });
    }

    /// A claim is gone.
    pub fn delete(&mut self, name: &str) {
        let Some((pair, claim)) = pair(name).and_then(|pair| self.claims.remove_entry(&pair)) else { return };
        if let Some(owned) = self.owned.get_mut(&claim.owner) {
            owned.remove(&pair);
            if owned.is_empty() {
                self.owned.remove(&claim.owner);
            }
        }
    }

    /// A list was read: claims that it did not have are gone.
    pub fn retain(&mut self, is_listed: impl Fn(&str) -> bool) {
        let names = self.claims.keys().map(|(port, vni)| format!("{port}-{vni}"));
        let gone: Vec<String> = names.filter(|name| !is_listed(name)).collect();
        gone.iter().for_each(|name| self.delete(name));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.owned.is_empty()
    }

    /// The claim of a pair.
    pub fn get(&self, pair: Pair) -> Option<&Claim> {
        self.claims.get(&pair)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Pair, &Claim)> {
        self.claims.iter().map(|(pair, claim)| (*pair, claim))
    }

    /// The pairs that a definition owns, in order.
    pub fn of(&self, owner: &NetRef) -> impl Iterator<Item = Pair> + use<'_> {
        self.owned.get(owner.to_string().as_str()).into_iter().flatten().copied()
    }
}

/// The pair of a claim's name.
fn pair(name: &str) -> Option<Pair> {
    let (port, vni) = name.split_once('-')?;
    Some((port.parse().ok()?, vni.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(claims: &Claims, name: &str) -> Vec<Pair> {
        claims.of(&NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() }).collect()
    }

    #[test]
    fn a_claim_is_known_by_its_pair_and_by_its_owner_until_it_is_gone() {
        let spec = |name: &str| json!({"owner": {"namespace": "shop", "name": name}, "mtu": 1450});
        let mut claims = Claims::default();
        for (name, owner) in [("4789-7", "blue"), ("4789-8", "blue"), ("8472-7", "red"), ("nonsense", "red")] {
            claims.apply(name, &spec(owner), 2);
        }
        let claim = Claim { owner: "shop/blue".into(), mtu: Some(1450), members: 2 };
        assert_eq!((claims.get((4789, 7)), claims.len()), (Some(&claim), 3));
        assert_eq!((owned(&claims, "blue"), owned(&claims, "red")), (vec![(4789, 7), (4789, 8)], vec![(8472, 7)]));
        // Made again in another's name.
        claims.apply("4789-8", &spec("red"), 0);
        assert_eq!((owned(&claims, "blue"), owned(&claims, "red").len()), (vec![(4789, 7)], 2));
        claims.retain(|name| name == "4789-7");
        assert_eq!((claims.len(), owned(&claims, "red")), (1, vec![]));
        claims.delete("4789-7");
        assert!(claims.is_empty());
    }
}
