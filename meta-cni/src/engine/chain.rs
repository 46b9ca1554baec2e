//! The chain of plugins of one attachment, built in and external in any mix.

use attachments::bind::Attachment;
use attachments::cni::conf::{Injection, PluginConf};
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::finding::under;
use attachments::names::{ContainerId, PluginType};
use attachments::selection::RequestedRule;
use delegates::apply;
use delegates::builtin::{self, Builtin, HostPorts};
use delegates::call::{Call, Node, Origin, Point, Verb};
use delegates::error::Error;
use delegates::exec;
use delegates::host::Host;
use delegates::ownership::Ownership;
use delegates::reserved::Reserved;
use delegates::routing::Routing;
use delegates::sandbox::Sandbox;
use serde_json::value::RawValue;

use super::record::Intent;
use super::undo::UndoContext;
use super::valid_chain::{ValidChain, ValidPlugin};
use crate::fault::{Fault, Result};

/// The capability of host ports.
const PORT_MAPPINGS: &str = "portMappings";

/// What serves a plugin's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegate<'a> {
    /// A delegate in this process.
    Builtin(Builtin),
    /// A program.
    External(&'a PluginType),
}

impl<'p> Delegate<'p> {
    /// What serves a plugin on this node.
    pub fn of(plugin: &'p PluginConf, node: &Node<'_>) -> Self {
        match Builtin::from_type(&plugin.kind).filter(|_| node.in_process(&plugin.kind)) {
            Some(builtin) => Self::Builtin(builtin),
            None => Self::External(&plugin.kind),
        }
    }
}

impl Intent {
    /// The node as it was for the ADD: the delegate that attached also undoes, and programs are searched where they were.
    pub fn node<'a>(&'a self, context: &UndoContext<'a>) -> Node<'a> {
        Node {
            plugin_dirs: &self.plugin_dirs,
            builtin: self.builtin.as_deref(),
            state_dir: context.state_dir,
            deadline: context.deadline,
            reserved: Reserved::UNASKED,
            is_alone: context.is_alone,
            lock: Some(context.lock.file()),
        }
    }
}

/// An attachment in a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    attachment: &'a Attachment,
    container: &'a ContainerId,
    netns: &'a str,
    group: u32,
    saved: Option<&'a [&'a Object]>,
}

impl<'a> Chain<'a> {
    /// An attachment of a record's set; `netns` is CNI_NETNS for its delegates.
    pub fn new(intent: &'a Intent, attachment: &'a Attachment, netns: &'a str) -> Self {
        Self { attachment, container: &intent.key.container, netns, group: intent.key.group(), saved: None }
    }

    /// The same for DEL and CHECK, with what the ADD saved; absent where no whole record tells.
    pub fn with_saved(self, saved: Option<&'a [&'a Object]>) -> Self {
        Self { saved, ..self }
    }

    /// The plugins of the attachment.
    pub fn plugins(&self) -> &'a [PluginConf] {
        &self.attachment.plugins
    }

    /// Reads the built-in plugins' configurations and looks for the external programs, before anything is touched (A33).
    pub fn validate(self, node: &Node<'_>) -> Result<ValidChain<'a>> {
        let many = self.attachment.plugins.len() > 1;
        let mut plugins = Vec::with_capacity(self.attachment.plugins.len());
        for (i, plugin) in self.attachment.plugins.iter().enumerate() {
            plugins.push(match Delegate::of(plugin, node) {
                Delegate::External(kind) => {
                    exec::find(kind, node.plugin_dirs).map_err(|e| self.fault(e))?;
                    ValidPlugin::External(kind)
                }
                Delegate::Builtin(builtin) => {
                    let conf = self.conf(plugin, &Injection::default())?;
                    let prefix = if many { format!("plugins[{i}]") } else { String::new() };
                    let wrong = |findings| self.fault(Error::Config(under(&prefix, findings)));
                    let configured = builtin.configure(&conf).map_err(wrong)?;
                    configured.require_programs(node, &conf).map_err(|e| self.fault(e))?;
                    ValidPlugin::Builtin(configured)
                }
            });
        }
        Ok(ValidChain::new(self, plugins))
    }

    /// Everything that [`Self::validate`] would refuse. Programs are looked for only where `with_programs` says so: on the node.
    pub fn problems(&self, node: &Node<'_>, with_programs: bool) -> Vec<Fault> {
        let many = self.attachment.plugins.len() > 1;
        let mut problems = Vec::new();
        for (i, plugin) in self.attachment.plugins.iter().enumerate() {
            let checked = match Delegate::of(plugin, node) {
                Delegate::External(kind) if with_programs => exec::find(kind, node.plugin_dirs).map(drop),
                Delegate::External(_) => Ok(()),
                Delegate::Builtin(builtin) => match self.conf(plugin, &Injection::default()) {
                    Err(fault) => {
                        problems.push(fault);
                        continue;
                    }
                    Ok(conf) => {
                        let prefix = if many { format!("plugins[{i}]") } else { String::new() };
                        let configured = builtin.configure(&conf);
                        configured.map_err(|findings| Error::Config(under(&prefix, findings))).and_then(|configured| {
                            if with_programs { configured.require_programs(node, &conf) } else { Ok(()) }
                        })
                    }
                },
            };
            problems.extend(checked.err().map(|e| self.fault(e)));
        }
        problems
    }

    /// Ownership the host ports of the attachment. A further network's ports must be free, whatever plugin maps them.
    pub fn claim_ports(&self, node: &Node<'_>, ports: &mut HostPorts) -> Result<()> {
        if self.attachment.runtime_config.get(PORT_MAPPINGS).is_none() {
            return Ok(());
        }
        for plugin in self.attachment.plugins.iter().filter(|plugin| plugin.declares(PORT_MAPPINGS)) {
            let conf = self.conf(plugin, &Injection::default())?;
            ports.claim(node, &self.call(&conf, None)).map_err(|e| self.fault(e))?;
        }
        Ok(())
    }

    /// Notes the host ports that an attachment in place has.
    pub fn note_ports(&self, ports: &mut HostPorts) {
        for plugin in self.attachment.plugins.iter().filter(|plugin| plugin.declares(PORT_MAPPINGS)) {
            if let Ok(conf) = self.conf(plugin, &Injection::default()) {
                ports.note(&self.call(&conf, None));
            }
        }
    }

    /// First step of DEL, before any link of the set is deleted: built-in delegates return what they only borrowed.
    pub fn restore(
        &self,
        host: &mut Host<'_>,
        mut sandbox: Option<&mut Sandbox>,
        result: Option<&CniResult>,
        saved: &[&Object],
    ) -> Result<()> {
        for plugin in self.attachment.plugins.iter().rev() {
            if let Delegate::Builtin(builtin) = Delegate::of(plugin, &host.node) {
                let conf = self.conf_with(plugin, result)?;
                let call = self.call(&conf, result);
                let done = builtin.restore(host, sandbox.as_deref_mut(), &call, saved);
                done.map_err(|e| self.fault(e))?;
            }
        }
        Ok(())
    }

    /// After the ADD of the chain: the routes and rules that the pod asks for on the link, and that it has no IPv6, whoever made it.
    pub fn route(&self, sandbox: &mut Sandbox, result: &CniResult) -> Result<()> {
        let Attachment { ifname, without_ipv6, .. } = self.attachment;
        let off = if *without_ipv6 { apply::disable_ipv6(sandbox, ifname) } else { Ok(()) };
        off.and_then(|()| self.routing().apply(sandbox, ifname, result)).map_err(|e| self.fault(e))
    }

    /// Takes them away. `staying` are the rules of the attachments that stay.
    pub fn unroute(&self, sandbox: &mut Sandbox, staying: &[RequestedRule]) -> Result<()> {
        self.routing().remove(sandbox, &self.attachment.ifname, staying).map_err(|e| self.fault(e))
    }

    fn routing(&self) -> Routing {
        Routing::of(&self.attachment.routes, &self.attachment.rules)
    }

    /// DEL in reverse order with the result of the ADD. Stops at the first failure; a repeated DEL runs the whole chain
    /// (C23, A10).
    pub fn del(&self, host: &mut Host<'_>, result: Option<&CniResult>) -> Result<()> {
        for plugin in self.attachment.plugins.iter().rev() {
            let conf = self.conf_with(plugin, result)?;
            let call = self.call(&conf, result);
            let done = match Delegate::of(plugin, &host.node) {
                Delegate::Builtin(builtin) => builtin.del(host, &call),
                Delegate::External(kind) => exec::run(&host.node, kind, Verb::Del, &call).map(drop),
            };
            done.map_err(|e| self.fault(e))?;
        }
        Ok(())
    }

    /// DEL of what runs in process, after a program of the chain has failed for good. What the programs behind a built-in delegate say
    /// is known by then.
    pub fn del_in_process(&self, host: &mut Host<'_>, result: Option<&CniResult>) -> Result<()> {
        for plugin in self.attachment.plugins.iter().rev() {
            if let Delegate::Builtin(builtin) = Delegate::of(plugin, &host.node) {
                let conf = self.conf_with(plugin, result)?;
                match builtin.del(host, &self.call(&conf, result)) {
                    Err(error) if !error.is_of_program() => return Err(self.fault(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// CHECK in list order (C24).
    pub fn check(&self, host: &mut Host<'_>, sandbox: &mut Sandbox, result: &CniResult) -> Result<()> {
        for plugin in &self.attachment.plugins {
            let conf = self.conf_with(plugin, Some(result))?;
            let call = self.call(&conf, Some(result));
            let done = match Delegate::of(plugin, &host.node) {
                Delegate::Builtin(builtin) => builtin.check(host, sandbox, &call),
                Delegate::External(kind) => exec::run(&host.node, kind, Verb::Check, &call).map(drop),
            };
            done.map_err(|e| self.fault(e))?;
        }
        self.check_requested(sandbox)
    }

    fn check_requested(&self, sandbox: &mut Sandbox) -> Result<()> {
        let Attachment { ifname, without_ipv6, .. } = self.attachment;
        let off = if *without_ipv6 { apply::check_ipv6_is_off(sandbox, ifname) } else { Ok(()) };
        off.and_then(|()| self.routing().check(sandbox, ifname)).map_err(|e| self.fault(e))
    }

    /// The addresses of the attachment are still its own. Programs are not asked.
    pub fn holds(&self, host: &Host<'_>, result: &CniResult) -> Result<()> {
        for plugin in &self.attachment.plugins {
            let conf = self.conf_with(plugin, Some(result))?;
            if let Delegate::Builtin(builtin) = Delegate::of(plugin, &host.node) {
                builtin.holds(host, &self.call(&conf, Some(result))).map_err(|e| self.fault(e))?;
            }
        }
        Ok(())
    }

    /// [`Self::check`] without starting a program. Of a chain with one, only the link and its addresses are compared.
    pub fn compare(&self, host: &mut Host<'_>, sandbox: &mut Sandbox, result: &CniResult) -> Result<()> {
        if has_external(self.attachment, &host.node) {
            builtin::check_in_pod(sandbox, &self.point(), result).map_err(|e| self.fault(e))?;
            return self.check_requested(sandbox);
        }
        self.check(host, sandbox, result)
    }

    /// DEL and CHECK get the result of the whole ADD, where the version has it (C14).
    fn conf_with(&self, plugin: &PluginConf, result: Option<&CniResult>) -> Result<Object> {
        let prev_result = result.filter(|_| self.attachment.version.has_check());
        self.conf(plugin, &Injection { prev_result, ..Injection::default() })
    }

    pub(super) fn conf(&self, plugin: &PluginConf, injection: &Injection<'_>) -> Result<Object> {
        let injection = Injection { runtime_config: Some(&self.attachment.runtime_config), ..injection.clone() };
        plugin
            .request(&self.attachment.network, self.attachment.version, &injection)
            .map_err(|finding| self.fault(finding.into()))
    }

    pub(super) fn call<'c>(&self, conf: &'c Object, prev_result: Option<&'c CniResult>) -> Call<'c>
    where
        'a: 'c,
    {
        let Attachment { network, version, .. } = self.attachment;
        let (version, origin, saved) = (*version, origin(self.attachment), self.saved);
        Call { network, version, conf, origin, point: Some(self.point()), prev_result, saved }
    }

    fn point(&self) -> Point<'a> {
        let Self { attachment, container, netns, group, .. } = *self;
        Point { container, netns, ifname: &attachment.ifname, args: &attachment.args, group }
    }

    pub(super) fn fault(&self, source: Error) -> Fault {
        Fault::Delegate { subject: subject(self.attachment), source }
    }
}

/// True when a plugin of the chain is built in: its links carry the record's group.
pub fn has_builtin(attachment: &Attachment, node: &Node<'_>) -> bool {
    attachment.plugins.iter().any(|plugin| matches!(Delegate::of(plugin, node), Delegate::Builtin(_)))
}

/// True when a plugin of the chain is an external program.
pub fn has_external(attachment: &Attachment, node: &Node<'_>) -> bool {
    attachment.plugins.iter().any(|plugin| matches!(Delegate::of(plugin, node), Delegate::External(_)))
}

/// True when we make the attachment's link ourselves: a delegate in this process is the first of the chain.
pub fn makes_link(attachment: &Attachment, node: &Node<'_>) -> bool {
    attachment.plugins.first().is_some_and(|plugin| is_in_process(plugin, node))
}

/// True when the plugin runs in process on this node.
pub fn is_in_process(plugin: &PluginConf, node: &Node<'_>) -> bool {
    matches!(Delegate::of(plugin, node), Delegate::Builtin(_))
}

/// A call about a network and no sandbox.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// STATUS.
    Status,
    /// GC: the valid attachments for an external plugin, and what is known of containers for a built-in delegate.
    Gc(&'a RawValue, &'a Ownership<'a>),
}

/// GC or STATUS of one plugin. GC returns the leftovers of unknown containers, which it leaves alone.
pub fn call_network(
    host: &mut Host<'_>,
    attachment: &Attachment,
    plugin: &PluginConf,
    question: Question<'_>,
) -> Result<Vec<String>> {
    let fault = |source: Error| Fault::Delegate { subject: subject(attachment), source };
    let (verb, valid_attachments) = match question {
        Question::Status => (Verb::Status, None),
        Question::Gc(valid, _) => (Verb::Gc, Some(valid)),
    };
    let injection = Injection { valid_attachments, ..Injection::default() };
    let conf = plugin.request(&attachment.network, attachment.version, &injection).map_err(|f| fault(f.into()))?;
    let Attachment { network, version, .. } = attachment;
    let origin = origin(attachment);
    let call = Call { network, version: *version, conf: &conf, origin, point: None, prev_result: None, saved: None };
    match (Delegate::of(plugin, &host.node), question) {
        (Delegate::Builtin(builtin), Question::Status) => builtin.status(host, &call).map(|()| Vec::new()),
        (Delegate::Builtin(builtin), Question::Gc(_, ownership)) => builtin.gc(host, &call, ownership),
        (Delegate::External(kind), _) => exec::run(&host.node, kind, verb, &call).map(|_| Vec::new()),
    }
    .map_err(fault)
}

fn origin(attachment: &Attachment) -> Origin<'_> {
    let Attachment { source, is_tenants, is_default, address_dir, ipam_claim, address_set, .. } = attachment;
    let (address_dir, ipam_claim, address_set) = (address_dir.as_deref(), ipam_claim.as_ref(), address_set.as_ref());
    Origin { source, is_tenants: *is_tenants, is_default: *is_default, address_dir, ipam_claim, address_set }
}

/// How a message names an attachment: network, then interface.
pub fn subject(attachment: &Attachment) -> String {
    format!("network {} ({})", attachment.source, attachment.ifname)
}
