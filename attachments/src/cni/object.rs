//! A JSON object kept as it was received.
//!
//! Configurations travel from a NAD through us to a plugin that we know nothing of. Values stay as the bytes that their
//! author wrote: a number that no float can hold arrives unchanged, and so does a key that we never heard of.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::spelling::is_spelling;
use crate::finding::{Allowed, Finding, Findings};

const OBJECTS: Allowed = Allowed::list("a list of objects");

/// An ordered JSON object whose values are the original bytes. A key that occurs twice keeps its last value, as in Go.
#[derive(Clone, Debug, Default)]
pub struct Object {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Object {
    /// An object without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses one JSON object and nothing behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// True when there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The keys with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.fields.iter().map(|(key, value)| (key.as_str(), &**value))
    }

    /// The bytes of a value; JSON `null` counts as absent, as Go's decoder treats it.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.iter().find(|(k, v)| *k == key && v.get() != "null").map(|(_, v)| v)
    }

    /// Decodes a value. Absent and `null` are `None`; a value of another type is a finding that says what was wanted.
    pub fn decode<T: DeserializeOwned>(&self, key: &str, allowed: impl Into<Allowed>) -> Result<Option<T>, Finding> {
        let Some(value) = self.get(key) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|_| Finding::unread(key, value.get(), allowed))
    }

    /// A value that must be a string.
    pub fn text(&self, key: &str) -> Result<Option<String>, Finding> {
        self.decode(key, Allowed::STRING)
    }

    /// A string that must follow a type's rule, for example an address. An empty string counts as absent, as in Go.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str, allowed: impl Into<Allowed>) -> Result<Option<T>, Finding> {
        match self.text(key)? {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| Finding::new(key, format_args!("{text:?}"), allowed)),
        }
    }

    /// A boolean; absent is false.
    pub fn flag(&self, key: &str) -> Result<bool, Finding> {
        Ok(self.decode(key, Allowed::BOOLEAN)?.unwrap_or(false))
    }

    /// A list of objects; absent is empty. Findings inside name the element: `key[i]`.
    pub fn objects(&self, key: &str) -> Result<Vec<Object>, Finding> {
        let list: Vec<Box<RawValue>> = self.decode(key, OBJECTS)?.unwrap_or_default();
        let each = |(i, value): (usize, Box<RawValue>)| {
            serde_json::from_str(value.get())
                .map_err(|_| Finding::unread(format!("{key}[{i}]"), value.get(), Allowed::OBJECT))
        };
        list.into_iter().enumerate().map(each).collect()
    }

    /// The same with the index of each object; every element that is none is a finding, not only the first.
    pub fn elements(&self, key: &str, findings: &mut Findings) -> Vec<(usize, Object)> {
        let list: Vec<Box<RawValue>> = findings.keep(self.decode(key, OBJECTS)).unwrap_or_default();
        let mut elements = Vec::with_capacity(list.len());
        for (i, value) in list.iter().enumerate() {
            match serde_json::from_str(value.get()) {
                Ok(object) => elements.push((i, object)),
                Err(_) => findings.push(Finding::unread(format!("{key}[{i}]"), value.get(), Allowed::OBJECT)),
            }
        }
        elements
    }

    /// A nested object, if the key is there.
    pub fn object(&self, key: &str) -> Result<Option<Object>, Finding> {
        self.decode(key, Allowed::OBJECT)
    }

    /// Sets a key in place, or at the end when it is new.
    pub fn set(&mut self, key: &str, value: &impl Serialize) {
        // Our own types serialise: no map here has a key that is not a string.
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            match self.fields.iter_mut().find(|(k, _)| k == key) {
                Some((_, slot)) => *slot = raw,
                None => self.fields.push((key.to_owned(), raw)),
            }
        }
    }

    /// Sets every key of another object, as [`Object::set`] would one after another, in one pass.
    pub fn extend(&mut self, other: &Self) {
        let mut places: HashMap<String, usize> =
            self.fields.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect();
        for (key, value) in &other.fields {
            self.put(&mut places, key.clone(), value.clone());
        }
    }

    /// About as many bytes as its JSON has.
    pub fn size(&self) -> usize {
        // Quotes, colon and comma.
        self.fields.iter().map(|(key, value)| key.len() + value.get().len() + 4).sum::<usize>() + 2
    }

    /// Sets a key when there is a value.
    pub fn set_some(&mut self, key: &str, value: Option<&impl Serialize>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Sets a key whose place, if it has one, is in `places`: objects of many keys are built in one pass.
    fn put(&mut self, places: &mut HashMap<String, usize>, key: String, value: Box<RawValue>) {
        match places.get(&key) {
            Some(place) => self.fields[*place].1 = value,
            None => {
                places.insert(key.clone(), self.fields.len());
                self.fields.push((key, value));
            }
        }
    }

    /// Gives a key this spelling, where the object has it in another one.
    pub fn respell(&mut self, known: &str) {
        if let Some((key, _)) = self.fields.iter_mut().find(|(key, _)| is_spelling(key, known)) {
            known.clone_into(key);
        }
    }

    /// Removes a key and gives its bytes.
    pub fn remove(&mut self, key: &str) -> Option<Box<RawValue>> {
        let at = self.fields.iter().position(|(k, _)| k == key)?;
        Some(self.fields.remove(at).1)
    }

    /// Keeps the keys for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.fields.retain(|(key, _)| keep(key));
    }

    /// The object as compact JSON; the values keep their original bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A key as Go's decoder compares it, in any case, by Unicode's simple folding: `DATADIR`, and `ſ` for `s`. Letters that
/// Go tells apart may be taken for the same here, never the other way round: for what must not be said in any spelling.
pub fn fold(key: &str) -> String {
    key.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

impl FromIterator<(String, Box<RawValue>)> for Object {
    /// A key that comes twice keeps its last value.
    fn from_iter<I: IntoIterator<Item = (String, Box<RawValue>)>>(entries: I) -> Self {
        let (mut object, mut places) = (Self::new(), HashMap::new());
        entries.into_iter().for_each(|(key, value)| object.put(&mut places, key, value));
        object
    }
}

impl PartialEq for Object {
    /// Equal when the same keys hold the same bytes in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::new();
                let mut places = HashMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    object.put(&mut places, key, value);
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The members of an object with repetitions: Go's decoder merges what is said twice, so the first one counts too.
pub struct Entries<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_values_survive() {
        let text = r#"{"big":12345678901234567890123,"f":1.10,"nested":{"b" : [1, 2]},"u":"\u00e4"}"#;
        assert_eq!(Object::parse(text.as_bytes()).unwrap().to_json(), text);
    }

    #[test]
    fn a_repeated_key_keeps_its_last_value() {
        let object = Object::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(object.to_json(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn what_extends_an_object_wins_in_place() {
        let mut object = Object::parse(br#"{"a":1,"b":2}"#).unwrap();
        object.extend(&Object::parse(br#"{"c":[3, 4],"a":5}"#).unwrap());
        assert_eq!(object.to_json(), r#"{"a":5,"b":2,"c":[3, 4]}"#);
        assert!(object.size() >= object.to_json().len());
    }

    #[test]
    fn findings_name_key_value_and_want() {
        let object = Object::parse(br#"{"mtu":"x","list":[{},3],"none":null}"#).unwrap();
        let finding = object.decode::<u32>("mtu", "an integer").unwrap_err();
        assert_eq!(finding.to_string(), r#"mtu: got "x", want an integer"#);
        assert_eq!(object.objects("list").unwrap_err().to_string(), "list[1]: got 3, want a JSON object");
        assert_eq!(object.text("none"), Ok(None));
    }

    #[test]
    fn only_an_object_parses() {
        for bad in ["", "[]", "1", "{} x", "{\"a\":}"] {
            assert!(Object::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
