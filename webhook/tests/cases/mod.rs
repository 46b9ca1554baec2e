//! Golden cases: a cluster, and what is asked in it.

use std::time::Instant;

use attachments::cni::object::Object;
use attachments::definition::{NODE_SELECTOR, RESOURCE_NAME};
use attachments::dialect::objects::Kind;
use attachments::dialect::{DIALECTS, Dialects};
use attachments::policy::Level;
use attachments::policy::spec::VniRange;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use webhook::cluster::{Options, View};
use webhook::facts::{Cache, Known};
use webhook::mutate::{Draw, Drawn, Mutation, Opened, Settings, mutate};
use webhook::rules::{Operation, Request};

pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

pub fn read<T: serde_json::value::Index + Copy>(value: &Value, key: T) -> Vec<String> {
    list(&value[key]).iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

pub fn options(told: &Value) -> Options {
    let mut options = Options::default();
    let known = [
        "strict",
        "isolation",
        "hotPlug",
        "denyDeleteInUse",
        "tunnelPorts",
        "underlayMtu",
        "whereaboutsAsBlocks",
        "enforced",
        "pods",
        "services",
        "nodes",
        "dialects",
    ];
    for (key, value) in told.as_object().into_iter().flatten() {
        assert!(known.contains(&key.as_str()), "{key}");
        assert!(!value.is_null());
    }
    options.strict = told["strict"] == true;
    options.namespace_isolation = told["isolation"] == true;
    options.hot_plug = told["hotPlug"] == true;
    options.deny_delete_in_use = told["denyDeleteInUse"] == true;
    options.tunnel_ports = list(&told["tunnelPorts"]).iter().map(|port| port.as_u64().unwrap() as u16).collect();
    options.whereabouts_as_blocks = told["whereaboutsAsBlocks"] == true;
    let mut conf = Object::new();
    conf.set(DIALECTS, &read(told, "dialects"));
    options.dialects = Dialects::read(&conf).unwrap();
    options.underlay_mtu = told["underlayMtu"].as_u64().map(|mtu| mtu as u32);
    options.enforced_types = read(told, "enforced");
    let nets = |key| read(told, key).iter().map(|net| net.parse().unwrap()).collect();
    (options.pod_networks, options.service_networks, options.node_networks) =
        (nets("pods"), nets("services"), nets("nodes"));
    options
}

pub fn known(cluster: &Value) -> Known {
    let mut known = Known::new(options(&cluster["options"]), Level::Privileged);
    for definition in list(&cluster["definitions"]) {
        let (namespace, name) = definition["ref"].as_str().unwrap().split_once('/').unwrap();
        let mut metadata = json!({"namespace": namespace, "name": name});
        for (key, annotation) in [("resource", RESOURCE_NAME), ("nodeSelector", NODE_SELECTOR)] {
            if definition[key].is_string() {
                metadata["annotations"][annotation] = definition[key].clone();
            }
        }
        let object = json!({"metadata": metadata, "spec": {"config": definition["config"].to_string()}});
        known.apply(Cache::Definitions, serde_json::from_value(object).unwrap());
    }
    for claim in list(&cluster["claims"]) {
        known.apply(Cache::Claims, serde_json::from_value(claim).unwrap());
    }
    for object in list(&cluster["foreign"]) {
        let kind = Kind::of(object["kind"].as_str().unwrap()).unwrap();
        let version = kind.api_versions().iter().find(|version| object["apiVersion"] == **version).unwrap();
        known.apply(Cache::Foreign(kind, version), serde_json::from_value(object).unwrap());
    }
    let view = &mut known.view;
    for pod in list(&cluster["pods"]) {
        view.apply_pod(&serde_json::from_value(pod).unwrap());
    }
    for namespace in list(&cluster["namespaces"]) {
        view.apply_namespace(&serde_json::from_value(namespace).unwrap());
    }
    for node in list(&cluster["nodes"]) {
        view.networks_mut().apply_node(&serde_json::from_value(node).unwrap());
    }
    for services in list(&cluster["services"]) {
        view.networks_mut().apply_services(&serde_json::from_value(services).unwrap());
    }
    for (name, selector) in cluster["policies"].as_object().into_iter().flatten() {
        let selector: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
        assert!(view.apply_policy(name, selector));
    }
    known
}

#[allow(dead_code, reason = "not every test needs no more")]
pub fn view(cluster: &Value) -> View {
    known(cluster).view
}

/// Shows a request to the function.
pub fn ask<T>(told: &Value, view: &View, answer: impl Fn(&Request<'_>, &View) -> T) -> T {
    let operation = match told["operation"].as_str().unwrap() {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        other => unreachable!("{other}"),
    };
    let object = if operation == Operation::Delete { &told["old"] } else { &told["object"] };
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let group = match text(&object["apiVersion"]).split_once('/') {
        Some((group, _)) => group.to_owned(),
        None => String::new(),
    };
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let request = Request {
        operation,
        group: &group,
        kind: &kind,
        namespace: &namespace,
        name: &name,
        object: &told["object"],
        old: told.get("old"),
        user: told["user"].as_str().unwrap_or("someone"),
        groups: &[],
    };
    answer(&request, view)
}

/// What becomes of the object of a request. `settings` has `vniRange`, `level` with what it `opens`, `inject` and `nodeLabels`.
#[allow(dead_code, reason = "not every test changes objects")]
pub fn mutated(settings: &Value, told: &Value, view: &View, drawn: &Drawn) -> Mutation {
    let range = |value: &Value| {
        let bound = |i: usize| u32::try_from(value[i].as_u64().unwrap()).unwrap();
        VniRange { min: bound(0), max: bound(1) }
    };
    let level = settings["level"].as_str().map(str::to_owned);
    let opened = level.map(|level| Opened { level, ranges: list(&settings["opens"]).iter().map(range).collect() });
    let draw = Draw {
        range: settings.get("vniRange").map_or(webhook::mutate::options::MutateOptions::default().vni_range, range),
        opened: opened.as_ref(),
        drawn,
        now: Instant::now(),
        uid: told["uid"].as_str().unwrap_or("u"),
        is_dry_run: told["dryRun"] == true,
        taken: &[],
    };
    let settings =
        Settings { draw, injects: settings["inject"] == true, asks_for_labels: settings["nodeLabels"] == true };
    ask(told, view, |request, view| mutate(request, &settings, view))
}
