//! Reads JSON of a tenant so that no two readers can take it for different things: a key that Go's decoder would merge with another one
//! is refused, and so is nesting without end.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::cni::object::fold;

/// Deepest nesting of arrays and objects; the outermost is the first.
pub const DEEPEST: usize = 32;

/// The value, with nulls of objects left out, as Go takes them, and integers written as such: `4.2e3` is 4200.
pub fn read(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict(DEEPEST).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Strict(usize);

impl Strict {
    fn inner<E: Error>(&self) -> Result<Self, E> {
        let left = self.0.checked_sub(1);
        left.map(Self).ok_or_else(|| E::custom(format!("more than {DEEPEST} levels of nesting")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// 2^53: beyond it a float stands for several integers.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        if value.fract() == 0.0 && value.abs() < EXACT {
            #[allow(clippy::cast_possible_truncation, reason = "an integer within 53 bits")]
            return Ok((value as i64).into());
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inner()?)? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut object, mut seen) = (Map::new(), HashSet::new());
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(fold(&key)) {
                return Err(A::Error::custom(format!("key {key:?} comes twice")));
            }
            let value = entries.next_value_seed(self.inner()?)?;
            if !value.is_null() {
                object.insert(key, value);
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_integers_where_they_can_be_and_nulls_are_absent() {
        let text = r#"{"a":4.2e3,"b":4200.0,"c":1.5,"d":null,"e":[null,18446744073709551615],"f":-0.0}"#;
        let want = json!({"a": 4200, "b": 4200, "c": 1.5, "e": [null, 18_446_744_073_709_551_615_u64], "f": 0});
        assert_eq!(read(text).unwrap(), want);
    }

    #[test]
    fn one_key_in_two_spellings_is_none() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"x":{"vni":1,"\u0056NI":2}}"#, "{\"masks\":1,\"mas\u{212a}\u{17f}\":2}"] {
            let why = read(text).unwrap_err().to_string();
            assert!(why.contains("comes twice at line 1 column"), "{text}: {why}");
        }
        assert!(read(r#"[{"a":1},{"A":1}]"#).is_ok());
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEEPEST)).is_ok());
        for depth in [DEEPEST + 1, 127, 100_000] {
            let why = read(&nested(depth)).unwrap_err().to_string();
            assert!(why.contains("more than 32 levels of nesting"), "{depth}: {why}");
        }
        assert!(read("{} x").is_err() && read("").is_err());
    }
}
