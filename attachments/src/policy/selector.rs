//! Does a policy speak of a namespace?

use std::collections::BTreeMap;

use super::spec::{LabelOperator, LabelRequirement, NamespaceSelector};

impl NamespaceSelector {
    /// True when the labels are as the selector wants them.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_one_of_kubernetes() {
        let labels = BTreeMap::from([("tenant".to_owned(), "a".to_owned())]);
        for (selector, want) in [
            ("{}", true),
            (r#"{"matchLabels":{"tenant":"a"}}"#, true),
            (r#"{"matchLabels":{"tenant":"a","zone":"x"}}"#, false),
            (r#"{"matchLabels":{"tenant":"b"}}"#, false),
            (r#"{"matchExpressions":[{"key":"tenant","operator":"In","values":["b","a"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"zone","operator":"In","values":["b"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["b"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"tenant","operator":"NotIn","values":["a"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"tenant","operator":"Exists"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"tenant","operator":"DoesNotExist"}]}"#, false),
            (r#"{"matchLabels":{"tenant":"a"},"matchExpressions":[{"key":"zone","operator":"Exists"}]}"#, false),
        ] {
            let read: NamespaceSelector = serde_json::from_str(selector).unwrap();
            assert_eq!(read.selects(&labels), want, "{selector}");
        }
    }
}
