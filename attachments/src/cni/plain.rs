//! A look at a nested value that allocates nothing: is every known key in it spelled as its reader spells it?

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::spelling::Known;

/// False also where the look cannot be had to its end, or where the value holds no object.
pub(super) fn is_plain(known: &Known<'_>, value: &RawValue) -> bool {
    let mut text = serde_json::Deserializer::from_str(value.get());
    Look(known).deserialize(&mut text).is_ok()
}

/// Reads a value; a key in another spelling is an error, which ends the look.
#[derive(Clone, Copy)]
struct Look<'k>(&'k Known<'k>);

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(inside) = map.next_key_seed(Key(self.0))? {
            match inside {
                Some(known) => map.next_value_seed(Look(known))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a key, and gives what is known inside of its value.
struct Key<'k>(&'k Known<'k>);

impl<'de, 'k> DeserializeSeed<'de> for Key<'k> {
    type Value = Option<&'k Known<'k>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, 'k> Visitor<'de> for Key<'k> {
    type Value = Option<&'k Known<'k>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        match self.0.meant(key) {
            Some(meant) if meant != key => Err(E::custom("another spelling")),
            Some(meant) => Ok(self.0.within(meant)),
            None => Ok(None),
        }
    }
}
