//! What can be seen of a side: links, addresses, routes, rules, settings, forwarding entries, queues, rules of the packet
//! filter, files and the result, as paths with values. What two runs cannot share (random names and addresses) is masked.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use delegates::nl::nft::Nftables;
use meta_cni_tests::netns::Netns;
use meta_cni_tests::node::{Node, Pod};
use meta_cni_tests::program;
use serde_json::Value;

use crate::mask::{self, Mask};

/// Path and value of everything that is there.
pub type State = BTreeMap<String, String>;

/// The state of a side. `conf` is its configuration: addresses in it are no random ones.
pub fn of(node: &Node, pod: &Pod, conf: &str, result: Option<&Value>) -> State {
    let host = Seen::inside(&node.netns);
    let inside = Seen::inside(&pod.netns);
    let mut state = State::new();
    host.tell("host", &inside, &mut state);
    inside.tell("pod", &host, &mut state);
    for file in ["addresses", "data"].iter().flat_map(|sub| node.files(sub)) {
        let content = fs::read_to_string(node.path(&file)).unwrap_or_default();
        let path = format!("file/{file}");
        match serde_json::from_str(&content) {
            Ok(object @ Value::Object(_)) => flatten(&path, &object, &mut state),
            _ => put(&mut state, path, &content),
        }
    }
    for value in state.iter_mut().filter(|(path, _)| path.starts_with("file/")).map(|(_, value)| value) {
        *value = mask::forget(value);
    }
    if let Some(result) = result {
        flatten("result", result, &mut state);
    }
    let mut mask = Mask::of(&inside.links, &host.links, conf);
    mask.text(pod.netns.text(), "<sandbox>");
    mask.text(&pod.container, "<container>");
    mask.text(node.dir().to_str().unwrap(), "<dir>");
    state.into_iter().map(|(path, value)| (mask.apply(&path), mask.apply(&value))).collect()
}

/// A namespace as the tools show it.
struct Seen {
    links: Value,
    routes: [(&'static str, Value); 2],
    rules: [(&'static str, Value); 2],
    neighbours: Value,
    forwarding: Value,
    vlans: Value,
    queues: Vec<(String, Value)>,
    packet_filter: String,
    settings: State,
}

impl Seen {
    fn inside(netns: &Netns) -> Self {
        netns.inside(Self::here)
    }

    /// Of the thread's namespace. Few programs: in User Mode Linux each takes as long as an ADD of ours.
    fn here() -> Self {
        let [links, routes, rules, neighbours] =
            batch("ip -j -d", ["address show", "route show table all", "rule show", "neighbour show nud permanent"]);
        let [forwarding, vlans] = batch("bridge -j", ["fdb show", "vlan show"]);
        // Only routes of IPv6 have a preference.
        let (inet6, inet): (Vec<_>, Vec<_>) =
            array(&routes).iter().cloned().partition(|route| route["pref"] != Value::Null);
        Self {
            queues: if array(&links).iter().any(has_queue) { queues() } else { Vec::new() },
            links,
            routes: [("inet", inet.into()), ("inet6", inet6.into())],
            rules: [("inet", rules), ("inet6", json("ip -j -d -6 rule show"))],
            neighbours,
            forwarding,
            vlans,
            packet_filter: if is_untouched() { String::new() } else { run("nft -s list ruleset") },
            settings: settings(),
        }
    }

    fn tell(&self, at: &str, other: &Self, state: &mut State) {
        for link in array(&self.links) {
            self.link(at, link, &other.links, state);
        }
        for (family, routes) in &self.routes {
            for route in array(routes) {
                let key = ["table", "type", "dst", "dev", "metric"].map(|key| text(&route[key]));
                let path = format!("{at}/route/{family}/{}", key.join(" ").replace("null", "-"));
                put(state, path, &without(route, &["table", "type", "dst", "dev", "metric"]).to_string());
            }
        }
        for (family, rules) in &self.rules {
            for rule in array(rules) {
                put(state, format!("{at}/rule/{family}/{rule}"), "there");
            }
        }
        for neighbour in array(&self.neighbours) {
            put(state, format!("{at}/neighbour/{neighbour}"), "there");
        }
        // What the bridge has learned comes and goes.
        for entry in array(&self.forwarding).iter().filter(|entry| entry["state"] != "") {
            let vlan = entry.get("vlan").map(|id| format!(" vlan {id}")).unwrap_or_default();
            put(
                state,
                format!("{at}/forwarding/{} {}{vlan}", text(&entry["ifname"]), text(&entry["mac"])),
                &without(entry, &["ifname", "mac", "vlan"]).to_string(),
            );
        }
        for port in array(&self.vlans) {
            put(state, format!("{at}/vlan/{}", text(&port["ifname"])), &port["vlans"].to_string());
        }
        for (kind, queues) in &self.queues {
            for queue in array(queues) {
                put(state, format!("{at}/queue/{kind}/{queue}"), "there");
            }
        }
        packet_filter(at, &self.packet_filter, state);
        for (key, value) in &self.settings {
            put(state, format!("{at}/setting/{key}"), value);
        }
    }

    fn link(&self, at: &str, link: &Value, others: &Value, state: &mut State) {
        let name = text(&link["ifname"]);
        // Timers run, indexes follow from what else was made.
        let mut kept = without(link, &["ifname", "ifindex", "link_index", "link_netnsid", "addr_info"]);
        if let Some(index) = link.get("link_index") {
            let peer = array(others).iter().find(|other| &other["ifindex"] == index);
            kept["peer"] = peer.map_or(Value::Null, |peer| peer["ifname"].clone());
        }
        // Which of the two follows from where the peer was when the kernel looked.
        if kept["operstate"] == "LOWERLAYERDOWN" {
            kept["operstate"] = "DOWN".into();
        }
        if kept["group"] != "default" {
            kept["group"] = "<of the record>".into();
        }
        let mut flat = State::new();
        flatten(&format!("{at}/link/{name}"), &kept, &mut flat);
        state.extend(flat.into_iter().filter(|(path, _)| !path.ends_with("_timer")));
        for address in array(&link["addr_info"]) {
            let path = format!("{at}/address/{name}/{}/{}", text(&address["local"]), address["prefixlen"]);
            put(state, path, &without(address, &["local", "prefixlen"]).to_string());
        }
    }
}

/// Rules in their chains, by position.
fn packet_filter(at: &str, listing: &str, state: &mut State) {
    let (mut place, mut number) = (Vec::new(), 0);
    for line in listing.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(opened) = line.strip_suffix(" {") {
            place.push(opened.to_owned());
            number = 0;
            state.insert(format!("{at}/nft/{}", place.join("/")), "there".to_owned());
        } else if line == "}" {
            place.pop();
        } else {
            number += 1;
            state.insert(format!("{at}/nft/{}/{number:02}", place.join("/")), line.to_owned());
        }
    }
}

/// Everything below net/ that belongs to the namespace of the thread.
fn settings() -> State {
    let mut found = State::new();
    let mut left: Vec<_> = ["ipv4", "ipv6", "core"].map(|sub| Path::new("/proc/sys/net").join(sub)).into();
    while let Some(path) = left.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                left.push(path);
            } else if let Ok(value) = fs::read_to_string(&path) {
                let key = path.strip_prefix("/proc/sys/net").unwrap().display().to_string();
                found.insert(key, value.trim().to_owned());
            }
        }
    }
    found
}

/// A queueing discipline that somebody gave it.
fn has_queue(link: &Value) -> bool {
    !["noqueue", "noop"].contains(&text(&link["qdisc"]).as_str())
}

/// Queueing disciplines, with the classes and filters of their links.
fn queues() -> Vec<(String, Value)> {
    let queues = json("tc -j qdisc show");
    let mut all = vec![("qdisc".to_owned(), queues.clone())];
    for queue in array(&queues).iter().filter(|queue| queue["kind"] != "noqueue") {
        let dev = text(&queue["dev"]);
        // It knows no JSON here.
        let classes = run(&format!("tc class show dev {dev}"));
        all.push((format!("class/{dev}"), classes.lines().map(str::trim).collect()));
        all.push((format!("filter/{dev}"), json(&format!("tc -j filter show dev {dev}"))));
        all.push((format!("ingress/{dev}"), json(&format!("tc -j filter show dev {dev} ingress"))));
    }
    all
}

/// Nobody has changed the packet filter of the thread's namespace: it begins as generation 1.
fn is_untouched() -> bool {
    let mut tables = Nftables::open(Instant::now() + Duration::from_secs(10)).unwrap();
    tables.generation().unwrap() <= 1
}

/// Several commands for one program, with the JSON of each.
fn batch<const N: usize>(program: &str, commands: [&str; N]) -> [Value; N] {
    let mut words = program.split(' ').chain(["-batch", "-"]);
    let printed = program::run_with(words.next().unwrap(), words, &commands.map(|line| format!("{line}\n")).concat());
    let answers: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&printed).into_iter().collect();
    let answers = answers.unwrap_or_else(|e| panic!("{program}: {e}: {printed}"));
    answers.try_into().unwrap_or_else(|_| panic!("{program}: not one answer for each of {commands:?}: {printed}"))
}

fn run(line: &str) -> String {
    let mut words = line.split(' ');
    program::run(words.next().unwrap(), words)
}

fn json(line: &str) -> Value {
    let text = run(line);
    if text.trim().is_empty() {
        return Value::Array(Vec::new());
    }
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line}: {e}: {text}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn without(value: &Value, keys: &[&str]) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().retain(|key, _| !keys.contains(&key.as_str()));
    value
}

/// Inserts; what is there twice is counted.
fn put(state: &mut State, path: String, value: &str) {
    let mut free = path.clone();
    let mut count = 1;
    while state.contains_key(&free) {
        count += 1;
        free = format!("{path} #{count}");
    }
    state.insert(free, value.to_owned());
}

/// Objects and arrays of objects become paths; an array of words is one value.
fn flatten(path: &str, value: &Value, state: &mut State) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&format!("{path}/{key}"), value, state));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(i, value)| flatten(&format!("{path}/{i}"), value, state));
        }
        value => {
            state.insert(path.to_owned(), text(value));
        }
    }
}
