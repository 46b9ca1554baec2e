//! A JSON object kept as it was received.
//!
//! Configurations travel from a NAD through us to a plugin that we know nothing of. Values stay as the bytes that their
//! author wrote: a number that no float can hold arrives unchanged, and so does a key that we never heard of.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::spelling::is_spelling;
use crate::finding::{Allowed, Finding, Findings};

const OBJECTS: Allowed = Allowed::list("a list of objects");

/// Objects with more keys are built with a look-up table; through fewer, looking is faster than hashing.
const FEW: usize = 16;

/// An ordered JSON object whose values are the original bytes. A key that occurs twice keeps its last value, as in Go.
///
/// A clone shares its fields until either is changed, and a nested object is parsed once, however many read it.
#[derive(Clone, Default)]
pub struct Object {
    fields: Arc<Vec<Field>>,
}

#[derive(Clone)]
struct Field {
    key: String,
    value: Box<RawValue>,
    /// What the value is as an object, once somebody has asked.
    object: OnceLock<Object>,
}

impl Field {
    fn new(key: String, value: Box<RawValue>) -> Self {
        Self { key, value, object: OnceLock::new() }
    }
}

/// The places of keys in an object that is being built.
#[derive(Default)]
struct Places(HashMap<String, usize>);

impl Places {
    fn of(fields: &[Field], key: &str) -> Option<usize> {
        fields.iter().position(|field| field.key == key)
    }

    fn find(&mut self, fields: &[Field], key: &str) -> Option<usize> {
        if fields.len() <= FEW {
            return Self::of(fields, key);
        }
        for (place, field) in fields.iter().enumerate().skip(self.0.len()) {
            self.0.insert(field.key.clone(), place);
        }
        self.0.get(key).copied()
    }
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
        self.fields.iter().map(|field| (field.key.as_str(), &*field.value))
    }

    /// The bytes of a value; JSON `null` counts as absent, as Go's decoder treats it.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.field(key).map(|field| &*field.value)
    }

    fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key && field.value.get() != "null")
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
        let Some(field) = self.field(key) else { return Ok(None) };
        if let Some(object) = field.object.get() {
            return Ok(Some(object.clone()));
        }
        let value = field.value.get();
        let object = serde_json::from_str(value).map_err(|_| Finding::unread(key, value, Allowed::OBJECT))?;
        Ok(Some(field.object.get_or_init(|| object).clone()))
    }

    /// Sets a key in place, or at the end when it is new.
    pub fn set(&mut self, key: &str, value: &impl Serialize) {
        // Our own types serialise: no map here has a key that is not a string.
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            let place = Places::of(&self.fields, key);
            self.place(place, key.to_owned(), raw);
        }
    }

    /// Sets every key of another object, as [`Object::set`] would one after another, in one pass.
    pub fn extend(&mut self, other: &Self) {
        let mut places = Places::default();
        for field in &*other.fields {
            let place = places.find(&self.fields, &field.key);
            self.place(place, field.key.clone(), field.value.clone());
        }
    }

    /// About as many bytes as its JSON has.
    pub fn size(&self) -> usize {
        // Quotes, colon and comma.
        self.iter().map(|(key, value)| key.len() + value.get().len() + 4).sum::<usize>() + 2
    }

    /// Sets a key when there is a value.
    pub fn set_some(&mut self, key: &str, value: Option<&impl Serialize>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Sets a key at its place, or at the end.
    fn place(&mut self, place: Option<usize>, key: String, value: Box<RawValue>) {
        let fields = Arc::make_mut(&mut self.fields);
        let field = Field::new(key, value);
        match place {
            Some(place) => fields[place] = field,
            None => fields.push(field),
        }
    }

    /// Gives a key this spelling, where the object has it in another one.
    pub fn respell(&mut self, known: &str) {
        if let Some(place) = self.fields.iter().position(|field| is_spelling(&field.key, known)) {
            known.clone_into(&mut Arc::make_mut(&mut self.fields)[place].key);
        }
    }

    /// Removes a key and gives its bytes.
    pub fn remove(&mut self, key: &str) -> Option<Box<RawValue>> {
        let place = Places::of(&self.fields, key)?;
        Some(Arc::make_mut(&mut self.fields).remove(place).value)
    }

    /// Keeps the keys for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        Arc::make_mut(&mut self.fields).retain(|field| keep(&field.key));
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

/// Sets a key in fields that are being built, in one pass however many there are.
fn put(fields: &mut Vec<Field>, places: &mut Places, key: String, value: Box<RawValue>) {
    match places.find(fields, &key) {
        Some(place) => fields[place].value = value,
        None => fields.push(Field::new(key, value)),
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl FromIterator<(String, Box<RawValue>)> for Object {
    /// A key that comes twice keeps its last value.
    fn from_iter<I: IntoIterator<Item = (String, Box<RawValue>)>>(entries: I) -> Self {
        let (mut fields, mut places) = (Vec::new(), Places::default());
        entries.into_iter().for_each(|(key, value)| put(&mut fields, &mut places, key, value));
        Self { fields: Arc::new(fields) }
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
                let (mut fields, mut places) = (Vec::new(), Places::default());
                while let Some((key, value)) = map.next_entry()? {
                    put(&mut fields, &mut places, key, value);
                }
                Ok(Object { fields: Arc::new(fields) })
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
        for (key, value) in self.iter() {
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
    fn a_repeated_key_of_many_keeps_its_last_value() {
        let members: Vec<String> = (0..3 * FEW).map(|i| format!(r#""k{}":{i}"#, i % (2 * FEW))).collect();
        let object = Object::parse(format!("{{{}}}", members.join(",")).as_bytes()).unwrap();
        let value = |i: usize| if i < FEW { i + 2 * FEW } else { i };
        let want: Vec<String> = (0..2 * FEW).map(|i| format!(r#""k{i}":{}"#, value(i))).collect();
        assert_eq!(object.to_json(), format!("{{{}}}", want.join(",")));
    }

    #[test]
    fn a_change_is_seen_in_nested_objects_and_in_no_clone() {
        let mut object = Object::parse(br#"{"a":{"x":1},"b":2}"#).unwrap();
        let first = object.object("a").unwrap().unwrap();
        let clone = object.clone();
        object.set("a", &Object::parse(br#"{"x":3}"#).unwrap());
        assert_eq!(object.object("a").unwrap().unwrap().to_json(), r#"{"x":3}"#);
        assert_eq!((first.to_json().as_str(), clone.to_json().as_str()), (r#"{"x":1}"#, r#"{"a":{"x":1},"b":2}"#));
        assert_eq!(clone.object("a").unwrap().unwrap(), first);
        assert_eq!(clone.object("b").unwrap_err().to_string(), "b: got 2, want a JSON object");
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
