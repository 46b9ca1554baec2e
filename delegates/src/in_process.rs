//! The plugin types that run in process, and which of their keys hold paths of the node.

use attachments::aliases::{ALIASES, stands_for};
use attachments::bind::BuiltIn;
use attachments::names::PluginType;

use crate::builtin::Builtin;
use crate::ipam;

/// All types that are built in, by their names; `builtin` is the node's list of those that it runs in process ([`crate::call::Node::builtin`]).
pub fn types(builtin: Option<&[PluginType]>) -> Vec<BuiltIn> {
    let is_on =
        |kind: &str| builtin.is_none_or(|types| types.iter().any(|on| stands_for(on.as_str()) == stands_for(kind)));
    let delegates = Builtin::all().map(|builtin| (builtin.kind(), builtin.paths()));
    let each = |(kind, path_keys)| BuiltIn { kind, path_keys, is_on: is_on(kind) };
    let mut types: Vec<BuiltIn> = delegates.chain(ipam::TYPES).map(each).collect();
    for (alias, kind) in ALIASES {
        types.extend(types.iter().find(|known| known.kind == kind).map(|known| BuiltIn { kind: alias, ..*known }));
    }
    types.sort_unstable_by_key(|known| known.kind);
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_delegates_and_their_keys() {
        let all = types(None);
        for BuiltIn { kind, path_keys: paths, .. } in &all {
            let builtin = Builtin::from_type(&kind.parse().unwrap());
            let keys = builtin.map_or_else(|| ipam::known(kind).keys.concat(), |builtin| builtin.keys().to_vec());
            assert!(!keys.is_empty() || builtin.is_some(), "{kind} is no type");
            assert!(paths.iter().all(|path| keys.contains(path)), "{kind}: {paths:?} in {keys:?}");
            // A key that looks like a path's and is not listed would be opened unchecked.
            let sounds = |key: &&&str| ["Dir", "File", "Conf", "path", "Path"].iter().any(|end| key.ends_with(end));
            let sounding: Vec<_> = keys.iter().filter(sounds).collect();
            assert!(sounding.iter().all(|key| paths.contains(key)), "{kind}: {sounding:?} and {paths:?}");
        }
        let cnv = all.iter().find(|known| known.kind == "cnv-tuning").unwrap();
        assert_eq!(cnv.path_keys, ["dataDir"], "another name opens nothing");
        let on = |list: Option<&[PluginType]>| types(list).iter().filter(|known| known.is_on).count();
        assert_eq!((on(None), on(Some(&["vxlan".parse().unwrap(), "nothing".parse().unwrap()]))), (all.len(), 1));
        assert_eq!(on(Some(&["bridge".parse().unwrap()])), 2, "with its alias");
        assert_eq!(on(Some(&["cnv-bridge".parse().unwrap()])), 2);
    }
}
