//! The files of the node as the dialects name them: by the name of the file, not of the network.

use crate::bind::ConfFile;
use crate::cni::conf::NetworkConf;
use crate::meta_plugins::{is_meta, is_ours};
use crate::names::ConfName;

/// The files that a dialect may name: those of `confDir`, then those of the runtime's directory, each in file-name order.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeFiles<'a> {
    /// The files.
    pub files: &'a [ConfFile],
    /// The directories, for messages.
    pub dirs: &'a [String],
}

/// What a name means on a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Named<'a> {
    /// A file and its configuration.
    File(&'a str, &'a NetworkConf),
    /// A file whose plugin calls other plugins.
    Meta(&'a str),
    /// No file that can be read has the name.
    Nothing,
}

/// The name by which a dialect knows a file: without its extension, and behind the first `-` where it has one. `10-weave.conf` is
/// `weave`, and `10-my-net.conflist` is `my-net`.
pub fn short_name(file: &str) -> &str {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.split_once('-').map_or(stem, |(_, name)| name)
}

impl<'a> NodeFiles<'a> {
    /// The first readable file of a name. Our own configuration is never one.
    pub fn named(&self, name: &ConfName) -> Named<'a> {
        self.first(|file| short_name(file) == name.as_str())
    }

    /// The first readable file whose whole name is this one, but for its extension.
    pub fn exactly(&self, name: &ConfName) -> Named<'a> {
        self.first(|file| file.rsplit_once('.').is_some_and(|(stem, _)| stem == name.as_str()))
    }

    fn first(&self, is: impl Fn(&str) -> bool) -> Named<'a> {
        match self.usable().find(|(file, _)| is(file)) {
            Some((file, conf)) if conf.plugins.iter().any(|plugin| is_meta(plugin.kind.as_str())) => Named::Meta(file),
            Some((file, conf)) => Named::File(file, conf),
            None => Named::Nothing,
        }
    }

    /// The names that mean a network, each once, in order.
    pub fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for (file, conf) in self.usable() {
            let name = short_name(file);
            if !names.contains(&name) && !conf.plugins.iter().any(|plugin| is_meta(plugin.kind.as_str())) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names
    }

    fn usable(&self) -> impl Iterator<Item = (&'a str, &'a NetworkConf)> {
        let readable = self.files.iter().filter_map(|file| Some((file.name.as_str(), file.conf.as_ref().ok()?)));
        readable.filter(|(_, conf)| !conf.plugins.iter().any(|plugin| is_ours(plugin.kind.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> ConfFile {
        ConfFile { name: name.to_owned(), conf: NetworkConf::parse(text.as_bytes()) }
    }

    #[test]
    fn a_file_is_known_by_what_is_behind_the_first_dash() {
        for (file, name) in [
            ("10-weave.conf", "weave"),
            ("10-my-net.conflist", "my-net"),
            ("weave.conf", "weave"),
            ("10-a.b.conf", "a.b"),
            ("-x.conf", "x"),
        ] {
            assert_eq!(short_name(file), name);
        }
    }

    #[test]
    fn the_first_readable_file_counts_and_never_one_of_ours() {
        let files = [
            file("00-meta-cni.conflist", r#"{"name":"node","plugins":[{"type":"meta-cni"}]}"#),
            file("05-cni.conf", r#"{"name":"n","type":"meta-cni"}"#),
            file("10-weave.conf", "{"),
            file("20-weave.conf", r#"{"name":"w2","type":"weave-net"}"#),
            file("30-weave.conf", r#"{"name":"w3","type":"weave-net"}"#),
            file("40-old.conf", r#"{"name":"g","type":"genie"}"#),
        ];
        let files = NodeFiles { files: &files, dirs: &[] };
        let named = |name: &str| files.named(&name.parse().unwrap());
        assert!(matches!(named("weave"), Named::File("20-weave.conf", _)));
        assert_eq!(named("old"), Named::Meta("40-old.conf"));
        for nothing in ["meta-cni", "cni", "flannel"] {
            assert_eq!(named(nothing), Named::Nothing);
        }
        assert_eq!(files.names(), ["weave"]);
    }
}
