//! A request to change an object, from what is known to its answer.

use std::time::Instant as Moment;

use attachments::dialect::objects::Kind as Foreign;
use attachments::policy::Level;
use tokio::time::Instant;

use super::claim::{Claimed, Claimer};
use super::injectors::{Injection, Injectors};
use super::lock::Locker;
use super::{Draw, Drawn, Identifier, Mutation, Opened, Settings, config_text, mutate, options};
use crate::facts::{Cache, Known};
use crate::review::{Answered, Missing, Request};
use crate::rules::{self, Judged, Operation};

/// What changes objects, and what it remembers.
pub struct Mutator {
    options: options::MutateOptions,
    drawn: Drawn,
    /// Claims what is drawn.
    claimer: Option<Claimer>,
    /// Locks VLANs that are drawn.
    locker: Option<Locker>,
    /// Whether somebody else injects.
    pub injectors: Injectors,
}

impl Mutator {
    /// By these flags.
    pub fn new(options: &options::MutateOptions) -> Self {
        Self {
            options: options.clone(),
            drawn: Drawn::default(),
            claimer: None,
            locker: None,
            injectors: Injectors::new(options.inject),
        }
    }

    /// The same, claiming what is drawn.
    #[must_use]
    pub fn claiming(self, claimer: Claimer) -> Self {
        Self { claimer: Some(claimer), ..self }
    }

    /// The same, locking VLANs that are drawn.
    #[must_use]
    pub fn locking(self, locker: Locker) -> Self {
        Self { locker: Some(locker), ..self }
    }

    /// May the object be changed? Nothing is drawn before every VNI that is taken is known.
    pub fn is_ready_for(&self, request: &Request, known: &Known) -> bool {
        let Some(ruled) = request.as_ruled() else { return true };
        let is_tenants = Judged::of(&ruled) == Some(Judged::Foreign(Foreign::TenantNetwork));
        let dialects = Cache::with(&known.view.options.dialects).into_iter().filter(|_| is_tenants);
        let of_vnis = [Cache::Definitions, Cache::Claims].into_iter().filter(|_| is_tenants || lacks_vni(&ruled));
        of_vnis
            .chain(dialects.filter(|cache| matches!(cache, Cache::Foreign(..))))
            .all(|cache| known.is_complete(cache))
    }

    /// What is not known and decides: a file may have a definition and its pod, or a namespace and its definition.
    pub fn missing(&self, request: &Request, known: &Known) -> Missing {
        let mut missing = Missing::default();
        let Some(request) = request.as_ruled() else { return missing };
        if lacks_vni(&request) {
            match known.view.namespace(request.namespace) {
                None => _ = missing.namespaces.insert(request.namespace.to_owned()),
                Some(_) => missing
                    .levels
                    .extend(limiting(request.namespace, known).filter(|level| !known.policies.knows_level(*level))),
            }
        }
        let is_pod = Judged::of(&request) == Some(Judged::Pod) && request.operation == Operation::Create;
        if is_pod && (self.options.node_labels || self.injectors.injection() == Injection::On) {
            missing.definitions.extend(rules::missing(&request, &known.view));
        }
        missing
    }

    /// What becomes of the object by what is known now. `taken` are the identifiers that turned out to be another's.
    pub fn answer(&self, request: &Request, known: &Known, taken: &[Identifier]) -> Answer {
        let Some(ruled) = request.as_ruled() else { return Answer::default() };
        let opened = limiting(ruled.namespace, known);
        let opened =
            opened.map(|level| Opened { level: level.to_string(), ranges: known.policies.vni_ranges(level).to_vec() });
        let settings = Settings {
            draw: Draw {
                range: self.options.vni_range,
                opened: opened.as_ref(),
                drawn: &self.drawn,
                now: Moment::now(),
                uid: request.uid(),
                is_dry_run: request.is_dry_run(),
                taken,
            },
            injects: self.injectors.injection() == Injection::On,
            asks_for_labels: self.options.node_labels,
        };
        Answer(mutate(&ruled, &settings, &known.view))
    }

    /// Claims what an answer has drawn. Returns the identifier that another was quicker to claim: then the next is to be drawn.
    pub async fn claim(&self, request: &Request, answer: &mut Answer, deadline: Instant) -> Option<Identifier> {
        if request.is_dry_run() {
            return None;
        }
        for (identifier, owner) in &answer.0.drawn {
            let claimed = match (*identifier, &self.claimer, &self.locker) {
                (Identifier::Pair(pair), Some(claimer), _) => claimer.claim(pair, owner, deadline).await,
                (Identifier::Vlan(device, vlan), _, Some(locker)) => locker.lock((device, vlan), owner, deadline).await,
                _ => continue,
            };
            match claimed {
                Claimed::Ours => {}
                Claimed::Others => return Some(*identifier),
                Claimed::Failed(problem) => answer.0.problems.push(*problem),
            }
        }
        None
    }
}

/// What becomes of an object.
#[derive(Debug, Default)]
pub struct Answer(Mutation);

impl Answer {
    /// The same as the API server takes it.
    pub fn told(self, request: &Request) -> Answered {
        request.answered(self.0.problems, self.0.patch)
    }
}

fn lacks_vni(request: &rules::Request<'_>) -> bool {
    let is_stored = request.operation != Operation::Delete && Judged::of(request) == Some(Judged::Definition);
    is_stored && config_text::lacks_vni(request.object["spec"]["config"].as_str().unwrap_or_default())
}

/// The level of a namespace where it limits VNIs. `privileged` opens all, `restricted` is refused whatever it says.
fn limiting(namespace: &str, known: &Known) -> Option<Level> {
    known.level_of(namespace).filter(|level| *level == Level::Baseline)
}

#[cfg(test)]
mod tests {
    use attachments::policy::spec::VniRange;
    use delegates::lint::Severity;
    use serde_json::{Value, json};

    use super::*;
    use crate::review;

    fn read(kind: &str, name: &str, object: &Value) -> Request {
        let group = if kind == "Pod" { "" } else { "k8s.cni.cncf.io" };
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "operation": "CREATE", "userInfo": {}, "object": object, "namespace": "shop", "name": name,
            "kind": {"group": group, "version": "v1", "kind": kind}, "resource": {"group": group, "version": "v1", "resource": "x"},
        }});
        review::read(review.to_string().as_bytes()).unwrap().unwrap()
    }

    fn definition(name: &str, config: &str) -> Request {
        read("NetworkAttachmentDefinition", name, &json!({"metadata": {"name": name}, "spec": {"config": config}}))
    }

    fn overlay(name: &str) -> Request {
        definition(name, r#"{"type":"vxlan"}"#)
    }

    #[test]
    fn a_change_is_a_json_patch_and_a_refusal_has_none() {
        let vni_range = VniRange { min: 7, max: 7 };
        let mutator = Mutator::new(&options::MutateOptions { vni_range, ..options::MutateOptions::default() });
        let answered = |request: Request, known: &Known| mutator.answer(&request, known, &[]).told(&request);
        let [first, second] = ["a", "b"].map(|name| answered(overlay(name), &Known::default()));
        let response = first.review.response.unwrap();
        let patch: Value = serde_json::from_slice(&response.patch.unwrap()).unwrap();
        assert_eq!(patch, json!([{"op": "replace", "path": "/spec/config", "value": r#"{"type":"vxlan","vni":7}"#}]));
        assert!(response.allowed && first.operation == "CREATE" && first.problems.is_empty());
        assert!(!second.is_allowed());
        assert_eq!(second.problems, [("X15".to_owned(), Severity::Deny)]);
        let response = second.review.response.unwrap();
        assert!(response.patch.is_none());
        assert_eq!(response.result.details.unwrap().causes[0].field, "spec.config.vni");
    }

    #[test]
    fn what_has_nothing_to_change_is_let_by_and_nothing_is_looked_for() {
        let (mutator, known) = (Mutator::new(&options::MutateOptions::default()), Known::default());
        let networks = json!({"metadata": {"name": "a", "annotations": {"k8s.v1.cni.cncf.io/networks": "lan"}}});
        for request in [
            read("Pod", "a", &networks),
            read("Other", "a", &json!({"metadata": {}})),
            definition("a", r#"{"type":"macvlan"}"#),
            definition("a", r#"{"type":"vxlan","vni":7}"#),
            definition("a", "{"),
            read("NetworkAttachmentDefinition", "a", &json!({"metadata": {"name": "a"}, "spec": {"config": 7}})),
        ] {
            assert!(mutator.is_ready_for(&request, &known) && mutator.missing(&request, &known).is_empty());
            let response = mutator.answer(&request, &known, &[]).told(&request).review.response.unwrap();
            assert!(response.allowed && response.patch.is_none() && response.warnings.is_none(), "{request:?}");
        }
        assert!(!mutator.is_ready_for(&overlay("a"), &known));
    }

    #[test]
    fn what_decides_and_is_not_known_is_named() {
        let mutator = Mutator::new(&options::MutateOptions { inject: true, ..options::MutateOptions::default() });
        let mut known = Known::default();
        assert_eq!(mutator.missing(&overlay("a"), &known).namespaces.len(), 1);
        let apply =
            |known: &mut Known, cache, object: Value| known.apply(cache, serde_json::from_value(object).unwrap());
        apply(&mut known, Cache::Namespaces, json!({"metadata": {"name": "shop"}}));
        assert!(mutator.missing(&overlay("a"), &known).is_empty());
        let labels = json!({"meta-cni.io/level": "baseline"});
        apply(&mut known, Cache::Namespaces, json!({"metadata": {"name": "shop", "labels": labels}}));
        assert_eq!(mutator.missing(&overlay("a"), &known).levels, [Level::Baseline].into());
        apply(&mut known, Cache::Levels, json!({"metadata": {"name": "baseline", "resourceVersion": "1"}, "spec": {}}));
        assert!(mutator.missing(&overlay("a"), &known).is_empty());
        let networks = json!({"metadata": {"name": "a", "annotations": {"k8s.v1.cni.cncf.io/networks": "lan"}}});
        let pod = read("Pod", "a", &networks);
        assert!(mutator.missing(&pod, &known).is_empty());
        mutator.injectors.nobody_else();
        assert_eq!(mutator.missing(&pod, &known).definitions.len(), 1);
    }
}
