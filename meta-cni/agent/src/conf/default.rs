//! The capabilities of a default network that the administrator's configuration names.

use std::collections::BTreeSet;
use std::path::Path;

use attachments::cni::conf::NetworkConf;
use attachments::cni::object::Object;
use attachments::finding::Finding;
use meta_cni::conf_dir;
use meta_cni::node::{CONF_DIR, MULTUS_NAMESPACE};

use meta_cni::render::capabilities;

/// Looks up the text of a definition by namespace and name.
pub type Definitions<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// The capabilities of the network of `clusterNetwork` or `delegates`. None when the agent cannot read it: a file of a
/// directory that is not mounted, a definition that does not exist yet.
pub fn configured(config: &Object, definitions: Definitions<'_>) -> Result<Option<BTreeSet<String>>, Finding> {
    let Some(name) = config.text("clusterNetwork")?.filter(|name| !name.is_empty()) else {
        let first = config.objects("delegates")?.into_iter().next();
        return first.map(|first| NetworkConf::from_object(first).map(|conf| capabilities(&conf))).transpose();
    };
    let conf = if name.starts_with('/') {
        conf_dir::file(Path::new(&name)).and_then(|file| conf_dir::read(&file).ok())
    } else {
        let namespace = config.text("multusNamespace")?.unwrap_or_else(|| MULTUS_NAMESPACE.to_owned());
        let inline = definitions(&namespace, &name).and_then(|text| NetworkConf::parse(text.as_bytes()).ok());
        inline.or_else(|| on_disk(config, &name))
    };
    Ok(conf.map(|conf| capabilities(&conf)))
}

fn on_disk(config: &Object, name: &str) -> Option<NetworkConf> {
    let dir = config.text("confDir").ok()?.unwrap_or_else(|| CONF_DIR.to_owned());
    let confs = conf_dir::paths(Path::new(&dir)).into_iter().filter_map(|path| conf_dir::read(&path).ok());
    confs.into_iter().find(|conf| conf.name.as_ref().is_some_and(|found| found.as_str() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = r#"{"name":"cbr0","plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true,"x":false}}]}"#;

    fn of(config: &str) -> Option<Vec<String>> {
        let definitions =
            |namespace: &str, name: &str| (namespace == "kube-system" && name == "nad").then(|| CHAIN.to_owned());
        let config = Object::parse(config.as_bytes()).unwrap();
        configured(&config, &definitions).unwrap().map(|set| set.into_iter().collect())
    }

    #[test]
    fn a_default_network_is_read_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("10-a.conflist"), CHAIN).unwrap();
        let path = dir.path().display();
        let want = Some(vec!["portMappings".to_owned()]);
        assert_eq!(of(&format!(r#"{{"delegates":[{CHAIN}]}}"#)), want);
        assert_eq!(of(&format!(r#"{{"clusterNetwork":"{path}/10-a.conflist"}}"#)), want);
        assert_eq!(of(&format!(r#"{{"clusterNetwork":"{path}"}}"#)), want);
        assert_eq!(of(r#"{"clusterNetwork":"nad"}"#), want);
        assert_eq!(of(&format!(r#"{{"clusterNetwork":"cbr0","confDir":"{path}"}}"#)), want);
        assert_eq!(of(r#"{"clusterNetwork":"nad","multusNamespace":"other"}"#), None);
        assert_eq!(of("{}"), None);
    }
}
