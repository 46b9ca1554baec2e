//! Reads a call: the environment and stdin, checked in the order of libcni (C50), so that a mistake gets the same code as from
//! other plugins.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use attachments::cni::object::Object;
use attachments::cni::version::Version;
use attachments::finding::Finding;
use attachments::names::{ContainerId, IfName, NetworkName, ObjectName, PodRef};
use delegates::call::Verb;
use delegates::exec::CALLER;
use delegates::ipam::dhcp::LeaseName;

use crate::fault::{Fault, Result};
use crate::node;

/// Longest configuration that is read, in bytes.
const STDIN_LIMIT: u64 = 4 << 20;

/// How long an unfinished undo must have been left alone before another call resumes it. The runtime's own DEL follows a failed
/// ADD within milliseconds and comes first; the attempts at an undo that keeps failing are spaced. (A running call holds the
/// sandbox lock.)
pub const LEFT_ALONE: Duration = Duration::from_secs(10);

/// What CNI_COMMAND asks for.
#[derive(Debug)]
pub enum Command {
    /// CNI_COMMAND is not set: a person started the plugin by hand.
    About,
    /// Answered without reading stdin.
    Version,
    /// Success without doing anything: DEL or GC as a delegate of our own, whose ADD was refused.
    Nothing,
    /// Any other call.
    Call(Box<CniRequest>),
}

/// A checked request.
#[derive(Debug)]
pub struct CniRequest {
    /// What is to be done.
    pub operation: Operation,
    /// CNI_PATH, split.
    pub path: Vec<PathBuf>,
    /// `name` of the node's network configuration.
    pub network: NetworkName,
    /// `cniVersion` of the node's network configuration: the version of the answer.
    pub version: Version,
    /// The whole document from stdin.
    pub conf: Object,
}

/// What a request is for: a verb of the protocol, or what the node agent asks for.
#[derive(Debug)]
pub enum Operation {
    /// ADD.
    Add(Target),
    /// DEL.
    Del(Target),
    /// CHECK.
    Check(Target),
    /// GC.
    Gc,
    /// STATUS.
    Status,
    /// `meta-cni hotplug`: gives a running sandbox the networks that its pod's annotation lists now. No verb of the protocol. Of the
    /// target only the container and the name of its first interface are known: the rest is in its record.
    HotPlug(Target),
    /// `meta-cni verify`: compares every record with the kernel. No verb of the protocol.
    Verify,
    /// `meta-cni repair`: makes attachments of a running sandbox anew that are not as recorded. No verb of the protocol; the target
    /// is as that of a hot-plug.
    Repair(Target),
    /// `meta-cni replay`: undoes what a crash or a restart of the node left behind. No verb of the protocol.
    Recover {
        /// How long an unfinished undo must have been left alone.
        idle: Duration,
    },
    /// `meta-cni renew`: does what a DHCP lease wants now. No verb of the protocol.
    Renew(LeaseName),
}

impl Operation {
    /// The verb of the protocol; what the agent asks for has none.
    pub fn verb(&self) -> Option<Verb> {
        match self {
            Self::Add(_) => Some(Verb::Add),
            Self::Del(_) => Some(Verb::Del),
            Self::Check(_) => Some(Verb::Check),
            Self::Gc => Some(Verb::Gc),
            Self::Status => Some(Verb::Status),
            Self::HotPlug(_) | Self::Verify | Self::Repair(_) | Self::Recover { .. } | Self::Renew(_) => None,
        }
    }

    /// The sandbox, where the operation is about one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Add(target) | Self::Del(target) | Self::Check(target) => Some(target),
            Self::HotPlug(target) | Self::Repair(target) => Some(target),
            Self::Gc | Self::Status | Self::Verify | Self::Recover { .. } | Self::Renew(_) => None,
        }
    }
}

/// The sandbox of an ADD, DEL or CHECK.
#[derive(Clone, Debug)]
pub struct Target {
    /// CNI_CONTAINERID.
    pub container: ContainerId,
    /// CNI_NETNS; empty where a DEL has none.
    pub netns: String,
    /// CNI_IFNAME of the default network.
    pub ifname: IfName,
    /// CNI_ARGS in order, each key once (A5).
    pub args: Vec<(String, String)>,
}

impl Target {
    /// A value of CNI_ARGS.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The pod, where the runtime is a Kubernetes one.
    pub fn pod(&self) -> Result<Option<PodRef>> {
        let (Some(namespace), Some(name)) = (self.arg("K8S_POD_NAMESPACE"), self.arg("K8S_POD_NAME")) else {
            return Ok(None);
        };
        let checked = |key: &str, text: &str| {
            text.parse::<ObjectName>().map_err(|e| Fault::Environment(e.under(&format!("CNI_ARGS: {key}")).to_string()))
        };
        let uid = self.arg("K8S_POD_UID").filter(|uid| !uid.is_empty()).map(str::to_owned);
        Ok(Some(PodRef {
            namespace: checked("K8S_POD_NAMESPACE", namespace)?,
            name: checked("K8S_POD_NAME", name)?,
            uid,
        }))
    }
}

/// Reads a request from an environment and a configuration. `env` gives a variable, absent or empty alike.
///
/// ```
/// use meta_cni::request::{Command, read};
///
/// let version = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
/// assert!(matches!(read(version, &b""[..]), Ok(Command::Version)));
/// let bad = |name: &str| (name == "CNI_COMMAND").then(|| "DANCE".to_owned());
/// let refused = read(bad, &br#"{"cniVersion": "1.0.0", "name": "lan", "type": "meta-cni"}"#[..]).unwrap_err();
/// assert!(refused.to_string().starts_with("CNI_COMMAND: got \"DANCE\""), "{refused}");
/// ```
pub fn read(env: impl Fn(&str) -> Option<String>, stdin: impl Read) -> Result<Command> {
    let var = |name: &str| env(name).filter(|value| !value.is_empty());
    let Some(command) = var("CNI_COMMAND") else { return Ok(Command::About) };
    if command == "VERSION" {
        return Ok(Command::Version);
    }
    if var(CALLER).is_some() {
        return as_delegate(&command);
    }
    let verb =
        [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status].into_iter().find(|verb| verb.as_str() == command);
    let operation = verb.map(|verb| read_operation(verb, &var)).transpose()?;
    let conf = read_conf(stdin)?;
    let network = read_name(&conf)?;
    let operation = operation.ok_or_else(|| {
        Fault::Environment(format!("CNI_COMMAND: got {command:?}, want ADD, DEL, CHECK, GC, STATUS or VERSION"))
    })?;
    let version = read_version(&conf, operation.verb())?;
    let path = var("CNI_PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    Ok(Command::Call(Box::new(CniRequest { operation, path, network, version, conf })))
}

/// Answers a call that one of our programs started, directly or through other programs. The configuration is a delegate's:
/// a tenant may have written keys that only the node's file may have, so it is not read.
pub fn as_delegate(command: &str) -> Result<Command> {
    let why = "meta-cni as a delegate of meta-cni: want a plugin that attaches something itself";
    match command {
        "DEL" | "GC" => Ok(Command::Nothing),
        "STATUS" => Err(Fault::NotAvailable(why.to_owned())),
        _ => Err(Fault::Config(why.to_owned())),
    }
}

/// Reads a call of `meta-cni replay [SECONDS]`, which is no verb of the protocol. The node's configuration is on stdin as
/// in a CNI call; SECONDS is how long an unfinished undo must have been left alone. `env` gives CNI_PATH.
pub fn read_recovery(
    mut args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<CniRequest> {
    const ALLOWED: &str = "a number of seconds";
    if env(CALLER).is_some() {
        as_delegate("replay")?;
    }
    let idle =
        match args.next() {
            None => LEFT_ALONE,
            Some(text) => Duration::from_secs(text.parse().map_err(|_| {
                Fault::Environment(Finding::new("replay", format_args!("{text:?}"), ALLOWED).to_string())
            })?),
        };
    if let Some(more) = args.next() {
        return Err(Fault::Environment(format!("replay: got a second argument {more:?}, want {ALLOWED} alone")));
    }
    of_agent(Operation::Recover { idle }, env, stdin)
}

/// Reads a call of `meta-cni renew CONTAINER,IFNAME`, in the same way.
pub fn read_renewal(
    mut args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<CniRequest> {
    if env(CALLER).is_some() {
        as_delegate("renew")?;
    }
    let (name, more) = (args.next().unwrap_or_default(), args.next());
    let lease = LeaseName::parse(&name).filter(|_| more.is_none()).ok_or_else(|| {
        let allowed = "one name of a lease: CONTAINER,IFNAME";
        Fault::Environment(Finding::new("renew", format_args!("{name:?}"), allowed).to_string())
    })?;
    of_agent(Operation::Renew(lease), env, stdin)
}

/// Reads a call of `meta-cni hotplug CONTAINER IFNAME`, which is no verb of the protocol. The node's configuration is on stdin as in a
/// CNI call. `env` gives CNI_PATH.
pub fn read_hot_plug(
    args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<CniRequest> {
    let target = read_sandbox("hotplug", args, &env)?;
    of_agent(Operation::HotPlug(target), env, stdin)
}

/// Reads a call of `meta-cni repair CONTAINER IFNAME`, in the same way.
pub fn read_repair(
    args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<CniRequest> {
    let target = read_sandbox("repair", args, &env)?;
    of_agent(Operation::Repair(target), env, stdin)
}

/// Reads a call of `meta-cni verify`, in the same way.
pub fn read_verify(
    mut args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<CniRequest> {
    if env(CALLER).is_some() {
        as_delegate("verify")?;
    }
    match args.next() {
        Some(more) => Err(Fault::Environment(format!("verify: got an argument {more:?}, want none"))),
        None => of_agent(Operation::Verify, env, stdin),
    }
}

/// The sandbox of a settled record, by its container and the name of its first interface: the rest is in the record.
fn read_sandbox(
    command: &str,
    args: impl Iterator<Item = String>,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Target> {
    if env(CALLER).is_some() {
        as_delegate(command)?;
    }
    let args: Vec<String> = args.collect();
    let [container, ifname] = args.as_slice() else {
        let text =
            format!("{command}: got {} arguments, want a container id and the name of its first interface", args.len());
        return Err(Fault::Environment(text));
    };
    let wrong = |e: Finding| Fault::Environment(e.under(command).to_string());
    Ok(Target {
        container: container.parse().map_err(wrong)?,
        netns: String::new(),
        ifname: IfName::found(ifname).map_err(wrong)?,
        args: Vec::new(),
    })
}

/// A request of the node agent.
fn of_agent(operation: Operation, env: impl Fn(&str) -> Option<String>, stdin: impl Read) -> Result<CniRequest> {
    let conf = read_conf(stdin)?;
    Ok(CniRequest {
        operation,
        path: env("CNI_PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        network: read_name(&conf)?,
        version: read_version(&conf, None)?,
        conf,
    })
}

fn read_operation(verb: Verb, var: &impl Fn(&str) -> Option<String>) -> Result<Operation> {
    Ok(match verb {
        Verb::Add => Operation::Add(read_target(verb, var)?),
        Verb::Del => Operation::Del(read_target(verb, var)?),
        Verb::Check => Operation::Check(read_target(verb, var)?),
        Verb::Gc if var("CNI_PATH").is_none() => {
            return Err(Fault::Environment("required env variables [CNI_PATH] missing".to_owned()));
        }
        Verb::Gc => Operation::Gc,
        Verb::Status => Operation::Status,
    })
}

/// Only the first wrong value is named; missing variables are named together.
fn read_target(verb: Verb, var: &impl Fn(&str) -> Option<String>) -> Result<Target> {
    let wrong = |name: &str, e: Finding| Fault::Environment(e.under(name).to_string());
    let container = var("CNI_CONTAINERID")
        .map(|text| text.parse::<ContainerId>().map_err(|e| wrong("CNI_CONTAINERID", e)))
        .transpose()?;
    let netns = var("CNI_NETNS");
    // An ADD creates the interface, so the name must be valid. A DEL must undo a name from before the rule too.
    let named: fn(&str) -> std::result::Result<IfName, Finding> =
        if verb == Verb::Add { str::parse } else { IfName::found };
    let ifname = var("CNI_IFNAME").map(|text| named(&text).map_err(|e| wrong("CNI_IFNAME", e))).transpose()?;
    let args = parse_args(&var("CNI_ARGS").unwrap_or_default())?;
    let needs_netns = verb != Verb::Del;
    match (container, netns, ifname) {
        (Some(container), netns, Some(ifname)) if netns.is_some() || !needs_netns => {
            Ok(Target { container, netns: netns.unwrap_or_default(), ifname, args })
        }
        (container, netns, ifname) => {
            let missing: Vec<&str> = [
                ("CNI_CONTAINERID", container.is_none()),
                ("CNI_NETNS", netns.is_none() && needs_netns),
                ("CNI_IFNAME", ifname.is_none()),
            ]
            .into_iter()
            .filter_map(|(name, absent)| absent.then_some(name))
            .collect();
            Err(Fault::Environment(format!("required env variables [{}] missing", missing.join(","))))
        }
    }
}

/// CNI_ARGS: `K=V;K=V`. A value may contain '='; of a repeated key the last value counts.
pub fn parse_args(text: &str) -> Result<Vec<(String, String)>> {
    let mut args: Vec<(String, String)> = Vec::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Fault::Environment(format!("CNI_ARGS: got {pair:?}, want KEY=VALUE pairs joined by ';'")))?;
        match args.iter_mut().find(|(k, _)| k == key) {
            Some((_, slot)) => value.clone_into(slot),
            None => args.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok(args)
}

fn read_conf(stdin: impl Read) -> Result<Object> {
    let mut bytes = Vec::new();
    let read = stdin.take(STDIN_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|e| Fault::Io(format!("cannot read the configuration from stdin: {e}")))?;
    if bytes.len() as u64 > STDIN_LIMIT {
        return Err(Fault::Decode(format!("more than {STDIN_LIMIT} bytes")));
    }
    let conf = Object::parse(&bytes).map_err(|e| Fault::Decode(format!("{e}; want one JSON object")))?;
    Ok(node::spelled(conf)?)
}

fn read_name(conf: &Object) -> Result<NetworkName> {
    match conf.parsed::<NetworkName>("name", NetworkName::ALLOWED)? {
        Some(name) => Ok(name),
        None => Err(Finding::missing("name", NetworkName::ALLOWED).into()),
    }
}

/// The gates of C34: refuses a version that we do not speak, and a verb that the version does not have.
fn read_version(conf: &Object, verb: Option<Verb>) -> Result<Version> {
    let text = conf.decode::<String>("cniVersion", Version::ALLOWED)?.unwrap_or_default();
    let version: Version = text.parse().map_err(|e: Finding| Fault::Version(e.to_string()))?;
    let (verb, since) = match verb {
        Some(verb @ Verb::Check) if !version.has_check() => (verb, "0.4.0"),
        Some(verb @ (Verb::Gc | Verb::Status)) if !version.has_gc_and_status() => (verb, "1.1.0"),
        _ => return Ok(version),
    };
    Err(Fault::Version(format!("cniVersion: got {version}, want {since} or later for {}", verb.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"{"cniVersion":"1.1.0","name":"n"}"#;

    fn run(env: &[(&str, &str)], stdin: &str) -> Result<Command> {
        read(|name| env.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()), stdin.as_bytes())
    }

    fn refusal(env: &[(&str, &str)], stdin: &str) -> (u32, String) {
        let fault = run(env, stdin).unwrap_err();
        (fault.code(), fault.to_string())
    }

    fn add<'a>(changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let base = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_NETNS", "/n"), ("CNI_IFNAME", "eth0")];
        changed.iter().copied().chain(base).collect()
    }

    #[test]
    fn an_add_is_read_whole() {
        let env =
            add(&[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;X=1=2"), ("CNI_PATH", "/a:/b")]);
        let Ok(Command::Call(request)) = run(&env, CONF) else { panic!("no call") };
        let target = request.operation.target().unwrap();
        assert_eq!(target.pod().unwrap().unwrap().to_string(), "a/b");
        assert_eq!(target.arg("X"), Some("1=2"));
        assert_eq!(request.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn nothing_and_version_do_not_read_stdin() {
        assert!(matches!(run(&[], "garbage"), Ok(Command::About)));
        assert!(matches!(run(&[("CNI_COMMAND", "VERSION")], "garbage"), Ok(Command::Version)));
    }

    #[test]
    fn a_delegate_of_ours_attaches_nothing_and_has_nothing_to_undo() {
        let ours = |command| [("CNI_COMMAND", command), (CALLER, "x")];
        for command in ["DEL", "GC"] {
            assert!(matches!(run(&ours(command), "garbage"), Ok(Command::Nothing)), "{command}");
        }
        assert!(matches!(run(&ours("VERSION"), "garbage"), Ok(Command::Version)));
        let codes = ["ADD", "CHECK", "STATUS", "FLY"].map(|command| refusal(&ours(command), "garbage").0);
        assert_eq!(codes, [7, 7, 50, 7]);
        let env = |name: &str| (name == CALLER).then(|| "x".to_owned());
        assert_eq!(read_recovery(std::iter::empty(), env, CONF.as_bytes()).unwrap_err().code(), 7);
    }

    #[test]
    fn wrong_values_come_before_missing_ones_and_both_before_json() {
        assert_eq!(
            refusal(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "a/b")], "garbage").1.split(':').next(),
            Some("CNI_IFNAME")
        );
        assert_eq!(
            refusal(&[("CNI_COMMAND", "ADD")], "garbage"),
            (4, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing".to_owned())
        );
        assert_eq!(refusal(&add(&[("CNI_IFNAME", "eth%d")]), CONF).0, 4);
        assert!(run(&add(&[("CNI_IFNAME", "eth%d"), ("CNI_COMMAND", "DEL")]), CONF).is_ok(), "it may be there");
        assert_eq!(refusal(&add(&[("CNI_ARGS", "a:b")]), CONF).0, 4);
        assert_eq!(refusal(&add(&[]), "garbage").0, 6);
        assert_eq!(refusal(&add(&[]), "[]").0, 6);
    }

    #[test]
    fn bad_json_comes_before_name_before_command_before_version() {
        let unknown = [("CNI_COMMAND", "FLY")];
        assert_eq!(refusal(&unknown, "x").0, 6);
        assert_eq!(refusal(&unknown, "{}").0, 7);
        assert_eq!(refusal(&unknown, r#"{"name":"a b"}"#).0, 7);
        assert_eq!(refusal(&unknown, r#"{"name":"n","Name":"m"}"#).0, 7);
        assert_eq!(refusal(&unknown, r#"{"Name":"n","cniVersion":"9.0.0"}"#).0, 4);
        assert_eq!(refusal(&add(&[]), r#"{"name":"n","cniVersion":"9.0.0"}"#).0, 1);
    }

    #[test]
    fn verbs_wait_for_their_version() {
        let old = r#"{"name":"n","cniVersion":"1.0.0"}"#;
        for verb in ["GC", "STATUS"] {
            assert_eq!(refusal(&[("CNI_COMMAND", verb), ("CNI_PATH", "/p")], old).0, 1, "{verb}");
        }
        let check = add(&[("CNI_COMMAND", "CHECK")]);
        assert_eq!(refusal(&check, r#"{"name":"n","cniVersion":"0.3.1"}"#).0, 1);
        assert!(run(&check, old).is_ok());
        assert_eq!(refusal(&[("CNI_COMMAND", "GC")], CONF).0, 4);
    }
}
