//! The API objects: what is shipped in `deploy/crds` is what the types say, and objects as people write them are read.
//!
//! `UPDATE_CRDS=1 cargo test -p attachments --features api --test api` rewrites the files after a deliberate change.

#![allow(clippy::unwrap_used, reason = "a test's own constants")]

use std::path::Path;

use attachments::api::{
    AddressBlock, AddressClaim, AddressSet, AttachmentLevel, AttachmentPolicy, OverlayMember, VniClaim,
};
use attachments::definition::{Definition, NetworkAttachmentDefinition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every kind that is shipped: its file, and where its types are.
fn kinds() -> [(&'static str, &'static str, CustomResourceDefinition); 8] {
    [
        ("network-attachment-definitions", "definition.rs", NetworkAttachmentDefinition::crd()),
        ("attachment-policies", "policy/spec.rs", AttachmentPolicy::crd()),
        ("attachment-levels", "policy/spec.rs", AttachmentLevel::crd()),
        ("vni-claims", "api/vni_claim.rs", VniClaim::crd()),
        ("overlay-members", "api/overlay_member.rs", OverlayMember::crd()),
        ("address-blocks", "api/address_block.rs", AddressBlock::crd()),
        ("address-claims", "api/address_claim.rs", AddressClaim::crd()),
        ("address-sets", "api/address_set.rs", AddressSet::crd()),
    ]
}

#[test]
fn the_shipped_definitions_are_the_types() {
    for (file, source, crd) in kinds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/crds/{file}.yaml"));
        let header = format!("# Generated from attachments/src/{source}; attachments/tests/api.rs says how.\n");
        let text = format!("{header}{}", serde_saphyr::to_string(&crd).unwrap());
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
    }
}

#[test]
fn the_yaml_reads_back_as_the_same_definition() {
    for (file, _, crd) in kinds() {
        let text = serde_saphyr::to_string(&crd).unwrap();
        let again: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(again, serde_json::to_value(&crd).unwrap(), "{file}");
    }
}

#[test]
fn a_manifest_becomes_a_definition() {
    let read = |text: &str| -> Result<Definition, _> {
        Definition::try_from(&serde_saphyr::from_str::<NetworkAttachmentDefinition>(text).unwrap())
    };
    let head = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n";
    let full = format!(
        "{head}metadata:\n  name: net\n  namespace: ns\n  annotations:\n    k8s.v1.cni.cncf.io/resourceName: v.com/nic\nspec:\n  config: '{{\"type\": \"macvlan\"}}'\n"
    );
    let definition = read(&full).unwrap();
    assert_eq!(definition.reference.to_string(), "ns/net");
    assert_eq!(definition.inline(), Some("{\"type\": \"macvlan\"}"));
    assert_eq!(definition.resource_name.as_deref(), Some("v.com/nic"));
    let bare = read(&format!("{head}metadata:\n  name: net\n  namespace: ns\n")).unwrap();
    assert_eq!((bare.config, bare.resource_name), (None, None));
    let homeless = read(&format!("{head}metadata:\n  name: net\n")).unwrap_err();
    assert!(homeless.to_string().starts_with("metadata.namespace: missing"));
}
