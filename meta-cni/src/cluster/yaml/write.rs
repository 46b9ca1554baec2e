//! Values to YAML, in block style, as people read it.

use serde_json::Value;

use super::read::plain;

/// The value as a document.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(&mut out, value, 0),
        _ => {
            out.push_str(&flat(value, 2));
            out.push('\n');
        }
    }
    out
}

/// The lines of a mapping or a sequence that is not empty.
fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                out.push_str(&format!("{pad}{}:", if is_plain(key) { key.clone() } else { quoted(key) }));
                // A list stands at the indent of its key, as kubectl writes it.
                below(out, value, if value.is_array() { indent } else { indent + 2 });
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&format!("{pad}-"));
                match item {
                    // The first entry stands on the line of the dash.
                    Value::Object(_) if !is_empty(item) => {
                        let mut inside = String::new();
                        block(&mut inside, item, indent + 2);
                        out.push_str(&format!(" {}", inside.trim_start()));
                    }
                    _ => below(out, item, indent + 2),
                }
            }
        }
        _ => {}
    }
}

fn below(out: &mut String, value: &Value, indent: usize) {
    if matches!(value, Value::Object(_) | Value::Array(_)) && !is_empty(value) {
        out.push('\n');
        block(out, value, indent);
    } else {
        out.push_str(&format!(" {}\n", flat(value, indent)));
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn flat(value: &Value, indent: usize) -> String {
    match value {
        Value::String(string) => text(string, indent),
        other => other.to_string(),
    }
}

/// A text: plain where it reads back as itself, line by line where it has lines, else quoted.
fn text(string: &str, indent: usize) -> String {
    if is_plain(string) {
        return string.to_owned();
    }
    if has_lines(string) {
        let (chomp, body) = match string.strip_suffix('\n') {
            Some(body) => ("", body),
            None => ("-", string),
        };
        let pad = " ".repeat(indent);
        let lines: Vec<String> = body.split('\n').map(|line| format!("{pad}{line}")).collect();
        return format!("|{chomp}\n{}", lines.join("\n"));
    }
    quoted(string)
}

/// A text of JSON is a double-quoted scalar of YAML.
fn quoted(string: &str) -> String {
    Value::from(string).to_string()
}

fn is_plain(string: &str) -> bool {
    let is_usual = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-');
    let (Some(first), Some(last)) = (string.bytes().next(), string.bytes().last()) else { return false };
    (first.is_ascii_alphanumeric() || matches!(first, b'_' | b'/'))
        && last != b' '
        && string.bytes().all(|b| is_usual(b) || matches!(b, b' ' | b',' | b'(' | b')'))
        && plain(string).is_string()
        // Booleans of YAML 1.1, which other readers take them for.
        && !matches!(string.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off")
}

/// Can it be written line by line? Its first line shows the indent, and nothing that cannot be seen ends a line.
fn has_lines(string: &str) -> bool {
    string.trim_end_matches('\n').contains('\n')
        && !string.ends_with("\n\n")
        && !string.starts_with([' ', '\n', '\t'])
        && string.lines().all(|line| !line.ends_with([' ', '\t', '\r']))
        && !string.contains(|c: char| {
            (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{85}' | '\u{2028}' | '\u{2029}')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::read;
    use super::*;

    #[test]
    fn a_manifest_looks_as_people_write_it() {
        let value = json!({"kind": "Pod", "metadata": {"name": "a", "labels": {}, "annotations": {"net": "[\n  1\n]", "on": "yes"}},
            "spec": {"containers": [{"args": ["-c", "7", "a b"], "image": "x:1"}, []], "size": 7, "none": null}});
        let text = "kind: Pod\nmetadata:\n  name: a\n  labels: {}\n  annotations:\n    net: |-\n      [\n        1\n      ]\n    \"on\": \"yes\"\nspec:\n  containers:\n  - args:\n    - \"-c\"\n    - \"7\"\n    - a b\n    image: \"x:1\"\n  - []\n  size: 7\n  none: null\n";
        let mut sorted: Vec<&str> = text.lines().collect();
        let written = write(&value);
        let mut lines: Vec<&str> = written.lines().collect();
        // The order of keys is the map's.
        sorted.sort_unstable();
        lines.sort_unstable();
        assert_eq!(lines, sorted, "{written}");
        assert_eq!(read(&written).unwrap(), value);
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~\n\t]{0,12}",
            "\\PC{0,6}",
            "[a-z]{1,4}",
            Just("y".to_owned()),
            Just("---".to_owned()),
            Just("0x1".to_owned())
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(text.clone(), inner, 0..4).prop_map(|map| map.into_iter().collect())
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same(value in values()) {
            let text = write(&value);
            prop_assert_eq!(read(&text), Ok(value), "{}", text);
        }
    }
}
