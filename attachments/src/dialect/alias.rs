//! Definitions by the names that a dialect's annotations give: names that may be none of an object's, looked for in two namespaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{NetRef, ObjectName};

/// The annotation of a definition that says by which name Knitter's pods know it, where that is no name of an object.
pub const KNITTER_NAME: &str = "meta-cni.io/knitter-name";
/// The annotation of a definition that opens it to the pods of all namespaces: `true`, in the administrator's namespace.
pub const KNITTER_PUBLIC: &str = "meta-cni.io/knitter-public";

/// A name, and where it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alias {
    /// The name as the annotation has it.
    pub name: String,
    /// The pod's namespace, whose definitions come first.
    pub namespace: ObjectName,
    /// The namespace whose public definitions every pod may name.
    pub shared: ObjectName,
}

/// What a definition's metadata say of the names that it has.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Namespace and name.
    pub reference: &'a NetRef,
    /// [`KNITTER_NAME`].
    pub name: Option<&'a str>,
    /// Is [`KNITTER_PUBLIC`] `true`?
    pub is_public: bool,
}

impl<'a> Candidate<'a> {
    /// By the annotations of a definition.
    pub fn of(reference: &'a NetRef, annotations: &'a BTreeMap<String, String>) -> Self {
        let text = |key: &str| annotations.get(key).map(String::as_str);
        Self { reference, name: text(KNITTER_NAME), is_public: text(KNITTER_PUBLIC) == Some("true") }
    }
}

impl Alias {
    /// Longest name, in bytes.
    pub const LONGEST: usize = 253;

    /// The definitions that have the name: those of the pod's namespace, else the public ones of the other. One is the network; several
    /// share the name, which is ambiguous.
    pub fn among<'a>(&self, known: impl Iterator<Item = Candidate<'a>>) -> Vec<NetRef> {
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for Candidate { reference, name, is_public } in known {
            // The name of an object means that object, so that an annotation takes no definition's name away.
            let is_it = match self.name.parse::<ObjectName>() {
                Ok(object) => reference.name == object,
                Err(_) => name == Some(self.name.as_str()),
            };
            match &reference.namespace {
                _ if !is_it => {}
                namespace if *namespace == self.namespace => own.push(reference.clone()),
                namespace if *namespace == self.shared && is_public => shared.push(reference.clone()),
                _ => {}
            }
        }
        if own.is_empty() { shared } else { own }
    }

    /// The namespaces, each once.
    pub fn namespaces(&self) -> impl Iterator<Item = &ObjectName> {
        std::iter::once(&self.namespace).chain(Some(&self.shared).filter(|shared| **shared != self.namespace))
    }
}

/// The name that an object has for a name that may be none of an object's: in lower case, with `-` for what cannot be in one.
pub fn object_name(text: &str) -> Option<ObjectName> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().map(plain).collect();
    text.trim_matches(['-', '.']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, known: &[(&str, &str, bool)]) -> Vec<String> {
        let alias = Alias { name: name.into(), namespace: "shop".parse().unwrap(), shared: "admin".parse().unwrap() };
        let references: Vec<NetRef> = known
            .iter()
            .map(|(reference, _, _)| {
                let (namespace, name) = reference.split_once('/').unwrap();
                NetRef { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
            })
            .collect();
        let candidates = references.iter().zip(known).map(|(reference, (_, name, is_public))| Candidate {
            reference,
            name: Some(*name).filter(|name| !name.is_empty()),
            is_public: *is_public,
        });
        alias.among(candidates).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_pods_own_definitions_come_before_the_administrators_public_ones() {
        let both = [("admin/control", "", true), ("shop/control", "", false), ("other/control", "", true)];
        assert_eq!(found("control", &both), ["shop/control"]);
        assert_eq!(found("control", &[("admin/control", "", true)]), ["admin/control"]);
        assert!(found("control", &[("admin/control", "", false)]).is_empty(), "it is private");
        assert!(found("control", &[("other/control", "", true)]).is_empty(), "public is a word of the administrator");
    }

    #[test]
    fn a_name_that_no_object_can_have_is_that_of_the_annotation() {
        let known = [("admin/net-api", "net_api", true), ("admin/net-api-2", "Net-Api", true)];
        assert_eq!(found("net_api", &known), ["admin/net-api"]);
        assert_eq!(found("Net-Api", &known), ["admin/net-api-2"]);
        let two = [("admin/a", "net_api", true), ("admin/b", "net_api", true)];
        assert_eq!(found("net_api", &two), ["admin/a", "admin/b"]);
        // Nobody takes the name of another's definition by an annotation.
        assert_eq!(found("lan", &[("shop/lan", "", false), ("shop/wan", "lan", false)]), ["shop/lan"]);
    }

    #[test]
    fn names_become_names_of_objects() {
        for (text, name) in [("net_api", "net-api"), ("Web", "web"), ("_a b_", "a-b"), ("lan.1", "lan.1")] {
            assert_eq!(object_name(text).unwrap().as_str(), name);
        }
        assert!(object_name("___").is_none() && object_name("a..b").is_none());
    }
}
