//! What a delegate is: one plugin type that runs in process, as a trait.
//!
//! A delegate's file holds its configuration and its verbs; `builtin/mod.rs` lists the delegate. What all delegates do alike
//! is here, once: findings before anything is touched, addresses taken before the first link and given back when the
//! attachment fails. `docs/add-a-delegate.md` makes a new one step by step, and `dummy.rs` is the example.

use std::marker::PhantomData;

use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::cni::spelling::Known;
use attachments::finding::{Finding, Findings};

use super::{Attached, on_link};
use crate::call::{Call, Node, Point};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ipam::{self, Leased};
use crate::ownership::Ownership;
use crate::sandbox::Sandbox;

/// What reading a configuration gives: the configuration, or everything that is wrong with it.
pub(super) type Reading<T> = std::result::Result<T, Vec<Finding>>;

/// ADD and CHECK: an attachment, both sides of it there.
pub(super) struct Context<'a, 'h> {
    /// The node's side.
    pub host: &'a mut Host<'h>,
    /// The pod's side.
    pub sandbox: &'a mut Sandbox,
    /// What the plugin was told.
    pub call: &'a Call<'a>,
    /// Where the attachment is made.
    pub point: &'a Point<'a>,
}

/// DEL: an attachment whose pod may be gone.
pub(super) struct Undo<'a, 'h> {
    /// The node's side.
    pub host: &'a mut Host<'h>,
    /// What the plugin was told.
    pub call: &'a Call<'a>,
    /// Where the attachment was made.
    pub point: &'a Point<'a>,
}

/// A plugin type that is served in process.
///
/// ADD, CHECK and STATUS get the configuration, which was read once. DEL and GC get none: they must undo what an ADD did
/// also where the configuration cannot be read any more. What they need of it they read from [`Call::conf`].
pub(super) trait Delegate {
    /// `type` in a configuration.
    const TYPE: &'static str;
    /// The keys that the delegate reads, beside those that every plugin may have.
    const KEYS: &'static [&'static str];
    /// The keys that it reads in `args.cni`.
    const ARGUMENTS: &'static [&'static str] = &["ips", "mac"];
    /// Those of [`Self::KEYS`] that hold paths of the node: a tenant's must lie under the node's `pathRoots`.
    const PATHS: &'static [&'static str] = &[];
    /// The keys of objects below one of its keys.
    const NESTED: &'static [(&'static str, &'static Known<'static>)] = &[];
    /// The delegate changes what a plugin before it in the chain made.
    const IS_CHAINED: bool = false;
    /// The layer around the delegate takes addresses for what it makes (`ipam`), checks them and gives them back.
    const TAKES_ADDRESSES: bool = true;
    /// Its link leads to networks that have servers of addresses: they may be asked over it, once it is there and up ([`ipam::asks_on_link`]).
    const LEADS_TO_SERVERS: bool = false;

    /// The configuration, typed.
    type Config: 'static;

    /// Reads the delegate's keys. Nothing of the node is looked at.
    fn read(conf: &Object) -> Reading<Self::Config>;

    /// What else is wrong, beside the delegate's own keys and `ipam`.
    fn validate(_config: &Self::Config, _conf: &Object) -> Vec<Finding> {
        Vec::new()
    }

    /// Before anything is attached: refuses what a tenant's definition may not have of the node. The node's own text, which
    /// may have everything ([`crate::call::Origin`]), does not come here. The configuration is an error where a program
    /// stands in for the delegate and may read what the delegate cannot.
    fn admit(_config: Result<&Self::Config>, _host: &mut Host<'_>, _call: &Call<'_>) -> Result<()> {
        Ok(())
    }

    /// Before anything is attached: every program that the delegate hands something to is there.
    fn require_programs(_config: &Self::Config, _node: &Node<'_>, _conf: &Object) -> Result<()> {
        Ok(())
    }

    /// ADD. `leased` holds the addresses that were taken; without `ipam` it is empty. A failure undoes what the delegate
    /// did itself.
    fn add(config: &Self::Config, cx: Context<'_, '_>, leased: Leased) -> Result<Attached>;

    /// ADD goes on, where addresses came over the link that [`Self::add`] made with none. A failure undoes nothing.
    fn address(_config: &Self::Config, cx: Context<'_, '_>, attached: Attached, leased: CniResult) -> Result<Attached> {
        on_link::give(cx, attached, leased)
    }

    /// DEL, first of all: gives back what the pod only borrowed (a moved device, changed settings), from the states that
    /// the ADD saved, oldest first: of all plugins of the chain, each knows its own. Idempotent. A sandbox that is gone has
    /// given back by itself what it could. No state at all means that nobody recorded the ADD: what the reference plugins
    /// leave tells what they borrowed.
    fn restore(_cx: Undo<'_, '_>, _sandbox: Option<&mut Sandbox>, _saved: &[&Object]) -> Result<()> {
        Ok(())
    }

    /// DEL: removes what is not a link in the pod; those [`crate::apply::detach`] removed before. Idempotent. Everything is
    /// tried; the first failure is the error.
    fn del(_cx: Undo<'_, '_>) -> Result<()> {
        Ok(())
    }

    /// CHECK: the kernel holds what the result says. [`Error::Differs`] names the difference.
    fn check(config: &Self::Config, cx: Context<'_, '_>) -> Result<()>;

    /// GC: removes what containers that are gone have left in this network on the node, and lists what unknown
    /// containers left.
    fn gc(_host: &mut Host<'_>, _call: &Call<'_>, _claims: &Ownership<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// STATUS: [`Error::NotReady`] when an ADD would fail now.
    fn status(config: &Self::Config, host: &mut Host<'_>, call: &Call<'_>) -> Result<()>;
}

/// A delegate of the registry, whatever the type of its configuration.
pub(super) trait Registered: Sync {
    fn kind(&self) -> &'static str;
    fn is_chained(&self) -> bool;
    fn keys(&self) -> &'static [&'static str];
    fn arguments(&self) -> &'static [&'static str];
    fn paths(&self) -> &'static [&'static str];
    fn nested(&self) -> &'static [(&'static str, &'static Known<'static>)];
    fn configure(&self, conf: &Object) -> Reading<Configured>;
    fn admit(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()>;
    fn restore(&self, cx: Undo<'_, '_>, sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()>;
    fn del(&self, cx: Undo<'_, '_>) -> Result<()>;
    fn check(&self, cx: Context<'_, '_>) -> Result<()>;
    fn holds(&self, host: &Host<'_>, call: &Call<'_>) -> Result<()>;
    fn gc(&self, host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>>;
    fn status(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()>;
}

/// An entry of the registry.
pub(super) struct Entry<D>(PhantomData<fn() -> D>);

impl<D> Entry<D> {
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<D: Delegate + 'static> Registered for Entry<D> {
    fn kind(&self) -> &'static str {
        D::TYPE
    }

    fn is_chained(&self) -> bool {
        D::IS_CHAINED
    }

    fn keys(&self) -> &'static [&'static str] {
        D::KEYS
    }

    fn arguments(&self) -> &'static [&'static str] {
        D::ARGUMENTS
    }

    fn paths(&self) -> &'static [&'static str] {
        D::PATHS
    }

    fn nested(&self) -> &'static [(&'static str, &'static Known<'static>)] {
        D::NESTED
    }

    fn configure(&self, conf: &Object) -> Reading<Configured> {
        valid::<D>(conf).map(|config| Configured(Box::new(Parsed::<D>(config))))
    }

    fn admit(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        if !call.origin.is_tenants {
            return Ok(());
        }
        match D::read(call.conf) {
            Ok(config) => D::admit(Ok(&config), host, call),
            Err(findings) => D::admit(Err(Error::Config(findings)), host, call),
        }
    }

    fn restore(&self, cx: Undo<'_, '_>, mut sandbox: Option<&mut Sandbox>, saved: &[&Object]) -> Result<()> {
        if D::TAKES_ADDRESSES && cx.host.kept().is_none() {
            ipam::leave(&cx.host.node, sandbox.as_deref_mut(), cx.call);
        }
        D::restore(cx, sandbox, saved)
    }

    fn del(&self, cx: Undo<'_, '_>) -> Result<()> {
        let Undo { host, call, point } = cx;
        let removed = D::del(Undo { host, call, point });
        let releases = D::TAKES_ADDRESSES && host.kept().is_none();
        if releases { removed.and(ipam::release(&host.node, call)) } else { removed }
    }

    fn check(&self, cx: Context<'_, '_>) -> Result<()> {
        self.holds(cx.host, cx.call)?;
        let config = D::read(cx.call.conf).map_err(Error::Config)?;
        D::check(&config, cx)
    }

    fn holds(&self, host: &Host<'_>, call: &Call<'_>) -> Result<()> {
        let is_asked = host.asks_programs() || !ipam::is_of_program(&host.node, call.conf);
        if D::TAKES_ADDRESSES && is_asked && ipam::configured(call.conf)? {
            ipam::check(&host.node, call)?;
        }
        Ok(())
    }

    fn gc(&self, host: &mut Host<'_>, call: &Call<'_>, ownership: &Ownership<'_>) -> Result<Vec<String>> {
        let mut told = D::gc(host, call, ownership)?;
        if D::TAKES_ADDRESSES {
            told.extend(ipam::gc(&host.node, call, ownership)?);
        }
        Ok(told)
    }

    fn status(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        let config = valid::<D>(call.conf).map_err(Error::Config)?;
        D::status(&config, host, call)?;
        // An attachment that keeps its addresses needs no free one.
        if D::TAKES_ADDRESSES && host.kept().is_none() { ipam::status(&host.node, call) } else { Ok(()) }
    }
}

/// Reads a configuration, `ipam` included, and finds everything that is wrong with it as far as it can be known without the
/// node.
fn valid<D: Delegate>(conf: &Object) -> Reading<D::Config> {
    // What several readers need, each finds wrong; the collection keeps it once.
    let mut findings = Findings::default();
    let config = match D::read(conf) {
        Ok(config) => {
            findings.extend(D::validate(&config, conf));
            Some(config)
        }
        Err(own) => {
            findings.extend(own);
            None
        }
    };
    if D::TAKES_ADDRESSES {
        findings.extend(ipam::validate(conf));
        if ipam::asks_on_link(conf) && !D::LEADS_TO_SERVERS {
            findings.push(ipam::no_link(conf));
        }
    }
    match config {
        Some(config) => findings.finish(config),
        None => Err(findings.into()),
    }
}

/// A delegate with its configuration, which was read and found valid. An ADD carries it from the validation of the whole pod,
/// before anything is touched, to the attachment.
pub struct Configured(Box<dyn Carried>);

/// What a configuration is carried for.
trait Carried {
    fn require_programs(&self, node: &Node<'_>, conf: &Object) -> Result<()>;
    fn admit(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()>;
    fn add(&self, cx: Context<'_, '_>) -> Result<Attached>;
}

struct Parsed<D: Delegate>(D::Config);

impl Configured {
    /// Before anything is attached: every program that it will execute is there, that of its addresses too (A33). One that is missing is
    /// then not asked for a DEL either.
    pub fn require_programs(&self, node: &Node<'_>, conf: &Object) -> Result<()> {
        self.0.require_programs(node, conf)
    }

    /// Before anything is attached: what a tenant's definition asks of the node and may not have. The node's own text may
    /// have everything ([`crate::call::Origin`]).
    pub fn admit(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        if call.origin.is_tenants { self.0.admit(host, call) } else { Ok(()) }
    }

    /// ADD. A failure undoes what it did itself, addresses included.
    pub fn add(&self, host: &mut Host<'_>, sandbox: &mut Sandbox, call: &Call<'_>) -> Result<Attached> {
        self.0.add(Context { host, sandbox, call, point: call.point()? })
    }
}

impl<D: Delegate> Carried for Parsed<D> {
    fn require_programs(&self, node: &Node<'_>, conf: &Object) -> Result<()> {
        if D::TAKES_ADDRESSES {
            ipam::require_program(node, conf)?;
        }
        D::require_programs(&self.0, node, conf)
    }

    fn admit(&self, host: &mut Host<'_>, call: &Call<'_>) -> Result<()> {
        D::admit(Ok(&self.0), host, call)
    }

    fn add(&self, cx: Context<'_, '_>) -> Result<Attached> {
        let Context { host, sandbox, call, point } = cx;
        let kept = host.kept().filter(|_| D::TAKES_ADDRESSES).cloned();
        if D::TAKES_ADDRESSES && kept.is_none() && ipam::asks_on_link(call.conf) {
            return add_and_ask::<D>(&self.0, Context { host, sandbox, call, point });
        }
        let is_taken = kept.is_none();
        let leased = match kept {
            Some(kept) => kept,
            None if D::TAKES_ADDRESSES => lease(&host.node, call)?,
            None => Leased::default(),
        };
        let has_addresses = is_taken && !leased.result.ips.is_empty();
        // Validation has found what is no boolean.
        sandbox.accept_ra = ipam::accept_ra(call.conf).unwrap_or_default();
        let attached = D::add(&self.0, Context { host, sandbox, call, point }, leased);
        if attached.is_err() && has_addresses {
            // What it says about the cause is the first error; DEL releases again.
            let _ = ipam::release(&host.node, call);
        }
        attached
    }
}

/// ADD of a link over which addresses are asked for: it is made without any, and gets them when it is up.
fn add_and_ask<D: Delegate>(config: &D::Config, cx: Context<'_, '_>) -> Result<Attached> {
    let Context { host, sandbox, call, point } = cx;
    sandbox.accept_ra = ipam::accept_ra(call.conf).unwrap_or_default();
    let attached = D::add(config, Context { host, sandbox, call, point }, Leased::default())?;
    let links = attached.links.clone();
    let leased = ipam::allocate_on_link(host, sandbox, call);
    let addressed = leased.and_then(|leased| {
        let cx = Context { host, sandbox, call, point };
        D::address(config, cx, attached, leased.result)
    });
    addressed.inspect_err(|_| {
        // What it says about the cause is the first error. DEL does all of this again; a device that was lent it alone gives back.
        ipam::leave(&host.node, Some(sandbox), call);
        let _ = links.iter().try_for_each(|link| sandbox.netlink.delete_link(link.index).map(drop));
        let _ = D::del(Undo { host, call, point }).and(ipam::release(&host.node, call));
    })
}

/// Takes addresses, where the configuration asks for some.
fn lease(node: &Node<'_>, call: &Call<'_>) -> Result<Leased> {
    if ipam::configured(call.conf)? { ipam::allocate(node, call) } else { Ok(Leased::default()) }
}
