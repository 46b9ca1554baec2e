//! Which stored definitions cannot stand beside one another: pure. Admission refuses the younger; what raced past it, or came while
//! nobody answered, is found here by the same rules.

use attachments::names::NetRef;
use attachments::text::printable;
use delegates::lint::Problem;

use crate::cluster::{Definition, Options, View};
use crate::rules;

/// A definition that an elder one rules out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The younger definition.
    pub reference: NetRef,
    /// Its uid.
    pub uid: Box<str>,
    /// What is wrong, with the names of elder ones.
    pub text: String,
}

/// The definitions that were judged so far, all of them elder than the next one.
pub struct Elders {
    view: View,
}

impl Elders {
    /// None so far. Of the options those count that are about several definitions.
    pub fn new(options: &Options) -> Self {
        let options = Options {
            reserved_pairs: Vec::new(),
            tunnel_ports: Vec::new(),
            pod_networks: Vec::new(),
            service_networks: Vec::new(),
            node_networks: Vec::new(),
            ..options.clone()
        };
        Self { view: View::new(options) }
    }

    /// Judges the next definition beside its elders, and adds it to them.
    pub fn judge(&mut self, definition: Definition) -> Option<Conflict> {
        let problems = rules::stored(&definition, &self.view);
        let conflict = (!problems.is_empty()).then(|| Conflict {
            reference: definition.reference.clone(),
            uid: definition.uid.clone(),
            text: text(&problems),
        });
        self.view.add_definition(definition);
        conflict
    }
}

/// The elder first: by creation, and within one second by uid.
pub fn by_age(definitions: &mut [Definition]) {
    definitions.sort_by(|a, b| {
        // One without a time was not made by an API server.
        let age = |definition: &Definition| definition.created.unwrap_or(i64::MAX);
        (age(a), &a.uid, &a.reference).cmp(&(age(b), &b.uid, &b.reference))
    });
}

fn text(problems: &[Problem]) -> String {
    let parts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    printable(&parts.join("; ")).into_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::{Value, json};

    use super::*;

    fn definition(name: &str, created: &str, uid: &str, config: Value) -> Definition {
        let metadata = json!({"namespace": "shop", "name": name, "uid": uid, "creationTimestamp": created});
        let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
        let reference = crate::cluster::reference(&metadata).unwrap();
        Definition::read(reference, &metadata, Some(&config.to_string()))
    }

    fn overlay(vni: u32) -> Value {
        json!({"type": "vxlan", "vni": vni})
    }

    fn found(options: &Options, mut definitions: Vec<Definition>) -> Vec<String> {
        by_age(&mut definitions);
        let mut elders = Elders::new(options);
        let conflicts = definitions.into_iter().filter_map(|definition| elders.judge(definition));
        conflicts.map(|conflict| format!("{}: {}", conflict.reference, conflict.text)).collect()
    }

    const EARLY: &str = "2026-11-29T08:00:00Z";
    const LATE: &str = "2026-11-29T08:00:01Z";

    #[test]
    fn the_younger_of_a_pair_is_named_and_the_elder_is_in_the_text() {
        let said = |name, elder| {
            format!(
                "shop/{name}: spec.config.vni: Duplicate value: 42: already used by NetworkAttachmentDefinition shop/{elder} on port 4789 [X02]"
            )
        };
        let options = Options::default();
        let by_time = vec![definition("a", LATE, "1", overlay(42)), definition("b", EARLY, "2", overlay(42))];
        assert_eq!(found(&options, by_time), [said("a", "b")]);
        let by_uid = vec![definition("a", EARLY, "2", overlay(42)), definition("b", EARLY, "1", overlay(42))];
        assert_eq!(found(&options, by_uid), [said("a", "b")]);
        let apart = vec![definition("a", LATE, "1", overlay(42)), definition("b", EARLY, "2", overlay(43))];
        assert!(found(&options, apart).is_empty());
        let shared = json!({"type": "vxlan", "vni": 42, "sharedWith": ["shop/a"]});
        let by_its_word = vec![definition("a", LATE, "1", overlay(42)), definition("b", EARLY, "2", shared)];
        assert!(found(&options, by_its_word).is_empty());
    }

    #[test]
    fn what_admission_would_refuse_counts_and_what_it_would_warn_of_does_not() {
        let ipvlan = |mode: &str| json!({"type": "ipvlan", "master": "eth1", "mode": mode});
        let modes = || vec![definition("a", EARLY, "1", ipvlan("l2")), definition("b", LATE, "2", ipvlan("l3"))];
        let said = found(&Options::default(), modes());
        assert!(
            said.len() == 1 && said[0].starts_with("shop/b: spec.config.mode: ") && said[0].ends_with("[X08]"),
            "{said:?}"
        );
        let both = || {
            let macvlan = json!({"type": "macvlan", "master": "eth1"});
            vec![definition("a", EARLY, "1", ipvlan("l2")), definition("b", LATE, "2", macvlan)]
        };
        assert!(found(&Options::default(), both()).is_empty());
        let strict = Options { strict: true, ..Options::default() };
        assert!(found(&strict, both())[0].ends_with("[X07]"));
    }

    #[test]
    fn what_one_definition_breaks_by_itself_is_no_conflict() {
        let reserved = json!({"type": "vxlan", "vni": 1, "port": 8472});
        assert!(found(&Options::default(), vec![definition("a", EARLY, "1", reserved)]).is_empty());
        let strict = Options { tunnel_ports: vec![4789], strict: true, ..Options::default() };
        assert!(found(&strict, vec![definition("a", EARLY, "1", overlay(42))]).is_empty());
    }
}
