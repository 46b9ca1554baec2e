//! `meta-cnictl connectivity test`: do pods on all nodes reach each other through a network? It makes pods, and takes them away
//! whatever happens: an error, the end of its time, Ctrl-C.

mod plan;
mod report;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attachments::status::NETWORK_STATUS;
use clap::{Args, Subcommand};
use meta_cni_kube::{Access, Selector, create, remove, text_of};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::plan::{LABEL, Pair, Target, Test, pairs, target};
use crate::access::{self, Api, block_on};
use crate::style::Style;
use crate::{Answer, Format};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How long pods may take to go.
const PARTING: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Debug, PartialEq, Subcommand)]
pub enum ConnectivityCommand {
    /// Makes a pod of the network on each node and pings from each to each: small packets, packets that fill the MTU, and with iperf3 in
    /// the image the throughput. The pods are removed afterwards, on Ctrl-C too.
    #[command(args_override_self = true, after_help = STATUS)]
    Test(TestOptions),
}

const STATUS: &str = "\
Exit status: 0 every pod reaches every other, 1 one does not, 2 wrong usage, or the test could not be made.";

/// Of which network, and how.
#[derive(Debug, PartialEq, Args)]
pub struct TestOptions {
    /// The NetworkAttachmentDefinition, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAD")]
    nad: String,
    /// The namespace of definition and pods.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The image of the pods: with sh, sleep and ping; with iperf3 the throughput is measured too.
    #[arg(long, value_name = "IMAGE", default_value = "busybox:stable")]
    image: String,
    /// Only these nodes; without it every one that is ready.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,
    /// Packets of each ping.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// How long the pods may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// A table, or one JSON object.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: Api,
}

/// Answers.
pub fn run(command: &ConnectivityCommand) -> Result<Answer, String> {
    let ConnectivityCommand::Test(options) = command;
    let (test, pairs) = block_on(async {
        let access = options.api.open().await?;
        let test = test(options, &access).await?;
        let nodes = nodes(&access, &options.node).await?;
        let outcome = tokio::select! {
            outcome = exchange(&access, &test, &nodes, Duration::from_secs(options.timeout)) => outcome,
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        };
        say("removing the pods");
        let cleaned = clean(&access, &test).await;
        let pairs = outcome.map_err(|why| match &cleaned {
            Ok(()) => why.clone(),
            Err(left) => format!("{why}; {left}"),
        })?;
        cleaned?;
        Ok((test, pairs))
    })?;
    let text = match options.output {
        Format::Text => report::text(&test, &pairs, Style::of_stdout()),
        Format::Json => report::json(&test, &pairs),
    };
    Ok(Answer { text, is_good: pairs.iter().all(Pair::is_good) })
}

/// Progress, for who waits: on stderr, so that the output stays the report.
fn say(what: &str) {
    eprintln!("meta-cnictl: {what}");
}

async fn test(options: &TestOptions, access: &Access) -> Result<Test, String> {
    let own = || options.namespace.clone().unwrap_or_else(|| access.namespace.clone());
    let (namespace, name) = match options.nad.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name),
        None => (own(), options.nad.as_str()),
    };
    let collection = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions");
    if access::object(access, &collection, name).await?.is_none() {
        return Err(format!("network-attachment-definition {namespace}/{name}: the API server has no such definition"));
    }
    // Two tests at once have different names: the process, and when it was started.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let id = format!("{:x}{:x}", std::process::id(), now & 0xffff);
    let (network, image) = (format!("{namespace}/{name}"), options.image.clone());
    let namespace = options.namespace.clone().unwrap_or(namespace);
    Ok(Test { id, namespace, network, image, count: options.count })
}

/// The nodes that are ready, or those that are named.
async fn nodes(access: &Access, named: &[String]) -> Result<Vec<String>, String> {
    let mut found: Vec<(String, bool)> = Vec::new();
    access::list(access, "/api/v1/nodes", Selector::default(), |node| {
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        found.push((name, is_ready && node["spec"]["unschedulable"] != true));
    })
    .await?;
    if let Some(missing) = named.iter().find(|name| !found.iter().any(|(known, _)| known == *name)) {
        return Err(format!("node {missing}: the API server has no such node"));
    }
    found.retain(|(name, is_ready)| if named.is_empty() { *is_ready } else { named.contains(name) });
    match found.is_empty() {
        true => Err("no node is ready".to_owned()),
        false => Ok(found.into_iter().map(|(name, _)| name).collect()),
    }
}

/// Targets, then probes, then what the probes say.
async fn exchange(access: &Access, test: &Test, nodes: &[String], limit: Duration) -> Result<Vec<Pair>, String> {
    let until = Instant::now() + limit;
    let collection = format!("/api/v1/namespaces/{}/pods", test.namespace);
    say(&format!("{} on {} nodes, image {}", test.network, nodes.len(), test.image));
    for (i, node) in nodes.iter().enumerate() {
        create(access, &collection, &test.target(i, node)).await?;
    }
    let mut targets: BTreeMap<usize, Target> = BTreeMap::new();
    let mut told = usize::MAX;
    loop {
        let pods = pods(access, test).await?;
        for (i, node) in nodes.iter().enumerate() {
            let pod = pods.get(&name_of(&test.target(i, node)));
            let status =
                pod.and_then(|pod| pod["metadata"]["annotations"][NETWORK_STATUS].as_str()).unwrap_or_default();
            let is_running = pod.is_some_and(|pod| pod["status"]["phase"] == "Running");
            if let Some(found) = target(node, &test.network, status).filter(|_| is_running) {
                targets.insert(i, found);
            }
        }
        if targets.len() != told {
            told = targets.len();
            say(&format!("{told} of {} pods have an address", nodes.len()));
        }
        if targets.len() == nodes.len() {
            break;
        }
        if Instant::now() > until {
            return Err(late(test, nodes, &targets, &pods, limit));
        }
        sleep(PAUSE).await;
    }
    let targets: Vec<Target> = targets.into_values().collect();
    for (i, node) in nodes.iter().enumerate() {
        create(access, &collection, &test.probe(i, node, &targets)).await?;
    }
    say("asking from every node");
    let mut answers: BTreeMap<usize, Vec<Pair>> = BTreeMap::new();
    while answers.len() < nodes.len() && Instant::now() < until {
        let pods = pods(access, test).await?;
        for (i, node) in nodes.iter().enumerate().filter(|(i, _)| !answers.contains_key(i)).collect::<Vec<_>>() {
            let name = name_of(&test.probe(i, node, &targets));
            let phase = pods.get(&name).map(|pod| &pod["status"]["phase"]);
            if phase.is_some_and(|phase| phase == "Succeeded" || phase == "Failed") {
                let output = text_of(access, &format!("{collection}/{name}"), "log").await?;
                answers.insert(i, pairs(node, &targets, &output));
                say(&format!("{node} has asked everybody"));
            }
        }
        sleep(PAUSE).await;
    }
    // A probe that did not end has no answers.
    let all =
        nodes.iter().enumerate().flat_map(|(i, node)| answers.remove(&i).unwrap_or_else(|| pairs(node, &targets, "")));
    Ok(all.collect())
}

fn name_of(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Why pods have no address, as far as they tell.
fn late(
    test: &Test,
    nodes: &[String],
    targets: &BTreeMap<usize, Target>,
    pods: &BTreeMap<String, Value>,
    limit: Duration,
) -> String {
    let each = |(i, node): (usize, &String)| {
        let pod = pods.get(&name_of(&test.target(i, node)));
        let phase = pod.and_then(|pod| pod["status"]["phase"].as_str()).unwrap_or("gone").to_owned();
        let waits = pod.and_then(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str());
        format!("{node}: {phase}{}", waits.map(|reason| format!(" ({reason})")).unwrap_or_default())
    };
    let missing: Vec<String> = nodes.iter().enumerate().filter(|(i, _)| !targets.contains_key(i)).map(each).collect();
    format!(
        "after {} s pods have no address in {}: {}; kubectl get events says why",
        limit.as_secs(),
        test.network,
        missing.join(", ")
    )
}

/// The pods of this test by name.
async fn pods(access: &Access, test: &Test) -> Result<BTreeMap<String, Value>, String> {
    let label = format!("{LABEL}={}", test.id);
    let mut found = BTreeMap::new();
    let selector = Selector { fields: None, labels: Some(&label) };
    let collection = format!("/api/v1/namespaces/{}/pods", test.namespace);
    access::list(access, &collection, selector, |pod| drop(found.insert(name_of(&pod), pod))).await?;
    Ok(found)
}

/// Removes the pods, and waits until they are gone.
async fn clean(access: &Access, test: &Test) -> Result<(), String> {
    let until = Instant::now() + PARTING;
    let collection = format!("/api/v1/namespaces/{}/pods", test.namespace);
    let left = |pods: &BTreeMap<String, Value>| {
        format!("{} pods are left: kubectl -n {} delete pods -l {LABEL}={}", pods.len(), test.namespace, test.id)
    };
    loop {
        let there = pods(access, test).await?;
        if there.is_empty() {
            return Ok(());
        }
        for name in there.keys() {
            remove(access, &collection, name).await?;
        }
        if Instant::now() > until {
            return Err(left(&there));
        }
        sleep(PAUSE).await;
    }
}
