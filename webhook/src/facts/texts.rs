//! What definitions say, for policies: these read the text itself. Kept within a bound; what is beyond is asked for when it is needed.

use std::collections::HashMap;

use attachments::definition::LONGEST;
use attachments::names::NetRef;

use crate::cluster::Labels;

/// The most bytes of all texts.
const MOST: usize = 8 << 20;
/// The most bytes of one definition's labels and annotations.
const LONGEST_METADATA: usize = 16 << 10;

/// What one definition says beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// `spec.config`.
    pub config: Option<String>,
}

impl Text {
    fn weight(&self) -> usize {
        self.config.as_ref().map_or(0, String::len) + self.weight_of_metadata()
    }

    fn weight_of_metadata(&self) -> usize {
        let entries = self.labels.iter().chain(&self.annotations);
        entries.map(|(key, value)| key.len() + value.len() + 48).sum()
    }

    /// Could it be attached at all? What is longer is refused everywhere.
    fn is_readable(&self) -> bool {
        self.config.as_ref().is_none_or(|text| text.len() <= LONGEST) && self.weight_of_metadata() <= LONGEST_METADATA
    }
}

/// The texts of definitions.
#[derive(Debug, Default)]
pub struct Texts {
    texts: HashMap<NetRef, Text>,
    bytes: usize,
    /// For the time of one review.
    lent: HashMap<NetRef, Text>,
}

impl Texts {
    /// A definition is there, or has changed.
    pub fn apply(&mut self, reference: &NetRef, text: Text) {
        self.delete(reference);
        let weight = text.weight();
        if text.is_readable() && self.bytes + weight <= MOST {
            self.bytes += weight;
            self.texts.insert(reference.clone(), text);
        }
    }

    /// A definition is gone. Returns what it said.
    pub fn delete(&mut self, reference: &NetRef) -> Option<Text> {
        let text = self.texts.remove(reference)?;
        self.bytes -= text.weight();
        Some(text)
    }

    /// A list was read: definitions that it did not have are gone.
    pub fn retain(&mut self, is_listed: impl Fn(&NetRef) -> bool) {
        self.texts.retain(|reference, _| is_listed(reference));
        self.bytes = self.texts.values().map(Text::weight).sum();
    }

    /// What a definition says, if it is known and kept.
    pub fn get(&self, reference: &NetRef) -> Option<&Text> {
        self.texts.get(reference).or_else(|| self.lent.get(reference))
    }

    /// Lets a text that is not kept be known, until [`Self::take_back`].
    pub(super) fn lend(&mut self, reference: NetRef, text: Text) {
        self.lent.insert(reference, text);
    }

    /// Forgets what was lent.
    pub(super) fn take_back(&mut self) {
        self.lent.clear();
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = (&NetRef, &Text)> {
        self.texts.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(name: &str) -> NetRef {
        NetRef { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn text(length: usize) -> Text {
        Text { config: Some("x".repeat(length)), ..Text::default() }
    }

    #[test]
    fn texts_are_kept_within_their_bound() {
        let mut texts = Texts::default();
        let all = MOST / LONGEST;
        (0..=all).for_each(|i| texts.apply(&net(&format!("n{i}")), text(LONGEST)));
        assert!(texts.get(&net("n0")).is_some() && texts.get(&net(&format!("n{all}"))).is_none());
        texts.apply(&net("n0"), text(1));
        texts.apply(&net("new"), text(LONGEST - 1));
        assert_eq!((texts.iter().count(), texts.bytes), (all + 1, MOST));
        texts.retain(|reference| reference.name.as_str() == "n0");
        assert_eq!(texts.bytes, 1);
        texts.apply(&net("n0"), text(LONGEST + 1));
        assert_eq!((texts.get(&net("n0")), texts.bytes), (None, 0));
        let labels = Labels::from([("a".to_owned(), "x".repeat(LONGEST_METADATA))]);
        texts.apply(&net("n0"), Text { labels, ..text(1) });
        assert_eq!(texts.get(&net("n0")), None);
    }
}
