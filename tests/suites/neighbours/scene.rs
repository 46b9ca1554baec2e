//! What every default network goes through.

use std::collections::BTreeSet;
use std::fs;

use meta_cni_tests::cluster::installation::{image, install, uninstall, wait_for_agents, wait_for_webhook};
use meta_cni_tests::cluster::neighbours::coredns;
use meta_cni_tests::cluster::neighbours::results::{Run, Subject};
use meta_cni_tests::cluster::pods::{PATIENCE, definition, events, gone, lan, namespace, pod, ready, status_of};
use meta_cni_tests::cluster::service::Service;
use meta_cni_tests::cluster::snapshot::{Snapshot, as_before, snapshot};
use meta_cni_tests::cluster::{Api, Cluster, Node, wait};
use meta_cni_tests::node::NETWORKS;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Where the cases' pods are.
pub const SHOP: &str = "shop";
/// What a pod serves, on its own port, and at the node for pods that have a `hostPort`.
pub const PORT: u16 = 8080;
pub const NODE_PORT: u16 = 18080;
/// A pod with further networks has these: a bridge of the node, an overlay on the product's port where that can be shared, one on the usual
/// port.
pub const THREE: &str = "lan,near,far";

/// A product that is the cluster's default network.
pub struct Product {
    /// Its row in the table.
    pub subject: Subject,
    /// Installs it on every node.
    pub install: fn(&Cluster) -> Vec<Service>,
    /// Starts the daemons of a node again.
    pub start: fn(&Node) -> Vec<Service>,
    /// What on a node is the product's alone, as questions to `ip`, `bridge` and `nft`.
    pub own: &'static [&'static str],
    /// It serves `hostPort`.
    pub has_host_ports: bool,
    /// UDP port of the overlay `near`.
    pub near: u16,
}

/// Port of flannel's tunnel, and of Cilium's.
pub const TUNNEL: u16 = 8472;

/// A cluster with a product and ours.
pub struct Scene {
    // In the order in which they go: a node ends when nothing runs in it.
    pub daemons: Vec<Service>,
    dns: Option<Service>,
    pub cluster: Cluster,
    pub api: Api,
    product: Product,
    run: Run,
    before: Vec<Snapshot>,
    /// What eth0 of a pod is without us, by node.
    plain: Vec<Vec<String>>,
    own: Vec<BTreeSet<String>>,
}

impl Scene {
    /// Two nodes with the product and a pod each, from before our installation; then ours.
    pub fn new(product: Product) -> Self {
        let mut scene = Self::before_ours(product);
        scene.install_ours(&[]);
        scene
    }

    /// Two nodes with the product and a pod each.
    pub fn before_ours(product: Product) -> Self {
        let run = Run::begin(product.subject);
        let cluster = Cluster::start(2);
        let daemons = (product.install)(&cluster);
        let mut scene = Self::of(cluster, product, daemons, run);
        scene.dns = Some(coredns::install(&scene.cluster));
        let names = scene.names();
        for node in &names {
            scene.make(&format!("first-{node}"), node, "", false);
            scene.delete(&format!("first-{node}"));
        }
        scene.before = scene.each(|scene, node| scene.settled(node));
        for node in &names {
            scene.make(&format!("old-{node}"), node, "", false);
        }
        scene.serves("old-n1", "old-n2");
        names.iter().for_each(|node| scene.resolves(&format!("old-{node}")));
        scene.plain = scene.each(|scene, node| scene.eth0(&format!("old-{}", node.name()), node));
        scene.own = scene.each(|scene, node| scene.own_of(node));
        scene
    }

    /// Ours alone on a cluster, with these variables of the agents.
    pub fn without_a_product(subject: Subject, cluster: Cluster, settings: &[&str]) -> Self {
        let run = Run::begin(subject);
        let product = Product {
            subject,
            install: |_| Vec::new(),
            start: |_| Vec::new(),
            own: &[],
            has_host_ports: true,
            near: TUNNEL,
        };
        let mut scene = Self::of(cluster, product, Vec::new(), run);
        scene.install_ours(settings);
        scene
    }

    fn of(cluster: Cluster, product: Product, daemons: Vec<Service>, run: Run) -> Self {
        let api = cluster.api();
        namespace(&api, SHOP);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": SHOP, "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
        });
        api.apply(&service).unwrap();
        Self { daemons, dns: None, cluster, api, product, run, before: Vec::new(), plain: Vec::new(), own: Vec::new() }
    }

    /// Something that was right, in the words of the table.
    pub fn held(&self, what: &str) {
        self.run.held(what);
    }

    /// A program that comes from no module, with its version.
    pub fn with_version(&mut self, program: &str, version: &str) {
        self.run.with_version(program, version);
    }

    /// The case is over.
    pub fn passed(self) {
        self.run.passed();
    }

    /// Installs ours with these variables of the agents, and makes the networks that pods ask for.
    fn install_ours(&mut self, settings: &[&str]) {
        self.apply_ours(settings);
        self.make_networks();
    }

    /// Installs ours with these variables of the agents, and waits for nothing.
    pub fn apply_ours(&self, settings: &[&str]) {
        self.cluster.import(&image());
        install(&self.cluster);
        for setting in settings {
            self.cluster.plane().kubectl([
                "set",
                "env",
                "-n",
                "kube-system",
                "daemonset/meta-cni",
                "-c",
                "agent",
                setting,
            ]);
        }
    }

    /// Makes the networks that pods ask for, when ours is ready.
    pub fn make_networks(&mut self) {
        wait_for_agents(&mut self.cluster);
        wait_for_webhook(&self.cluster);
        let overlay = |vni: u32, port: u16, subnet: &str| {
            json!({
                "cniVersion": "1.1.0", "type": "vxlan", "vni": vni, "port": port, "ipam": {"type": "blocks", "subnet": subnet},
            })
        };
        self.define("lan", &lan(160));
        self.define("near", &overlay(4100, self.product.near, "10.61.0.0/24"));
        self.define("far", &overlay(4101, 4789, "10.62.0.0/24"));
    }

    /// Stores a definition.
    pub fn define(&self, name: &str, config: &Value) {
        let object = definition(SHOP, name, &config.to_string());
        wait::until("definition that is stored", PATIENCE, || {
            self.api.apply(&object).map_err(|refusal| refusal.to_string())
        });
    }

    /// Takes a definition away.
    pub fn undefine(&self, name: &str) {
        let kind = "network-attachment-definitions";
        self.api.delete(&format!("/apis/k8s.cni.cncf.io/v1/namespaces/{SHOP}/{kind}/{name}")).unwrap();
    }

    /// Waits until our agents say that pods get what they ask for.
    pub fn agents_are_ready(&mut self) {
        wait_for_agents(&mut self.cluster);
    }

    fn names(&self) -> Vec<String> {
        self.cluster.nodes().iter().map(|node| node.name().to_owned()).collect()
    }

    fn each<T>(&self, ask: impl Fn(&Self, &Node) -> T) -> Vec<T> {
        self.cluster.nodes().iter().map(|node| ask(self, node)).collect()
    }

    pub fn node(&self, name: &str) -> &Node {
        self.cluster.nodes().iter().find(|node| node.name() == name).unwrap()
    }

    fn path(name: &str) -> String {
        format!("/api/v1/namespaces/{SHOP}/pods/{name}")
    }

    /// Asks for a pod that serves its own name.
    pub fn ask_for(&self, name: &str, node: &str, networks: &str, has_port: bool) {
        let mut object = pod(SHOP, name, Some(node));
        object["metadata"]["labels"] = json!({"app": "web", "pod": name});
        let serve = format!("mkdir -p /www && hostname > /www/index.html && exec busybox httpd -f -p {PORT} -h /www");
        object["spec"]["containers"][0]["command"] = json!(["busybox", "sh", "-c", serve]);
        if !networks.is_empty() {
            object["metadata"]["annotations"][NETWORKS] = json!(networks);
        }
        if has_port {
            object["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": NODE_PORT}]);
        }
        self.api.apply(&object).unwrap();
    }

    /// A pod that serves its own name, when it is ready.
    pub fn make(&self, name: &str, node: &str, networks: &str, has_port: bool) -> Value {
        self.ask_for(name, node, networks, has_port);
        let pod = ready(&self.api, SHOP, name);
        if networks.is_empty() {
            return pod;
        }
        wait::until(&format!("status of pod {name}"), PATIENCE, || {
            let pod = self.api.get(&Self::path(name)).map_err(|refusal| refusal.to_string())?;
            if status_of(&pod).is_some() { Ok(pod) } else { Err(pod["metadata"].to_string()) }
        })
    }

    /// Waits for an event of a pod, by a part of its text.
    pub fn event(&self, name: &str, part: &str) {
        wait::until(&format!("event {part:?}"), PATIENCE, || {
            let events = events(&self.api, SHOP, name);
            if events.contains(part) { Ok(()) } else { Err(events) }
        });
    }

    /// Waits for an event of a node, by its reason and a part of its text.
    pub fn node_event(&self, node: &str, reason: &str, part: &str) {
        wait::until(&format!("event {reason} of {node}"), PATIENCE, || {
            let events = self
                .api
                .list(&format!("/api/v1/events?fieldSelector=involvedObject.kind=Node,involvedObject.name={node}"));
            let is_it = |event: &&Value| {
                event["reason"] == reason && event["message"].as_str().is_some_and(|text| text.contains(part))
            };
            events.iter().find(is_it).map(drop).ok_or_else(|| format!("{events:?}"))
        });
    }

    /// Waits until a pod is ready.
    pub fn ready(&self, name: &str) {
        ready(&self.api, SHOP, name);
    }

    pub fn delete(&self, name: &str) {
        self.api.delete(&Self::path(name)).unwrap();
        gone(&self.api, &Self::path(name));
    }

    /// Addresses of a pod: of eth0, and of its further networks.
    pub fn addresses(&self, name: &str) -> Vec<String> {
        let pod = self.api.get(&Self::path(name)).unwrap();
        let mut all = vec![pod["status"]["podIP"].as_str().unwrap().to_owned()];
        for entry in status_of(&pod).unwrap_or_default().iter().skip(1) {
            all.push(entry["ips"][0].as_str().unwrap().to_owned());
        }
        all
    }

    /// What eth0 of a pod is, with what differs between two pods of a node left out.
    pub fn eth0(&self, pod: &str, node: &Node) -> Vec<String> {
        let own = &self.addresses(pod)[0];
        let ask = |line: &str| self.tries(pod, line).unwrap();
        let link = ask("ip -o link show eth0");
        let mtu = link.split("mtu ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let mut all = vec![format!("mtu {mtu}")];
        for line in ask("ip -4 addr show eth0").lines().filter(|line| line.trim().starts_with("inet ")) {
            all.push(line.trim().replace(own, "OWN"));
        }
        // The further networks' own are not eth0's.
        let routes = ask("ip route");
        all.extend(routes.lines().filter(|line| line.contains("dev eth0")).map(|line| line.trim().replace(own, "OWN")));
        all.extend(ask("ip rule").lines().map(str::to_owned));
        all.push(node.pod_subnet());
        all
    }

    /// What on a node is the product's alone.
    fn own_of(&self, node: &Node) -> BTreeSet<String> {
        let lines = |question: &&str| {
            let said = node.space().run(question);
            said.lines().map(|line| format!("{question}: {}", line.trim())).collect::<Vec<_>>()
        };
        self.product.own.iter().flat_map(lines).collect()
    }

    /// What there is of a node once no pod's link is.
    pub fn settled(&self, node: &Node) -> Snapshot {
        wait::until("node without pods", PATIENCE, || {
            let now = snapshot(&self.api, node);
            // Cilium's begin with lxc.
            let is_pods = |line: &&String| line.starts_with("link veth") || line.starts_with("link lxc");
            match now.iter().find(is_pods) {
                Some(link) => Err(link.clone()),
                None => Ok(now),
            }
        })
    }

    /// Pods with three networks on both nodes; everything that a user sees of eth0 is as without us.
    pub fn pods_with_three_networks(&self) {
        let has_port = self.product.has_host_ports;
        for node in self.names() {
            self.make(&format!("new-{node}"), &node, THREE, has_port);
        }
        for (node, plain) in self.cluster.nodes().iter().zip(&self.plain) {
            assert_eq!(&self.eth0(&format!("new-{}", node.name()), node), plain, "eth0 on {}", node.name());
        }
        self.held("eth0 as without us");
        self.serves("new-n1", "new-n2");
        self.serves("new-n2", "old-n1");
        self.serves("old-n1", "new-n2");
        self.held("pods and Services over two nodes");
        for pod in ["new-n1", "new-n2", "old-n2"] {
            self.resolves(pod);
        }
        self.held("DNS");
        for address in &self.addresses("new-n2")[2..] {
            self.soon("echo by an overlay", || self.pings("new-n1", address));
        }
        self.held(&format!("bridge, overlays on ports {} and 4789", self.product.near));
        if has_port {
            self.serves_at_the_node("new-n1", "n1", "new-n2");
            self.held("`hostPort`");
        }
        self.own_is_as_before();
    }

    /// Nothing of the product has changed.
    pub fn own_is_as_before(&self) {
        for (node, own) in self.cluster.nodes().iter().zip(&self.own) {
            let now = self.own_of(node);
            let lost: Vec<_> = own.difference(&now).collect();
            let more: Vec<_> = now.difference(own).collect();
            assert!(lost.is_empty() && more.is_empty(), "{}: - {lost:#?} + {more:#?}", node.name());
        }
        self.held("its own devices, routes and files unchanged");
    }

    /// The product's daemons end and start again, and so do our agents: in one order and in the other.
    pub fn both_restart_in_both_orders(&mut self) {
        for product_first in [true, false] {
            if product_first {
                self.restart_product();
            }
            for node in self.cluster.nodes() {
                node.space().run("busybox killall -9 meta-cnid");
            }
            if !product_first {
                self.restart_product();
            }
            wait_for_agents(&mut self.cluster);
            self.make("again", "n1", THREE, false);
            self.serves("again", "new-n2");
            self.serves("new-n1", "new-n2");
            for address in &self.addresses("new-n2")[2..] {
                self.soon("echo by an overlay", || self.pings("again", address));
            }
            self.delete("again");
        }
        let has_daemons = !self.daemons.is_empty();
        self.held(if has_daemons { "both killed, in both orders" } else { "our agents killed" });
    }

    /// Takes every plugin from the nodes but ours and the runtime's `lo`, or brings them back.
    pub fn hide_plugins(&self, is_hidden: bool) {
        for node in self.cluster.nodes() {
            let dir = node.file("/opt/cni/bin");
            for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                let other = match name.strip_suffix(".hidden") {
                    Some(shown) if !is_hidden => shown.to_owned(),
                    None if is_hidden && !["loopback", "meta-cni"].contains(&name.as_str()) => format!("{name}.hidden"),
                    _ => continue,
                };
                fs::rename(entry.path(), dir.join(other)).unwrap();
            }
        }
        self.held("our built-in types alone");
    }

    /// A policy that nobody passes ends what comes by eth0, and nothing else: further networks are not the default network's.
    pub fn a_policy_holds_on_eth0(&self) {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": SHOP, "name": "closed"},
            "spec": {"podSelector": {"matchLabels": {"pod": "new-n2"}}, "policyTypes": ["Ingress"]},
        });
        let addresses = self.addresses("new-n2");
        self.api.apply(&policy).unwrap();
        wait::until("policy that holds", PATIENCE, || match self.page("new-n1", &addresses[0], PORT) {
            Err(_) => Ok(()),
            Ok(page) => Err(page),
        });
        for address in &addresses[2..] {
            self.pings("new-n1", address).unwrap();
        }
        self.api.delete(&format!("/apis/networking.k8s.io/v1/namespaces/{SHOP}/networkpolicies/closed")).unwrap();
        wait::until("policy that is gone", PATIENCE, || self.page("new-n1", &addresses[0], PORT));
        self.held("NetworkPolicy on eth0");
    }

    /// A signal to the product's daemons.
    pub fn signal_product(&self, signal: Signal) {
        self.daemons.iter().for_each(|daemon| daemon.signal(signal));
    }

    /// SIGKILL to the product's daemons.
    pub fn end_product(&mut self) {
        self.daemons.drain(..).for_each(Service::kill);
    }

    /// Starts the product's daemons.
    pub fn start_product(&mut self) {
        self.daemons = self.cluster.nodes().iter().flat_map(self.product.start).collect();
    }

    fn restart_product(&mut self) {
        self.end_product();
        self.start_product();
    }

    /// Every pod goes, those from before our installation too; then ours: each node is as it was, and takes pods.
    pub fn goes(self) {
        for node in self.names() {
            self.delete(&format!("old-{node}"));
            self.delete(&format!("new-{node}"));
        }
        ["lan", "near", "far"].iter().for_each(|network| self.undefine(network));
        uninstall(&self.cluster);
        for (node, before) in self.cluster.nodes().iter().zip(&self.before) {
            as_before(&self.api, node, before);
            assert!(!fs::exists(node.file("/etc/cni/net.d/00-meta-cni.conflist")).unwrap());
            self.make(&format!("after-{}", node.name()), node.name(), "", false);
        }
        self.serves("after-n1", "after-n2");
        self.held("pods from before deleted; uninstalled, each node as before");
        self.passed();
    }
}
