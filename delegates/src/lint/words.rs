//! What delegates say about their configuration, in the words of the rules.

use attachments::finding::Finding;

use super::document::{Node, quoted};
use super::keys::without_indexes;
use super::network::Plugin;
use super::{Kind, Problem};

/// One row: which findings it is about, and how it says them.
struct Row {
    rule: &'static str,
    /// A plugin's type, "ipam", or "" for any plugin.
    of: &'static str,
    /// The field without indexes, from its end.
    field: &'static str,
    /// How the delegate's words begin.
    from: &'static str,
    /// The rule's words; `{}` is the rest of the delegate's. Empty: the delegate's own.
    to: &'static str,
}

const fn row(rule: &'static str, of: &'static str, field: &'static str, from: &'static str, to: &'static str) -> Row {
    Row { rule, of, field, from, to }
}

/// The first row that fits.
const ROWS: [Row; 37] = [
    row("I01", "ipam", "ipam.ranges", "at least one range set", "set subnet or ranges"),
    row("I02", "ipam", "subnet", "a subnet with a prefix length", "must be CIDR, for example \"10.9.0.0/24\""),
    row("I02", "ipam", "subnet", "an IPv4 subnet in IPv4 notation", ""),
    row("I03", "ipam", "subnet", "no host bits: ", "host bits set, use \"{}\""),
    row("I04", "ipam", "subnet", "a prefix length of at most", "must leave at least 2 host bits"),
    row("I05", "ipam", "rangeStart", "an address in ", "must be inside {}"),
    row("I05", "ipam", "rangeEnd", "an address in ", "must be inside {}"),
    row("I06", "ipam", "rangeStart", "a start that is not behind the end ", "must not be above rangeEnd {}"),
    row("I06", "ipam", "rangeEnd", "a start that is not behind the end ", "must not be below rangeStart"),
    row("I07", "ipam", "", "no overlap with ipam.", "overlaps {}"),
    row("I07", "ipam", "", "no overlap with ", "overlaps {}"),
    row("I08", "ipam", "ranges", "one address family in a set", "one list per address family"),
    row("I09", "", "cniVersion", "0.3.0 or later", "must be \"0.3.0\" or later for more than one address of a family"),
    row("I10", "ipam", "gateway", "", ""),
    row(
        "I11",
        "ipam",
        "dst",
        "a destination with a prefix length",
        "must be CIDR, use \"0.0.0.0/0\" for a default route",
    ),
    row("I11", "ipam", "routes.gw", "", ""),
    row("I15", "ipam", "address", "an IP address with a prefix", "must include a prefix, for example \"10.9.0.7/24\""),
    row("N21", "macvlan", "mode", "", ""),
    row("N22", "ipvlan", "mode", "", ""),
    row("N23", "vlan", "master", "", ""),
    row(
        "N25",
        "",
        "master",
        "",
        "must be 1-15 visible ASCII characters without \"/\", \":\" or \"%\", and no \"-\" first",
    ),
    row("N26", "", "vlanId", "", ""),
    row("N26", "bridge", "vlan", "", ""),
    row("N27", "bridge", "minID", "", ""),
    row("N27", "bridge", "maxID", "", ""),
    row("N27", "bridge", "vlanTrunk", "", ""),
    row("N28", "", "mtu", "", ""),
    row("N29", "bridge", "hairpinMode", "false when", ""),
    row("N29", "bridge", "promiscMode", "false when", ""),
    row("N29", "bridge", "disableContainerInterface", "false when", ""),
    row("N30", "bridge", "bridge", "", ""),
    row("N31", "host-device", "device", "", ""),
    row("N33", "", "ipam.type", "an IPAM type", "the plugin needs addresses: an IPAM type, for example \"host-local\""),
    row("N34", "bandwidth", "Burst", "", ""),
    row("N34", "bandwidth", "Rate", "", ""),
    row("N35", "tuning", "sysctl", "", ""),
    row("X01", "vxlan", "vni", "", ""),
];

/// A finding of a plugin about its own configuration.
pub fn judge(finding: Finding, plugin: &Plugin<'_>, document: &Node) -> Problem {
    // The version is the network's: a list has it at its top.
    let at = if finding.path == "cniVersion" { "" } else { plugin.at.as_str() };
    let place = without_indexes(&finding.path);
    let fits = |row: &&Row| {
        let of = match row.of {
            "ipam" => place.starts_with("ipam"),
            of => of.is_empty() || of == plugin.kind,
        };
        of && place.ends_with(row.field) && finding.allowed.starts_with(row.from)
    };
    let row = ROWS.iter().find(fits);
    let path = finding.clone().under(at).path;
    let node = document.at(&path);
    if let Some(node) = node
        && expected(&finding.allowed).is_some_and(|expected| expected != node.kind())
    {
        return wrong_type(&path, node, &finding.allowed);
    }
    let plain = Problem { rule: row.map_or("", |row| row.rule), ..plain(finding.clone().under(at), document) };
    match row.filter(|row| !row.to.is_empty() && plain.kind != Kind::Unsupported) {
        Some(row) => Problem { text: row.to.replace("{}", &finding.allowed[row.from.len()..]), ..plain },
        None => plain,
    }
}

/// A finding that no rule is about, by its path in the document.
pub fn plain(finding: Finding, document: &Node) -> Problem {
    let Finding { path, value, allowed } = finding;
    if value.is_empty() {
        return Problem::deny("", Kind::Required, path, "", allowed);
    }
    let shown = document.at(&path).and_then(Node::scalar).unwrap_or_else(|| as_json(value));
    match allowed.strip_prefix("one of ") {
        Some(list) => {
            let mut words: Vec<String> = list.split(", ").map(quoted).collect();
            words.sort();
            let text = format!("supported values: {}", words.join(", "));
            Problem::deny("", Kind::Unsupported, path, shown, text)
        }
        None => Problem::deny("", Kind::Invalid, path, shown, format!("must be {allowed}")),
    }
}

/// N19: a value of another JSON type than its key has.
pub fn wrong_type(path: &str, node: &Node, allowed: &str) -> Problem {
    let quotes = |words: &str| format!("must be {words}, remove the quotes");
    let text = match (node, expected(allowed)) {
        (Node::Text(text), Some("number")) if text.parse::<f64>().is_ok() => quotes("a number"),
        (Node::Text(text), Some("boolean")) if text == "true" || text == "false" => quotes("true or false"),
        _ => format!("must be {allowed}"),
    };
    let value = node.scalar().unwrap_or_else(|| node.kind().to_owned());
    Problem::deny("N19", Kind::Invalid, path, value, text)
}

/// The JSON type that a delegate's words ask for, where they do.
fn expected(allowed: &str) -> Option<&'static str> {
    let types = [
        ("an integer", "number"),
        ("0 for the default", "number"),
        ("true or false", "boolean"),
        ("a string", "string"),
        ("a list", "array"),
        ("a JSON object", "object"),
    ];
    types.iter().find(|(words, _)| allowed.starts_with(words)).map(|(_, kind)| *kind)
}

/// Delegates quote what is text in JSON and nothing else.
fn as_json(value: String) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok();
    if is_json { value } else { quoted(&value) }
}
