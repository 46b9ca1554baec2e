//! `flannel`: hands on to another plugin, with the subnet that flannel has given to the node.
//!
//! What was handed on is noted where the flannel plugin notes it, so that a DEL by either sees the ADD's configuration.

mod subnet;

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::PluginType;
use ipnet::{IpNet, Ipv4Net};

use self::subnet::Subnets;
use super::conf_reader::ConfReader;
use super::delegate::{Context, Delegate, Reading, Undo};
use super::{Attached, Builtin, check, check_in_pod};
use crate::call::{Call, Node, Point, Verb};
use crate::error::{Error, Result};
use crate::exec;
use crate::host::Host;
use crate::ipam::Leased;
use crate::ownership::{Owner, Ownership};
use crate::sandbox::Sandbox;

const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DATA_DIR: &str = "/var/lib/cni/flannel";
/// Stands for flannel's subnet where there is no node (RFC 5737).
const EXAMPLE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24));

/// The keys of the configuration.
const KEYS: [&str; 4] = ["subnetFile", "dataDir", "delegate", "ipam"];

/// The configuration.
#[derive(Clone, Debug)]
pub(super) struct Config {
    subnet_file: PathBuf,
    data_dir: PathBuf,
    /// Who gets it.
    kind: PluginType,
    /// Its own reader.
    delegate: Object,
    /// `ipam`, which flannel's subnet goes into.
    ipam: Object,
}

impl Config {
    fn read(conf: &Object) -> Reading<Self> {
        let mut reader = ConfReader::of(conf);
        let path = |reader: &mut ConfReader<'_>, key: &str, default: &str| {
            let text = reader.keep(conf.text(key)).filter(|text| !text.is_empty());
            text.map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        let subnet_file = path(&mut reader, "subnetFile", SUBNET_FILE);
        let data_dir = path(&mut reader, "dataDir", DATA_DIR);
        let delegate = reader.keep(conf.object("delegate")).unwrap_or_default();
        for key in ["name", "ipam"] {
            if let Some(value) = delegate.get(key) {
                let allowed = "nothing: flannel sets it";
                reader.refuse(Finding::new(format!("delegate.{key}"), value.get(), allowed));
            }
        }
        let kind =
            reader.keep(delegate.parsed::<PluginType>("type", PluginType::ALLOWED).map_err(|e| e.under("delegate")));
        if kind.as_ref().is_some_and(|kind| kind.as_str() == "flannel") {
            reader.refuse(Finding::new("delegate.type", "\"flannel\"", "another plugin than flannel itself"));
        }
        let kind = kind.map_or_else(|| "bridge".parse(), Ok).map_err(|finding: Finding| vec![finding])?;
        let ipam = reader.keep(conf.object("ipam")).unwrap_or_default();
        reader.keep(ipam.objects("routes").map_err(|e| e.under("ipam")));
        reader.finish(Self { subnet_file, data_dir, kind, delegate, ipam })
    }

    /// The configuration of the plugin that it is handed on to.
    fn render(&self, conf: &Object, subnets: &Subnets) -> Result<Object> {
        let mut rendered = self.delegate.clone();
        let mut default = |key: &str, json: &dyn Fn(&mut Object)| {
            if self.delegate.get(key).is_none() {
                json(&mut rendered);
            }
        };
        default("type", &|o| o.set("type", &self.kind));
        // Somebody must do it, and flannel does not.
        default("ipMasq", &|o| o.set("ipMasq", &!subnets.masquerades));
        default("mtu", &|o| o.set("mtu", &subnets.mtu));
        if self.kind.as_str() == "bridge" {
            default("isGateway", &|o| o.set("isGateway", &true));
        }
        default("args", &|o| o.set_some("args", conf.get("args").as_ref()));
        for key in ["name", "cniVersion", "runtimeConfig", "prevResult", "cni.dev/valid-attachments"] {
            rendered.set_some(key, conf.get(key).as_ref());
        }
        let mut ipam = self.ipam.clone();
        if ipam.get("type").is_none() {
            ipam.set("type", &"host-local");
        }
        ipam.set("ranges", &subnets.subnets.iter().map(|subnet| [pair("subnet", subnet)]).collect::<Vec<_>>());
        let mut routes = self.ipam.objects("routes")?;
        routes.extend(subnets.networks.iter().map(|network| pair("dst", network)));
        ipam.set("routes", &routes);
        rendered.set("ipam", &ipam);
        Ok(rendered)
    }
}

fn pair(key: &str, value: &impl serde::Serialize) -> Object {
    let mut object = Object::new();
    object.set(key, value);
    object
}

/// The delegate.
pub(super) struct Flannel;

impl Delegate for Flannel {
    const TYPE: &'static str = "flannel";
    const KEYS: &'static [&'static str] = &KEYS;
    const PATHS: &'static [&'static str] = &["subnetFile", "dataDir"];
    const TAKES_ADDRESSES: bool = false;

    type Config = Config;

    fn read(conf: &Object) -> Reading<Config> {
        Config::read(conf)
    }

    /// What is wrong with the delegate's keys: these are judged with a subnet that stands for flannel's.
    fn validate(config: &Config, conf: &Object) -> Vec<Finding> {
        let Some(builtin) = Builtin::from_type(&config.kind) else { return Vec::new() };
        let subnets = Subnets { subnets: vec![EXAMPLE], mtu: 1450, ..Subnets::default() };
        let Ok(rendered) = config.render(conf, &subnets) else { return Vec::new() };
        let is_ours = |finding: &Finding| {
            let first = finding.path.split(['.', '[']).next().unwrap_or_default();
            ["ipam", "runtimeConfig", "args"].contains(&first) && config.delegate.get(first).is_none()
        };
        let each = |finding: Finding| if is_ours(&finding) { finding } else { finding.under("delegate") };
        builtin.validate(&rendered).into_iter().map(each).collect()
    }

    /// What the plugin that it is handed on to may not have of the node.
    fn admit(config: Result<&Config>, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let config = config?;
        let Some(builtin) = Builtin::from_type(&config.kind) else { return Ok(()) };
        // Which subnet it is decides nothing here.
        let rendered = config.render(call.conf, &Subnets::default())?;
        builtin.admit(host, &Call { conf: &rendered, ..call.clone() }).map_err(|error| match error {
            Error::Config(findings) => Error::Config(attachments::finding::under("delegate", findings)),
            other => other,
        })
    }

    fn require_programs(config: &Config, node: &Node<'_>, conf: &Object) -> Result<()> {
        let Some(builtin) = in_process(node, &config.kind) else {
            return exec::find(&config.kind, node.plugin_dirs).map(drop);
        };
        // Which subnet it is decides nothing here.
        let rendered = config.render(conf, &Subnets { subnets: vec![EXAMPLE], mtu: 1450, ..Subnets::default() })?;
        builtin.configure(&rendered).map_err(Error::Config)?.require_programs(node, &rendered)
    }

    fn add(config: &Config, cx: Context<'_, '_>, _leased: Leased) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let rendered = config.render(call.conf, &Subnets::read(&config.subnet_file)?)?;
        let note = note_of(&config.data_dir, point);
        require_room(&config.data_dir, call, point)?;
        write_note(&note, &rendered).map_err(Error::io(format!("write {}", note.display())))?;
        let inner = Call { conf: &rendered, ..call.clone() };
        let attached = match in_process(&host.node, &config.kind) {
            Some(builtin) => {
                let delegate = builtin.configure(&rendered).map_err(Error::Config);
                delegate.and_then(|delegate| delegate.add(host, sandbox, &inner))
            }
            None => exec::run(&host.node, &config.kind, Verb::Add, &inner)
                .and_then(|stdout| exec::add_result(&config.kind, &stdout, call.version))
                .map(Attached::nothing),
        };
        let is_untouched =
            in_process(&host.node, &config.kind).is_some() || matches!(attached, Err(Error::NoPlugin { .. }));
        if attached.is_err() && is_untouched {
            // A program that failed is told DEL with it; what runs in process has undone everything.
            let _ = fs::remove_file(&note);
        }
        attached
    }

    fn restore(cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        let Undo { host, call, point } = cx;
        let Some((kind, conf)) = handed_on(&host.node, call, point)? else { return Ok(()) };
        match in_process(&host.node, &kind) {
            Some(builtin) => builtin.restore(host, sandbox, &Call { conf: &conf, ..call.clone() }, saved),
            None => Ok(()),
        }
    }

    fn del(cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let Some((kind, conf)) = handed_on(&host.node, call, point)? else { return Ok(()) };
        let inner = Call { conf: &conf, ..call.clone() };
        match in_process(&host.node, &kind) {
            Some(builtin) => builtin.del(host, &inner)?,
            None => exec::run(&host.node, &kind, Verb::Del, &inner).map(drop)?,
        }
        if read_note(call, point).is_none() {
            return Ok(());
        }
        let note = note_of(&data_dir(call.conf), point);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", note.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// CHECK of what was handed on.
    fn check(_: &Config, cx: Context<'_, '_>) -> Result<()> {
        let Context { host, sandbox, call, point } = cx;
        let Some((kind, conf)) = handed_on(&host.node, call, point)? else { return Err(unnoted(call)) };
        let inner = Call { conf: &conf, ..call.clone() };
        match in_process(&host.node, &kind) {
            Some(builtin) => builtin.check(host, sandbox, &inner),
            None if host.asks_programs() => exec::run(&host.node, &kind, Verb::Check, &inner).map(drop),
            None => check_in_pod(sandbox, point, check::expected(call)?),
        }
    }

    /// Notes of containers that are gone, and what the plugin that was handed the subnet has to remove.
    fn gc(host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let config = Config::read(call.conf).map_err(Error::Config)?;
        for note in fs::read_dir(&config.data_dir).into_iter().flatten().flatten() {
            if note.file_name().to_str().is_some_and(|name| ownership.owner_of(name) == Owner::Departed) {
                let op = format!("remove {}", note.path().display());
                fs::remove_file(note.path()).map_err(Error::io(op))?;
            }
        }
        // Without flannel's file there is no configuration to hand on, and nothing is made.
        let Ok(subnets) = Subnets::read(&config.subnet_file) else { return Ok(Vec::new()) };
        let rendered = config.render(call.conf, &subnets)?;
        let inner = Call { conf: &rendered, ..call.clone() };
        match in_process(&host.node, &config.kind) {
            Some(builtin) => builtin.gc(host, &inner, ownership),
            None if call.version.has_gc_and_status() => {
                exec::run(&host.node, &config.kind, Verb::Gc, &inner).map(|_| Vec::new())
            }
            None => Ok(Vec::new()),
        }
    }

    /// flannel has given a subnet, and the plugin that gets it is ready.
    fn status(config: &Config, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let rendered = config.render(call.conf, &Subnets::read(&config.subnet_file)?)?;
        let inner = Call { conf: &rendered, ..call.clone() };
        match in_process(&host.node, &config.kind) {
            Some(builtin) => builtin.status(host, &inner),
            None if call.version.has_gc_and_status() => {
                exec::run(&host.node, &config.kind, Verb::Status, &inner).map(drop)
            }
            None => exec::find(&config.kind, host.node.plugin_dirs).map(drop),
        }
    }
}

/// Who serves the plugin that it is handed on to.
fn in_process(node: &Node<'_>, kind: &PluginType) -> Option<Builtin> {
    Builtin::from_type(kind).filter(|_| node.in_process(kind))
}

/// Where the flannel plugin notes what it handed on. It knows no interface: of two attachments the later one is there.
fn note_of(data_dir: &Path, point: &Point<'_>) -> PathBuf {
    data_dir.join(point.container.as_str())
}

/// A tenant's network does not write over the note of another, which that one's DEL needs.
fn require_room(data_dir: &Path, call: &Call<'_>, point: &Point<'_>) -> Result<()> {
    let noted = fs::read(note_of(data_dir, point)).ok().and_then(|bytes| Object::parse(&bytes).ok());
    let name = noted.and_then(|noted| noted.text("name").ok().flatten()).filter(|_| call.origin.is_tenants);
    match name.filter(|name| name != call.network.as_str()) {
        None => Ok(()),
        Some(name) => {
            let allowed = format!("a directory of its own: network {name} has noted there what this pod got");
            Err(Finding::new("dataDir", data_dir.display(), allowed).into())
        }
    }
}

fn write_note(note: &Path, rendered: &Object) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let open = || options.open(note);
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = note.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            open()?
        }
        opened => opened?,
    };
    std::io::Write::write_all(&mut file, rendered.to_json().as_bytes())
}

/// Where notes are, whatever else is wrong with the configuration.
fn data_dir(conf: &Object) -> PathBuf {
    let text = conf.text("dataDir").ok().flatten().filter(|text| !text.is_empty());
    text.map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from)
}

/// The note, if it is of this network.
fn read_note(call: &Call<'_>, point: &Point<'_>) -> Option<Object> {
    let noted = fs::read(note_of(&data_dir(call.conf), point)).ok().and_then(|bytes| Object::parse(&bytes).ok());
    let is_ours = |noted: &Object| noted.text("name").is_ok_and(|name| name.as_deref() == Some(call.network.as_str()));
    noted.filter(is_ours)
}

/// What the ADD handed on: as noted, or as it would be now where nothing more is needed to undo it. Without flannel's file
/// that has no subnet, which no DEL in process asks for; a program that was never noted was never run, and a configuration
/// that no ADD accepts was handed to nobody.
fn handed_on(node: &Node<'_>, call: &Call<'_>, point: &Point<'_>) -> Result<Option<(PluginType, Object)>> {
    if let Some(mut noted) = read_note(call, point)
        && let Ok(Some(kind)) = noted.parsed::<PluginType>("type", PluginType::ALLOWED)
        && kind.as_str() != "flannel"
    {
        noted.set_some("prevResult", call.conf.get("prevResult").as_ref());
        return Ok(Some((kind, noted)));
    }
    let Some(config) = Config::read(call.conf).ok().filter(|config| in_process(node, &config.kind).is_some()) else {
        return Ok(None);
    };
    let subnets = Subnets::read(&config.subnet_file).unwrap_or_default();
    let rendered = config.render(call.conf, &subnets)?;
    Ok(Some((config.kind, rendered)))
}

fn unnoted(call: &Call<'_>) -> Error {
    check::differs(format!("network {}: dataDir has no note of what was handed on", call.network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    fn rendered(conf: &str, masquerades: bool) -> String {
        let subnets = Subnets {
            networks: vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
            subnets: vec!["10.244.1.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            mtu: 1450,
            masquerades,
        };
        let conf = object(conf);
        Config::read(&conf).unwrap().render(&conf, &subnets).unwrap().to_json()
    }

    #[test]
    fn a_bridge_gets_flannels_subnet() {
        assert_eq!(
            rendered(r#"{"cniVersion":"1.0.0","name":"cbr0","type":"flannel"}"#, true),
            r#"{"type":"bridge","ipMasq":false,"mtu":1450,"isGateway":true,"name":"cbr0","cniVersion":"1.0.0","ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"10.244.0.0/16"},{"dst":"fd00::/48"}]}}"#
        );
    }

    #[test]
    fn the_delegates_own_keys_win() {
        let conf = r#"{"name":"n","type":"flannel","runtimeConfig":{"mac":"x"},"args":{"cni":{}},
            "delegate":{"type":"ipvlan","master":"eth0","ipMasq":true,"mtu":1400},
            "ipam":{"type":"other","x":1,"routes":[{"dst":"10.9.0.0/16"}],"ranges":[]}}"#;
        assert_eq!(
            rendered(conf, true),
            r#"{"type":"ipvlan","master":"eth0","ipMasq":true,"mtu":1400,"args":{"cni":{}},"name":"n","runtimeConfig":{"mac":"x"},"ipam":{"type":"other","x":1,"routes":[{"dst":"10.9.0.0/16"},{"dst":"10.244.0.0/16"},{"dst":"fd00::/48"}],"ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00::/64"}]]}}"#
        );
        assert!(
            rendered(r#"{"name":"n"}"#, false).contains(r#""ipMasq":true"#),
            "flannel does not, so the bridge does"
        );
    }

    #[test]
    fn findings_are_flannels_own_and_the_delegates() {
        let findings = |conf: &str| -> Vec<String> {
            let found = Builtin::Flannel.validate(&object(conf));
            found.iter().filter_map(|finding| finding.to_string().split(": ").next().map(str::to_owned)).collect()
        };
        let own =
            r#"{"subnetFile":1,"dataDir":[],"delegate":{"name":"x","ipam":{},"type":"a/b"},"ipam":{"routes":{}}}"#;
        let want = ["subnetFile", "dataDir", "delegate.name", "delegate.ipam", "delegate.type", "ipam.routes"];
        assert_eq!(findings(own), want);
        assert_eq!(findings(r#"{"delegate":{"type":"flannel"}}"#), ["delegate.type"]);
        assert_eq!(findings(r#"{"delegate":[]}"#), ["delegate"]);
        let inner = r#"{"delegate":{"bridge":"a/b","mtu":1},"ipam":{"dataDir":1},"runtimeConfig":{"mac":1}}"#;
        assert_eq!(findings(inner), ["runtimeConfig.mac", "delegate.bridge", "delegate.mtu", "ipam.dataDir"]);
        assert_eq!(findings(r#"{"delegate":{"type":"unknown","x":1}}"#), Vec::<String>::new());
        assert_eq!(findings("{}"), Vec::<String>::new());
    }
}
