//! A chain that can be called, and its ADD.

use attachments::cni::conf::Injection;
use attachments::cni::error::code;
use attachments::cni::result::CniResult;
use attachments::names::PluginType;
use delegates::builtin::{self, Attached, Builtin, Configured};
use delegates::call::{Call, Node, Verb};
use delegates::error::{self, Error};
use delegates::exec;
use delegates::host::Host;
use delegates::sandbox::Sandbox;
use delegates::spelling;

use super::chain::Chain;
use crate::fault::Result;

/// A chain whose plugins can be called: the configurations of those in process are read, and no program is missing.
pub struct ValidChain<'a> {
    chain: Chain<'a>,
    /// In the order of the attachment's plugins.
    plugins: Vec<ValidPlugin<'a>>,
}

/// Who serves a plugin's ADD.
pub enum ValidPlugin<'a> {
    /// A delegate in this process, with its configuration.
    Builtin(Configured),
    /// A program.
    External(&'a PluginType),
}

impl<'a> ValidChain<'a> {
    /// `plugins` serve those of the chain's attachment, in their order.
    pub fn new(chain: Chain<'a>, plugins: Vec<ValidPlugin<'a>>) -> Self {
        Self { chain, plugins }
    }

    /// The chain itself.
    pub fn chain(&self) -> &Chain<'a> {
        &self.chain
    }

    /// Is each of its plugins a program?
    pub fn is_of_programs(&self) -> bool {
        self.plugins.iter().all(|served| matches!(served, ValidPlugin::External(_)))
    }

    /// Refuses what a definition may not take of this node, before anything is attached. A built-in type that the node switched
    /// off is an external program with the same keys, and is judged alike.
    pub fn admit(&self, host: &mut Host<'_>) -> Result<()> {
        let chain = &self.chain;
        for (plugin, served) in self.chain.plugins().iter().zip(&self.plugins) {
            let written = chain.conf(plugin, &Injection::default())?;
            // The program may read its keys in any case.
            let respelled = spelling::respell(&plugin.kind, &written, &mut |_| {});
            let call = chain.call(respelled.as_ref().unwrap_or(&written), None);
            builtin::admit_addresses(&call).map_err(|e| chain.fault(e))?;
            let admitted = match served {
                ValidPlugin::Builtin(delegate) => delegate.admit(host, &call),
                ValidPlugin::External(kind) => {
                    Builtin::from_type(kind).map_or(Ok(()), |builtin| builtin.admit(host, &call))
                }
            };
            admitted.map_err(|e| chain.fault(e))?;
        }
        Ok(())
    }

    /// ADD in list order; the last plugin's result is the attachment's (C21). `ran` counts the plugins that may have changed
    /// something.
    pub fn add(&self, host: &mut Host<'_>, sandbox: &mut Sandbox, ran: &mut usize) -> Result<Attached> {
        let mut attached = Attached { result: CniResult::default(), links: Vec::new() };
        for (i, served) in self.plugins.iter().enumerate() {
            self.chain.add_one(i, &mut attached, ran, |call| match served {
                ValidPlugin::Builtin(delegate) => delegate.add(host, sandbox, call),
                ValidPlugin::External(kind) => run_add(&host.node, kind, call),
            })?;
        }
        Ok(attached)
    }
}

impl Chain<'_> {
    /// ADD of a chain of programs, which need nothing of ours but the node.
    pub fn add_programs(&self, node: &Node<'_>) -> Result<Attached> {
        let mut attached = Attached { result: CniResult::default(), links: Vec::new() };
        for (i, plugin) in self.plugins().iter().enumerate() {
            self.add_one(i, &mut attached, &mut 0, |call| run_add(node, &plugin.kind, call))?;
        }
        Ok(attached)
    }

    /// ADD of one plugin, with the result of those before it. A plugin that refuses the version has changed nothing, nor has one
    /// whose program was removed meanwhile.
    fn add_one(
        &self,
        place: usize,
        attached: &mut Attached,
        ran: &mut usize,
        add: impl FnOnce(&Call<'_>) -> error::Result<Attached>,
    ) -> Result<()> {
        let prev_result = (place > 0).then_some(&attached.result);
        let conf = self.conf(&self.plugins()[place], &Injection { prev_result, ..Injection::default() })?;
        let step = add(&self.call(&conf, prev_result));
        let is_untouched = match &step {
            Err(Error::Plugin(object)) => object.code == code::VERSION,
            Err(Error::NoPlugin { .. }) => true,
            _ => false,
        };
        *ran = if is_untouched { place } else { place + 1 };
        let step = step.map_err(|e| self.fault(e))?;
        attached.result = step.result;
        attached.links.extend(step.links);
        Ok(())
    }
}

fn run_add(node: &Node<'_>, kind: &PluginType, call: &Call<'_>) -> error::Result<Attached> {
    let stdout = exec::run(node, kind, Verb::Add, call)?;
    let result = exec::add_result(kind, &stdout, call.version)?;
    Ok(Attached { result, links: Vec::new() })
}
