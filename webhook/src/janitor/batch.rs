//! Pods that wait for the definitions that they name. Texts of definitions pass by once for each batch, and a batch is bounded: of a
//! pod is kept what policies see of it, as JSON.

use std::collections::HashMap;

use attachments::names::{NetRef, ObjectName};
use attachments::policy::{Labels, Nad};
use attachments::selection::{DEFAULT_NETWORK, NETWORKS};
use serde::{Deserialize, Serialize};

use super::census::{Census, Subject};

/// Bytes of a batch.
const LONGEST: usize = 4 << 20;
/// What a pod takes beside its text.
const BESIDE: usize = 100;

/// Pods, by the definitions that they name.
#[derive(Default)]
pub struct Batch {
    pods: Vec<Held>,
    asked: HashMap<NetRef, Vec<usize>>,
    bytes: usize,
}

struct Held {
    /// [`Told`] as JSON.
    text: Box<str>,
    /// The policies that the pod was counted for.
    counted: Vec<usize>,
}

/// What policies see of a pod.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
}

impl Batch {
    /// Is there room for no more?
    pub fn is_full(&self) -> bool {
        self.bytes >= LONGEST
    }

    /// Takes a pod, if some policy speaks of it. Files of the node are judged at once: no definition comes for them.
    pub fn add(&mut self, census: &mut Census, mut pod: Told) {
        pod.annotations.retain(|key, _| key == NETWORKS || key == DEFAULT_NETWORK);
        if pod.annotations.is_empty() || !census.counts_pods_of(&pod.namespace) {
            return;
        }
        let Ok(namespace) = pod.namespace.parse::<ObjectName>() else { return };
        let selection = census.selection(&namespace, &pod.annotations);
        let mut counted = Vec::new();
        for (element, selected) in selection.placed_elements().filter(|(_, one)| one.target.definition().is_none()) {
            let (name, labels) = (pod.name.as_str(), &pod.labels);
            let mut subject = Subject { namespace: &namespace, name, labels, counted: &mut counted };
            census.attachment(&mut subject, (&element, selected), None);
        }
        let Ok(text) = serde_json::to_string(&pod) else { return };
        let place = self.pods.len();
        for reference in selection.definitions() {
            let askers = self.asked.entry(reference.clone()).or_default();
            // One that asks twice is one asker.
            if askers.last() != Some(&place) {
                askers.push(place);
            }
        }
        self.bytes += text.len() + BESIDE;
        self.pods.push(Held { text: text.into(), counted });
    }

    /// The pods that name a definition, by their places.
    pub fn askers(&self, reference: &NetRef) -> Vec<usize> {
        self.asked.get(reference).cloned().unwrap_or_default()
    }

    /// Judges what a pod asks of a definition.
    pub fn judge(&mut self, census: &mut Census, place: usize, reference: &NetRef, nad: &Nad<'_>) {
        let Some(held) = self.pods.get_mut(place) else { return };
        let Ok(pod) = serde_json::from_str::<Told>(&held.text) else { return };
        let Ok(namespace) = pod.namespace.parse::<ObjectName>() else { return };
        let selection = census.selection(&namespace, &pod.annotations);
        for (element, selected) in
            selection.placed_elements().filter(|(_, one)| one.target.definition() == Some(reference))
        {
            let (name, labels) = (pod.name.as_str(), &pod.labels);
            let mut subject = Subject { namespace: &namespace, name, labels, counted: &mut held.counted };
            census.attachment(&mut subject, (&element, selected), Some(nad));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, networks: &str) -> Told {
        let annotations = [(NETWORKS, networks), ("example.com/long", "x")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Told { namespace: namespace.to_owned(), name: name.to_owned(), labels: Labels::new(), annotations }
    }

    #[test]
    fn a_pod_is_judged_with_each_definition_that_it_names_and_one_that_nobody_speaks_of_is_not_kept() {
        let spec = json!({"rules": [{"name": "r", "select": "$.config.plugins[*].vni", "assert": {"range": {"max": 9}}, "onMissing": "Pass"}],
            "exempt": {"namespaces": ["other"]}});
        let spec = serde_json::from_value(spec).unwrap();
        let (mut census, _) = Census::new([("p", &spec)], HashMap::new(), None);
        let mut batch = Batch::default();
        batch.add(&mut census, pod("shop", "web", "red,blue,red"));
        batch.add(&mut census, pod("shop", "api", "blue"));
        batch.add(&mut census, pod("other", "web", "red"));
        batch.add(&mut census, Told { annotations: Labels::new(), ..pod("shop", "plain", "") });
        assert_eq!(batch.pods.len(), 2);
        assert!(!batch.pods[0].text.contains("long") && !batch.is_full());
        let mut define = |name: &str, vni: u32| {
            let reference = NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
            let config = json!({"type": "vxlan", "vni": vni}).to_string();
            let nad = Nad { namespace: "shop", name, labels: None, annotations: None, config: Some(&config) };
            let askers = batch.askers(&reference);
            askers.iter().for_each(|place| batch.judge(&mut census, *place, &reference, &nad));
            (askers, census.counted(0).objects)
        };
        assert_eq!(define("red", 7), (vec![0], 0));
        assert_eq!(define("blue", 70), (vec![0, 1], 2));
        // Counted before.
        assert_eq!(define("red", 70), (vec![0], 2));
        assert_eq!(define("green", 70), (vec![], 2));
    }

    #[test]
    fn a_batch_ends_before_memory_does() {
        let spec = serde_json::from_value(
            json!({"rules": [{"name": "r", "select": "$.pod.name", "assert": {"absent": true}}]}),
        );
        let (mut census, _) = Census::new([("p", &spec.unwrap())], HashMap::new(), None);
        let mut batch = Batch::default();
        let long = format!(r#"[{{"name":"red","cni-args":{{"x":"{}"}}}}]"#, "x".repeat(200 << 10));
        let mut added = 0;
        while !batch.is_full() {
            batch.add(&mut census, pod("shop", &format!("web-{added}"), &long));
            added += 1;
        }
        assert!((15..=21).contains(&added), "{added}");
    }
}
