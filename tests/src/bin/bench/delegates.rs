//! Each delegate by itself: built in, beside the reference plugin of the same type. What the host's kernel lacks is
//! measured in User Mode Linux, by this same program started there.

use std::path::Path;

use meta_cni_tests::program;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contender::{Contender, Way};
use crate::measure::Costs;
use crate::pods::in_turns;
use crate::scene::{Scene, blocks, bridge, host_local};
use meta_cni_tests::pages;
use meta_cni_tests::report::{Row, Table, ms, times};

/// Which kernel a delegate is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The machine's.
    Host,
    /// User Mode Linux, for drivers that the machine's may lack.
    Uml,
}

/// A page of docs/delegates and the attachment that its line is about.
struct Case {
    page: &'static str,
    /// The attachment in words.
    what: &'static str,
    scene: Scene,
    kernel: Kernel,
    /// False where the reference plugins have none of that type.
    has_reference: bool,
    /// What stands beside it in place of a reference plugin: another delegate of ours in the same scene, in turns.
    beside: Option<(&'static str, Scene)>,
}

/// One delegate's measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    page: String,
    what: String,
    uml: bool,
    count: usize,
    built_in: Pair,
    executing: Option<Pair>,
    reference: Option<Pair>,
    #[serde(default)]
    beside: Option<(String, Pair)>,
}

/// ADD and DEL.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Pair {
    add: Row,
    del: Row,
}

fn cases() -> Vec<Case> {
    let simple = || bridge("br0", host_local(0));
    let with = |first: Value, behind: Value| Scene::alone(vec![first, behind]);
    let on_link = |lines: &[&str], plugin: Value| Scene {
        node: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Scene::alone(vec![plugin])
    };
    let veth = ["ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"];
    let dummy = ["ip link add up0 type dummy", "ip link set up0 up"];
    let underlay = [&veth[..], &["ip address add 192.0.2.1/24 dev up0"]].concat();
    let fixed = json!({"type": "static", "addresses": [{"address": "10.80.0.9/16", "gateway": "10.80.0.1"}]});
    let limits = json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000});
    let portmap = json!({"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}});
    let mapped = Scene {
        runtime: json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}),
        ..with(simple(), portmap)
    };
    let subnet = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    let flannel = Scene {
        files: vec![("subnet.env", subnet)],
        ..Scene::alone(vec![
            json!({"type": "flannel", "subnetFile": "$dir/subnet.env", "dataDir": "$dir/flannel", "delegate": {"isDefaultGateway": true}, "ipam": {"dataDir": "$dir/addresses"}}),
        ])
    };
    let table: Vec<(&str, &str, Scene)> = vec![
        ("bridge", "a bridge that is the gateway, host-local", Scene::alone(vec![simple()])),
        ("host-local", "a bridge that is the gateway, with it", Scene::alone(vec![simple()])),
        ("blocks", "a bridge that is the gateway, with it", Scene::alone(vec![bridge("br0", blocks())])),
        ("static", "a bridge that is the gateway, with it", Scene::alone(vec![bridge("br0", fixed)])),
        ("macvlan", "host-local", on_link(&veth, json!({"type": "macvlan", "master": "up0", "ipam": host_local(0)}))),
        ("ptp", "host-local", Scene::alone(vec![json!({"type": "ptp", "ipam": host_local(0)})])),
        (
            "host-device",
            "one end of a veth, host-local",
            on_link(&veth, json!({"type": "host-device", "device": "up0", "ipam": host_local(0)})),
        ),
        ("loopback", "alone", Scene::alone(vec![json!({"type": "loopback"})])),
        ("portmap", "behind a bridge with host-local, one port", mapped),
        (
            "tuning",
            "behind a bridge with host-local, one setting",
            with(
                simple(),
                json!({"type": "tuning", "dataDir": "$dir/tuning", "sysctl": {"net.core.somaxconn": "500"}}),
            ),
        ),
        ("bandwidth", "behind a bridge with host-local, both ways", with(simple(), limits)),
        ("sbr", "behind a bridge with host-local", with(simple(), json!({"type": "sbr"}))),
        (
            "vlan",
            "on a dummy link, host-local",
            on_link(&dummy, json!({"type": "vlan", "master": "up0", "vlanId": 100, "ipam": host_local(0)})),
        ),
        (
            "ipvlan",
            "on a dummy link, host-local",
            on_link(&dummy, json!({"type": "ipvlan", "master": "up0", "ipam": host_local(0)})),
        ),
        ("dummy", "host-local", Scene::alone(vec![json!({"type": "dummy", "ipam": host_local(0)})])),
        ("vrf", "behind a bridge with host-local", with(simple(), json!({"type": "vrf", "vrfname": "blue"}))),
        (
            "vxlan",
            "the only pod of its overlay on the node, host-local",
            on_link(
                &underlay,
                json!({"type": "vxlan", "vni": 4200, "underlay": "192.0.2.0/24", "peers": ["192.0.2.2"], "ipam": host_local(0)}),
            ),
        ),
        ("flannel", "handed on to bridge", flannel),
    ];
    let case = |(page, what, scene)| Case {
        page,
        what,
        scene,
        kernel: if ["vlan", "ipvlan", "dummy", "vrf"].contains(&page) { Kernel::Uml } else { Kernel::Host },
        has_reference: !["blocks", "vxlan", "flannel"].contains(&page),
        beside: (page == "blocks").then(|| ("host-local", Scene::alone(vec![simple()]))),
    };
    table.into_iter().map(case).collect()
}

/// The pages that a line is measured for.
pub fn page_names() -> Vec<&'static str> {
    cases().iter().map(|case| case.page).collect()
}

/// Those of one kernel, or the one of a page.
fn chosen(kernel: Kernel, page: Option<&str>) -> impl Iterator<Item = Case> {
    cases().into_iter().filter(move |case| case.kernel == kernel && page.is_none_or(|page| page == case.page))
}

/// Is there something to measure on a kernel?
pub fn has(kernel: Kernel, page: Option<&str>) -> bool {
    chosen(kernel, page).next().is_some()
}

/// Measures the delegates of one kernel, on which this runs.
pub fn measure(count: usize, kernel: Kernel, page: Option<&str>, dir: &Path) -> Vec<Line> {
    chosen(kernel, page).map(|case| line(&case, count, dir)).collect()
}

fn line(case: &Case, count: usize, dir: &Path) -> Line {
    let all = [Way::BuiltIn, Way::Executing, Way::Reference];
    let ways = if case.has_reference { &all[..] } else { &all[..1] };
    let beside = case.beside.iter().map(|(_, scene)| (Way::BuiltIn, scene));
    let all = ways.iter().map(|way| (*way, &case.scene)).chain(beside);
    let contenders: Vec<Contender> = all.map(|(way, scene)| Contender::new(way, scene, dir)).collect();
    let costs = in_turns(&contenders, 0, count, None);
    let pair = |i: usize| {
        costs.get(i).map(|costs| {
            let Costs { add, del, .. } = Costs::of(costs);
            Pair { add, del }
        })
    };
    let (executing, reference) = if case.has_reference { (pair(1), pair(2)) } else { (None, None) };
    let beside = case.beside.as_ref().and_then(|(what, _)| Some(((*what).to_owned(), pair(ways.len())?)));
    Line {
        page: case.page.to_owned(),
        what: case.what.to_owned(),
        uml: case.kernel == Kernel::Uml,
        count,
        built_in: pair(0).unwrap(),
        executing,
        reference,
        beside,
    }
}

/// Those of User Mode Linux, measured by this program inside it.
pub fn measure_in_uml(count: usize, page: Option<&str>, dir: &Path) -> Vec<Line> {
    let json = dir.join("uml.json");
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("uml/run");
    let mut command = program::command(runner);
    command.args(["-t", "300"]).arg(std::env::current_exe().unwrap());
    command.args(["--only", "uml", "--delegates", &count.to_string(), "--json"]).arg(&json);
    command.args(page.iter().flat_map(|page| ["--page", *page]));
    let output = command.output().unwrap();
    let words = || format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the bench in User Mode Linux failed: {}", words());
    let text = std::fs::read(&json).unwrap();
    let results: Value = serde_json::from_slice(&text).unwrap();
    serde_json::from_value(results["delegates"].clone()).unwrap()
}

/// All of them in one table.
pub fn table(lines: &[Line]) -> (String, Table) {
    let mut table =
        Table::new(["ms, p50", "built-in ADD", "DEL", "executed ADD", "DEL", "reference plugin ADD", "DEL"]);
    for line in lines {
        let cells = |pair: Option<Pair>| match pair {
            Some(pair) => [ms(pair.add.p50_ms), ms(pair.del.p50_ms)],
            None => ["-".to_owned(), "-".to_owned()],
        };
        let [a, b] = cells(Some(line.built_in));
        let [c, d] = cells(line.executing);
        let [e, f] = cells(line.reference);
        let name = format!("{}{}", line.page, if line.uml { " (User Mode Linux)" } else { "" });
        table.row([name, a, b, c, d, e, f]);
    }
    ("One network, one delegate".to_owned(), table)
}

impl Line {
    /// The sentence of its page.
    fn sentence(&self) -> String {
        let Self { what, count, built_in, .. } = self;
        let own = format!("ADD {} ms, DEL {} ms", ms(built_in.add.p50_ms), ms(built_in.del.p50_ms));
        let beside = match (&self.reference, &self.executing) {
            (Some(theirs), Some(executed)) => format!(
                "; the reference plugins v1.9.1 alone {} and {} ms ({} and {} times as long), executed by meta-cni {} and {} ms",
                ms(theirs.add.p50_ms),
                ms(theirs.del.p50_ms),
                times(theirs.add.p50_ms, built_in.add.p50_ms),
                times(theirs.del.p50_ms, built_in.del.p50_ms),
                ms(executed.add.p50_ms),
                ms(executed.del.p50_ms),
            ),
            _ => "; there is no reference plugin of this type".to_owned(),
        };
        let in_turns = self.beside.as_ref().map(|(what, pair)| {
            format!(", {what} in its place, in turns with it, {} and {} ms", ms(pair.add.p50_ms), ms(pair.del.p50_ms))
        });
        let own = format!("{own}{}", in_turns.unwrap_or_default());
        let place = if self.uml { ", in User Mode Linux with its files in memory" } else { "" };
        format!(
            "Measured ({what}; whole processes, p50 of {count} pods in one run{place}): {own}{beside}. \
             [How to repeat it](../performance.md)."
        )
    }

    /// Writes the sentence into its page below `docs`.
    pub fn put(&self, docs: &Path) -> Result<(), String> {
        pages::put(&docs.join(format!("delegates/{}.md", self.page)), "measured", &self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `passthru` makes nothing, `whereabouts` is read as blocks, what `dhcp` takes is its server's time, and the others have no program
    /// among the reference plugins.
    const UNMEASURED: [&str; 6] = ["bond", "dhcp", "passthru", "route-override", "tap", "whereabouts"];

    #[test]
    fn every_delegate_has_a_page_with_a_place_for_its_line_and_the_other_way_round() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/delegates");
        let pages = std::fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().path());
        let mut pages: Vec<String> = pages.map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        pages.retain(|page| !UNMEASURED.contains(&page.as_str()));
        pages.sort();
        let mut measured: Vec<&str> = cases().iter().map(|case| case.page).collect();
        measured.sort_unstable();
        assert_eq!(measured, pages);
        for page in pages {
            let text = std::fs::read_to_string(docs.join(format!("{page}.md"))).unwrap();
            assert_eq!(text.matches("<!-- bench: measured -->\n").count(), 1, "{page}");
        }
    }

    #[test]
    fn a_line_compares_or_says_that_there_is_nothing_to_compare_with() {
        let pair = |add, del| Pair { add: Row { p50_ms: add, p95_ms: add }, del: Row { p50_ms: del, p95_ms: del } };
        let mut line = Line {
            page: "vlan".to_owned(),
            what: "alone".to_owned(),
            uml: true,
            count: 30,
            built_in: pair(2.0, 20.0),
            executing: Some(pair(12.0, 50.0)),
            reference: Some(pair(10.0, 40.0)),
            beside: None,
        };
        let sentence = line.sentence();
        assert!(sentence.contains("ADD 2.00 ms, DEL 20.0 ms; the reference plugins"), "{sentence}");
        assert!(sentence.contains("(5.0 and 2.0 times as long)") && sentence.contains("User Mode"), "{sentence}");
        (line.reference, line.uml) = (None, false);
        assert!(line.sentence().contains("no reference plugin of this type"));
        line.beside = Some(("host-local".to_owned(), pair(2.1, 20.1)));
        let sentence = line.sentence();
        assert!(
            sentence.contains("DEL 20.0 ms, host-local in its place, in turns with it, 2.10 and 20.1 ms;"),
            "{sentence}"
        );
    }
}
