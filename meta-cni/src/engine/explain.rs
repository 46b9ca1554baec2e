//! What an ADD would do for a pod, without doing it: the engine's own steps up to the first that touches anything. Where an ADD ends
//! with the first thing that is wrong, this goes on and tells them all.

use std::path::PathBuf;

use attachments::bind::{Attachment, Bound};
use attachments::cni::object::Object;
use attachments::cni::version::Version;
use attachments::finding::Finding;
use attachments::names::{NetRef, NetworkName, PodRef};
use attachments::selection::{NetworkSelection, Selection};
use delegates::builtin::HostPorts;
use delegates::call::Node;
use delegates::host::Host;

use super::chain::Chain;
use super::path_roots::hold_to_roots;
use super::policies;
use super::resolve::{NodeNetworks, ignored, reserved};
use super::run::Run;
use crate::cluster::{Facts, Query};
use crate::fault::{Fault, Result};
use crate::node;
use crate::request::{CniRequest, Operation, Target};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The node's configuration, as the runtime hands it to the plugin.
    pub conf: Object,
    /// CNI_PATH.
    pub path: Vec<PathBuf>,
    /// The pod.
    pub pod: PodRef,
    /// True on the node itself: programs, links and ports are looked at too.
    pub is_here: bool,
}

/// What the pod would get.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// The networks in the order of ADD; without those that cannot be bound.
    pub networks: Vec<ExplainedNetwork>,
    /// Why an ADD would fail, everything.
    pub refusals: Vec<Refusal>,
    /// What levels and policies warn of, and what is passed over.
    pub warnings: Vec<String>,
    /// What the pod asks for and does not get.
    pub unmet: Vec<String>,
}

/// One network.
#[derive(Clone, Debug)]
pub struct ExplainedNetwork {
    /// The attachment, with every choice made.
    pub attachment: Attachment,
    /// Where the pod asks for it; none for what the node gives to every pod.
    pub element: Option<String>,
    /// For each plugin of the chain: does it run in process?
    pub in_process: Vec<bool>,
}

/// Why an ADD would fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The part of the pod's annotation; none where it is about all of it.
    pub element: Option<String>,
    /// The CNI code of the ADD.
    pub code: u32,
    /// The message of the ADD.
    pub message: String,
}

impl Explained {
    fn refuse(&mut self, element: Option<&str>, fault: &Fault) {
        let refusal = Refusal { element: element.map(str::to_owned), code: fault.code(), message: fault.to_string() };
        // One definition that is named twice is refused once for each.
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }
}

/// Answers. An error is one of the node's configuration or of its source of facts; what is wrong with the pod's networks is in the
/// answer.
pub fn explain(question: &Question) -> Result<Explained> {
    let request = request(question)?;
    let Operation::Add(target) = &request.operation else { return Err(Fault::Bug("no ADD".to_owned())) };
    let run = Run::of(&request)?;
    let pod = &question.pod;
    let networks = NodeNetworks::read(&run)?;
    let nodes_own = networks.references()?;
    let query = networks.query(Some(pod), &[], &nodes_own);
    let mut facts = networks.resolve(&Query { annotations: true, policies: true, ..query })?;
    let annotations = facts.annotations.take().unwrap_or_default();
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    let (mut selection, findings) =
        Selection::read(annotation, &pod.namespace, &run.conf.multus_namespace, &run.conf.dialects);

    let mut explained = Explained::default();
    explained.warnings.extend(selection.ignored.map(ignored));
    if selection.translated.as_ref().is_some_and(|translated| translated.is_open) {
        let says =
            "cni: blank, so the node chooses the least busy network when the pod starts; it is written to the pod then";
        explained.unmet.push(says.to_owned());
    }
    for finding in findings {
        explained.refuse(None, &finding.into());
    }
    networks.name_definitions(pod, &mut selection, &mut facts)?;
    let selection = networks.settle(pod, target, selection, &mut facts).unwrap_or_else(|fault| {
        explained.refuse(None, &fault);
        Selection::default()
    });
    let binding = Binding { networks: &networks, pod, target };
    let (placed, bound) = binding.bind(&selection, &mut facts, &mut explained)?;
    // Of a definition that is not there nobody knows what it is refused for.
    let is_there = |reference: &NetRef| facts.definitions.contains_key(reference);
    let judged: Vec<(String, &NetworkSelection)> = selection
        .placed_elements()
        .filter(|_| selection.is_pods_own())
        .filter(|(_, one)| one.target.definition().is_none_or(is_there))
        .collect();
    match policies::verdict(run.conf.level, pod, &judged, &nodes_own, &facts) {
        Ok(verdict) => {
            verdict.refusals.into_iter().for_each(|refusal| explained.refuse(None, &Fault::Config(refusal)));
            explained.warnings.extend(verdict.warnings);
        }
        Err(fault) => explained.refuse(None, &fault),
    }
    if let Err(fault) = hold_to_roots(&bound.paths, &run.conf.path_roots) {
        explained.refuse(None, &fault);
    }
    let reserved = reserved(&run, &bound, facts.node);
    let node = Node { reserved: &reserved, ..run.node(None) };
    let elements = elements(bound.attachments.len(), &placed, networks.auxiliaries());
    judge_chains(&run, question, &node, &bound, &elements, &mut explained);
    explained.warnings.extend(bound.warnings);
    explained.unmet.extend(bound.unmet);
    explained.networks = bound
        .attachments
        .into_iter()
        .zip(elements)
        .map(|(attachment, element)| {
            let in_process = attachment.plugins.iter().map(|plugin| super::chain::is_in_process(plugin, &node));
            ExplainedNetwork { in_process: in_process.collect(), element, attachment }
        })
        .collect();
    Ok(explained)
}

fn request(question: &Question) -> Result<CniRequest> {
    let wrong = |finding: Finding| Fault::Bug(finding.to_string());
    let conf = node::spelled(question.conf.clone())?;
    let network = conf.parsed::<NetworkName>("name", NetworkName::ALLOWED)?;
    let PodRef { namespace, name, .. } = &question.pod;
    let args = [("K8S_POD_NAMESPACE", namespace.as_str()), ("K8S_POD_NAME", name.as_str())];
    let target = Target {
        container: "explained".parse().map_err(wrong)?,
        netns: String::new(),
        ifname: "eth0".parse().map_err(wrong)?,
        args: args.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    Ok(CniRequest {
        operation: Operation::Add(target),
        path: question.path.clone(),
        network: network.ok_or_else(|| Finding::missing("name", NetworkName::ALLOWED))?,
        version: Version::NEWEST,
        conf,
    })
}

struct Binding<'a> {
    networks: &'a NodeNetworks<'a>,
    pod: &'a PodRef,
    target: &'a Target,
}

impl Binding<'_> {
    /// Binds everything. Where that fails, each element alone tells what is wrong with it, and those that can be bound are, under the
    /// names that they have among all. Also where each of those is in the pod.
    fn bind(&self, selection: &Selection, facts: &mut Facts, explained: &mut Explained) -> Result<(Placed, Bound)> {
        let all = match self.networks.bind(self.pod, self.target, selection, facts) {
            Ok(bound) => return Ok((Placed::of(selection), bound)),
            Err(fault) => fault,
        };
        let nodes = self.networks.bind(self.pod, self.target, &Selection::default(), facts)?;
        let own = nodes.attachments.len() - self.networks.auxiliaries();
        let Placed { default, networks } = Placed::of(selection);
        let first = usize::from(selection.default_network.is_some());
        let mut left = Selection { translated: selection.translated.clone(), ..Selection::default() };
        let mut placed = Placed::default();
        let before = explained.refusals.len();
        if let (Some(wanted), Some(element)) = (&selection.default_network, default) {
            let alone = selection.alone(0);
            match self.networks.bind(self.pod, self.target, &alone, facts) {
                Ok(_) => (left.default_network, placed.default) = (Some(wanted.clone()), Some(element)),
                Err(fault) => explained.refuse(Some(&element), &fault),
            }
        }
        for (i, (wanted, element)) in selection.networks.iter().zip(networks).enumerate() {
            let mut wanted = wanted.clone();
            if wanted.interface.is_none() {
                wanted.interface = format!("net{}", own + i).parse().ok();
            }
            let mut alone = selection.alone(first + i);
            alone.networks = vec![wanted.clone()];
            match self.networks.bind(self.pod, self.target, &alone, facts) {
                Ok(_) => {
                    left.networks.push(wanted);
                    placed.networks.push(element);
                }
                Err(fault) => explained.refuse(Some(&element), &fault),
            }
        }
        match self.networks.bind(self.pod, self.target, &left, facts) {
            Ok(bound) if explained.refusals.len() > before => Ok((placed, bound)),
            // What is wrong only with all of them together is said in the ADD's own words.
            _ => {
                explained.refuse(None, &all);
                Ok((Placed::default(), nodes))
            }
        }
    }
}

/// Where in the pod each element is.
#[derive(Default)]
struct Placed {
    default: Option<String>,
    networks: Vec<String>,
}

impl Placed {
    fn of(selection: &Selection) -> Self {
        let mut all = selection.placed_elements().map(|(element, _)| element);
        let default = if selection.default_network.is_some() { all.next() } else { None };
        Self { default, networks: all.collect() }
    }
}

/// The same for each of `count` attachments: the pod's default network is the first, its networks are the last but `behind`.
fn elements(count: usize, placed: &Placed, behind: usize) -> Vec<Option<String>> {
    let first = count.saturating_sub(behind + placed.networks.len());
    let each = |i: usize| match i.checked_sub(first) {
        Some(nth) => placed.networks.get(nth).cloned(),
        None => placed.default.clone().filter(|_| i == 0),
    };
    (0..count).map(each).collect()
}

/// What every chain's own configuration is refused for; on the node also what the node keeps.
fn judge_chains(
    run: &Run<'_>,
    question: &Question,
    node: &Node<'_>,
    bound: &Bound,
    elements: &[Option<String>],
    explained: &mut Explained,
) {
    let Operation::Add(target) = &run.request.operation else { return };
    let intent = run.intent(target, Some(question.pod.clone()), bound.attachments.clone());
    let mut host = Host::new(node.clone());
    let mut ports = HostPorts::default();
    for (attachment, element) in intent.attachments.iter().zip(elements) {
        let chain = Chain::new(&intent, attachment, &intent.netns);
        let mut problems = chain.problems(node, question.is_here);
        if problems.is_empty() && question.is_here {
            let admitted = match chain.validate(node) {
                Ok(valid) if attachment.is_tenants => valid.admit(&mut host),
                valid => valid.map(drop),
            };
            problems.extend(admitted.err());
            problems.extend(chain.claim_ports(node, &mut ports).err());
        }
        problems.iter().for_each(|fault| explained.refuse(element.as_deref(), fault));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const NADS: &str = r#"
kind: NetworkAttachmentDefinition
metadata: {name: lan}
spec: {config: '{"cniVersion":"1.0.0","type":"bridge","bridge":"lan0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}'}
---
kind: NetworkAttachmentDefinition
metadata: {name: bad}
spec: {config: '{"cniVersion":"1.0.0","type":"vlan","master":"eth1","vlanId":9000}'}
---
kind: NetworkAttachmentDefinition
metadata: {name: cut}
spec: {config: '{"cniVersion":'}
"#;

    fn explained(dir: &Path, networks: &str, more: &str) -> Explained {
        let annotation = serde_json::to_string(networks).unwrap();
        let pod =
            format!("kind: Pod\nmetadata: {{name: p, annotations: {{k8s.v1.cni.cncf.io/networks: {annotation}}}}}\n");
        fs::write(dir.join("all.yaml"), format!("{NADS}---\n{pod}---\n{more}")).unwrap();
        explain_with(dir, "")
    }

    /// The pod `p` of the directory, on a node with further keys.
    fn explain_with(dir: &Path, keys: &str) -> Explained {
        let conf = format!(
            r#"{{"cniVersion":"1.1.0","name":"node","delegates":[{{"name":"d","type":"ptp","ipam":{{"type":"host-local","subnet":"10.8.0.0/24"}}}}],"cluster":{{"directory":{:?}}},"stateDir":{:?}{keys}}}"#,
            dir,
            dir.join("state")
        );
        explain(&Question {
            conf: Object::parse(conf.as_bytes()).unwrap(),
            path: Vec::new(),
            pod: PodRef { namespace: "default".parse().unwrap(), name: "p".parse().unwrap(), uid: None },
            is_here: false,
        })
        .unwrap()
    }

    fn names(explained: &Explained) -> Vec<String> {
        let one = |network: &ExplainedNetwork| {
            let element = network.element.as_deref().and_then(|element| element.rsplit('[').next());
            format!("{} {} {}", network.attachment.ifname, network.attachment.source, element.unwrap_or("node"))
        };
        explained.networks.iter().map(one).collect()
    }

    #[test]
    fn what_can_be_bound_keeps_its_name_beside_what_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let all = explained(dir.path(), "lan, lan@up1", "");
        assert_eq!(names(&all), ["eth0 d node", "net1 default/lan 0]", "up1 default/lan 1]"]);
        assert_eq!((all.refusals.as_slice(), all.networks[1].in_process.as_slice()), (&[][..], &[true][..]));
        let some = explained(dir.path(), "gone, lan, cut, lan", "");
        assert_eq!(names(&some)[1..], ["net2 default/lan 1]", "net4 default/lan 3]"]);
        let said: Vec<(u32, &str)> = some.refusals.iter().map(|one| (one.code, one.message.as_str())).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], (11, "cannot find a network-attachment-definition (gone) in namespace (default)"));
        assert!(some.refusals[1].element.as_deref().unwrap().ends_with("networks][2]"));
        assert!(!dir.path().join("state").exists(), "nothing is written");
    }

    #[test]
    fn every_network_that_an_add_would_refuse_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let all = explained(dir.path(), "bad, lan, bad", "");
        assert_eq!(all.refusals.len(), 2, "{:?}", all.refusals);
        assert!(all.refusals[0].message.contains("vlanId"), "{:?}", all.refusals);
        assert!(all.refusals[1].element.as_deref().unwrap().ends_with("[2]"));
        let one_name = explained(dir.path(), "lan@a1, lan@a1", "");
        assert_eq!((one_name.refusals.len(), names(&one_name).len()), (1, 1), "{:?}", one_name.refusals);
    }

    #[test]
    fn a_pod_of_a_dialect_is_explained_by_its_files_and_objects() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let file =
            r#"{"cniVersion":"1.0.0","name":"w","type":"ptp","ipam":{"type":"host-local","subnet":"10.7.0.0/16"}}"#;
        fs::create_dir(path("net.d")).unwrap();
        fs::write(path("net.d/10-weave.conf"), file).unwrap();
        let more = format!(r#","dialects":["genie"],"runtimeConfDir":{:?}"#, path("net.d"));
        let of = |annotations: &str| {
            let logical = "kind: Logicalnetwork\napiVersion: alpha.network.k8s.io/v1\nmetadata: {name: net1}\nspec: {plugin: weave, sub_subnet: 10.7.9.0/24}\n";
            let pod = format!("kind: Pod\nmetadata: {{name: p, annotations: {annotations}}}\n");
            fs::write(path("all.yaml"), format!("{NADS}---\n{logical}---\n{pod}")).unwrap();
            explain_with(dir.path(), &more)
        };
        let listed = of(r#"{cni: "weave@eth3,weave"}"#);
        assert_eq!(names(&listed), ["eth0 w 1]", "eth3 w 0]"]);
        let from = |explained: &Explained, i: usize| explained.networks[i].attachment.translated.clone().unwrap().from;
        assert_eq!((from(&listed, 0).as_str(), listed.refusals.len()), ("file 10-weave.conf", 0));
        let logical = of(r#"{cni: "", networks: net1}"#);
        assert_eq!(from(&logical, 0), "Logicalnetwork default/net1, file 10-weave.conf");
        let some = of(r#"{cni: "weave,gone,weave"}"#);
        assert_eq!(names(&some), ["eth0 w 0]", "eth2 w 2]"]);
        assert!(some.refusals[0].message.starts_with("cni[1]: no configuration named \"gone\""), "{:?}", some.refusals);
        let beside = of(r#"{cni: weave, k8s.v1.cni.cncf.io/networks: lan}"#);
        assert_eq!(names(&beside), ["eth0 d node", "net1 default/lan 0]"]);
        assert!(beside.warnings[0].contains("annotation cni counts for nothing"), "{:?}", beside.warnings);
        assert!(of(r#"{cni: ""}"#).unmet[0].contains("least busy"));
    }

    #[test]
    fn a_pod_of_ports_is_explained_by_the_definitions_that_have_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let public = NADS.replace("{name: lan}", "{name: net-api, namespace: admin, annotations: {meta-cni.io/knitter-name: net_api, meta-cni.io/knitter-public: 'true'}}");
        let of = |ports: &str| {
            let annotation = serde_json::to_string(&format!(r#"{{"ports":[{ports}]}}"#)).unwrap();
            let pod = format!("kind: Pod\nmetadata: {{name: p, annotations: {{networks: {annotation}}}}}\n");
            fs::write(dir.path().join("all.yaml"), format!("{NADS}---\n{public}---\n{pod}")).unwrap();
            explain_with(dir.path(), r#","dialects":["knitter"]"#)
        };
        let port = |network: &str, nic: &str| {
            format!(r#"{{"attach_to_network":"{network}","attributes":{{"nic_name":"{nic}"}}}}"#)
        };
        let all = of(&[port("lan", "med"), port("net_api", "eth0"), port("gone", "x")].join(","));
        assert_eq!(names(&all), ["eth0 admin/net-api 1]", "med default/lan 0]"]);
        let from = all.networks[0].attachment.translated.clone().unwrap();
        assert_eq!((from.dialect.as_str(), from.from.as_str()), ("knitter", "network \"net_api\""));
        let said = &all.refusals[0];
        assert_eq!((said.code, all.refusals.len()), (11, 1), "{:?}", all.refusals);
        assert!(
            said.message
                .starts_with("networks.ports[2].attach_to_network: no network-attachment-definition is \"gone\"")
        );
    }

    #[test]
    fn levels_and_policies_tell_everything_they_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let policy = "kind: AttachmentPolicy\nmetadata: {name: p}\nspec: {rules: [{name: r, select: \"$.config.plugins[*].bridge\", assert: {oneOf: [x]}}, {name: s, select: \"$.config.plugins[*].ipam.type\", assert: {oneOf: [y]}}]}\n";
        let all = explained(dir.path(), "lan", policy);
        let rules: Vec<bool> = all.refusals.iter().map(|one| one.message.contains("policy \"p\" rule")).collect();
        assert!(rules.len() >= 2 && rules.iter().all(|rule| *rule), "{:?}", all.refusals);
        assert_eq!(names(&all).len(), 2, "what is refused is shown all the same");
    }
}
