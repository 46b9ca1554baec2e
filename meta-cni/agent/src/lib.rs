//! The node agent: it watches the API server for the plugin, and publishes status and events. It makes no interface itself.
//!
//! The parts are tasks of one thread. [`run`] wires them and hands each what it shares with others.

#![forbid(unsafe_code)]

mod addresses;
mod call_reports;
pub mod conf;
mod definitions;
pub mod devices;
mod durable_file;
pub mod error;
mod events;
mod foreign;
pub mod health;
pub mod host_exec;
mod hot_plug;
pub mod install;
mod keepalive;
mod leases;
pub mod metrics;
mod network_choice;
pub mod networks;
mod node_labels;
pub mod options;
mod overlay;
mod own_node;
mod pod_cache;
mod pod_now;
mod policies;
mod publish;
mod queue;
pub mod recover;
mod repair;
mod resolve;
mod serve;
mod service;
mod status_resync;
pub mod uninstall;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use attachments::cni::object::Object;
use attachments::dialect::Dialects;
use delegates::boot;
use delegates::networks::NetworkId;
use meta_cni::engine::Inventory;
use meta_cni::node::spelled;
use meta_cni_kube::Reader;
use meta_cni_kube::log::Levels;
use tokio::signal::unix::{SignalKind, signal};

use addresses::Addresses;
use definitions::Definitions;
use devices::Devices;
use error::{Error, Result};
use foreign::Foreign;
use hot_plug::HotPlug;
use metrics::{Metrics, Snapshot, Watches};
use network_choice::NetworkChoice;
use networks::{Heard, Networks};
use pod_cache::{PodName, SharedPodCache};
use policies::Policies;
use publish::Publisher;
use repair::Repair;
use resolve::{Facts, Sources};
use service::AgentService;

pub use options::Options;

/// Serves the node until SIGTERM or SIGINT. If a part ends earlier, the agent ends, and the kubelet restarts it.
pub fn run(options: &Options, levels: Levels) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::Io(format!("cannot start the agent: {e}")))?.block_on(serve(options, levels))
}

async fn serve(options: &Options, levels: Levels) -> Result<()> {
    // Leases of addresses tell the boot that they are of, as the plugin sees it.
    let node_root = host_exec::host_process(options).map(|process| process.join("root"));
    if let Ok(root) = &node_root {
        boot::of_node(root);
    }
    let metrics_server = metrics::Server::new(options)?;
    let metrics = Metrics::of(&options.node_name);
    let watches = Watches::default();
    let exchanges = metrics.agent.clone();
    let observer: meta_cni_kube::Observer = Arc::new(move |exchange| exchanges.exchanged(exchange));
    let (client, server) = meta_cni_kube::observed_client(options.kubeconfig.as_deref(), observer).await?;
    let addresses = Addresses::new(options.node_ips.clone(), &server);
    let dialects = dialects(options);
    pod_cache::read_also(&dialects);
    let pods = SharedPodCache::default();
    let reader = Reader::new(client.clone());
    let known = Definitions::open(reader.clone(), &options.state_dir, pods.clone(), dialects.clone());
    let policies = Policies::open(reader.clone(), &options.state_dir);
    let foreign = Foreign::new(dialects.clone(), reader.clone());
    let choice = NetworkChoice::new(dialects.genie.clone(), client.clone(), pods.clone());
    let publisher = Publisher::new(client.clone(), pods.clone(), metrics.clone(), &dialects);
    let (events, event_publisher) = events::events(client.clone(), pods.clone(), &options.node_name, metrics.clone());
    let root = node_root.unwrap_or_else(|_| "/".into());
    let settings = networks::Settings {
        node: options.node_name.clone(),
        node_ips: options.node_ips.0.clone(),
        state_dir: options.state_dir.clone(),
        config: options.config.clone(),
        node_root: root.clone(),
        grace: options.member_grace,
    };
    let networks =
        Networks::open(settings, client.clone(), (known.clone(), foreign.clone()), events.clone(), metrics.clone());
    let devices = Devices::new(&options.kubelet_dir, metrics.clone());
    let hot_plug = HotPlug::new(pods.clone(), reader.clone(), events.clone(), metrics.clone());
    let repair = Repair::new(client.clone(), pods.clone(), reader.clone(), events.clone(), metrics.clone());
    let readiness = tokio::sync::watch::Sender::new(conf::Blockers::new());
    let service = AgentService {
        node: options.node_name.clone(),
        facts: Facts::new(Sources {
            reader,
            pods: pods.clone(),
            definitions: known.clone(),
            policies: policies.clone(),
            devices: devices.clone(),
            addresses: addresses.clone(),
            networks: networks.clone(),
            foreign: foreign.clone(),
        }),
        choice: choice.clone(),
        publisher: publisher.clone(),
        events: events.clone(),
        levels,
        readiness: readiness.subscribe(),
    };
    let listener = serve::bind(&options.socket)?;
    tracing::info!(node = options.node_name, socket = %options.socket.display(), "the agent serves");

    let definitions = |namespace: &str, name: &str| known.config_of(namespace, name);
    let awaited = || known.awaited();
    let seen = |pod: &PodName| {
        publisher.seen(pod);
        hot_plug.seen(pod);
        known.expect(pod);
        policies.expect(pod.namespace.as_str());
    };
    let hearing = networks.clone();
    let hear = move |id: &NetworkId, heard: Heard| hearing.hear(id, heard);
    let link_gone = repair.waker();
    let node_has = |ips: &[std::net::IpAddr]| {
        addresses.node_has(ips);
        networks.node_has(ips);
    };
    let pod_cidrs = tokio::sync::watch::Sender::new(Vec::new());
    let pods_have = |cidrs| {
        let is_known = *pod_cidrs.borrow() == cidrs;
        if !is_known {
            pod_cidrs.send_replace(cidrs);
        }
    };
    let labels = tokio::sync::watch::Sender::new(None);
    let is_labelled = |keys| {
        labels.send_if_modified(|present| present.replace(keys) != *present);
    };
    let page = {
        let look = (networks.clone(), known.clone(), publisher.clone(), watches.clone(), metrics.clone());
        let (inventory, state_dir) = (Mutex::new(Inventory::default()), options.state_dir.clone());
        move || {
            let (networks, known, publisher, watches, metrics) = &look;
            // What cannot be read is told as 0; the log of the part that needs it says why.
            let held = inventory.lock().unwrap_or_else(PoisonError::into_inner).look(&state_dir).unwrap_or_default();
            metrics.text(&Snapshot {
                networks: networks.gauges(),
                attachments: held.attachments,
                pending: held.pending,
                abandoned: held.abandoned,
                definitions: known.size(),
                statuses_waiting: publisher.waiting() as u64,
                unheard: watches.look(Instant::now()),
            })
        }
    };
    let (pods_heard, definitions_heard) = (watches.of("pods"), watches.of("network-attachment-definitions"));
    let parts = async {
        tokio::join!(
            watch::pods(client.clone(), &options.node_name, pods.clone(), &pods_heard, seen, |pod| devices.forget(pod)),
            watch::definitions(client.clone(), &known, &definitions_heard),
            known.run(),
            policies.run(client.clone()),
            foreign.run(client.clone()),
            choice.run(),
            serve::serve(listener, Arc::new(service)),
            publisher.run(),
            event_publisher.run(),
            hot_plug.run(options),
            repair.run(options),
            status_resync::run(&options.state_dir, &pods, &publisher),
            keepalive::run(client.clone(), addresses.clone()),
            leases::run(options, &metrics, &events),
            own_node::run(client.clone(), &options.node_name, node_has, pods_have, is_labelled),
            node_labels::run(options, &root, &client, labels.subscribe()),
            metrics_server.serve(page),
            call_reports::run(&options.state_dir, &metrics, &watches),
        );
    };
    tokio::select! {
        () = parts => Err(Error::Bug("a part of the agent ended".to_owned())),
        ended = networks.run() => ended,
        ended = overlay::run(&options.state_dir, networks.changes(), hear, link_gone) => ended,
        ended = recover::run(options, &metrics) => ended,
        ended = conf::run(options, &readiness, &events, &definitions, awaited, pod_cidrs.subscribe()) => ended,
        ended = termination() => ended,
    }
}

/// The dialects that the administrator's keys of the node's configuration turn on. A change counts from the agent's next start.
fn dialects(options: &Options) -> Dialects {
    let Some(file) = &options.config else { return Dialects::default() };
    let at = file.display();
    // What else is wrong with the file is told where the conflist is made of it, and may be mended while the agent runs.
    let Some(conf) = std::fs::read(file).ok().and_then(|bytes| Object::parse(&bytes).ok()) else {
        return Dialects::default();
    };
    spelled(conf).and_then(|conf| Dialects::read(&conf)).unwrap_or_else(|finding| {
        tracing::error!("{at}: {finding}; no dialect is on until the agent starts anew");
        Dialects::default()
    })
}

async fn termination() -> Result<()> {
    let failed = |e: std::io::Error| Error::Io(format!("cannot listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stops on a signal");
    Ok(())
}
