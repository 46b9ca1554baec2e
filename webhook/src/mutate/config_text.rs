//! The overlays in the text of a configuration, and the text with their VNIs written into it.
//!
//! The text is the author's: whatever is not the VNI stays as it is, byte for byte. So the text is not read and written again, but
//! cut where the member belongs.

use std::ops::Range;

use attachments::cni::object::Entries;
use attachments::cni::spelling::is_spelling;
use attachments::definition::LONGEST;
use serde_json::value::RawValue;

use crate::cluster::definition::VXLAN_PORT;

/// The plugin that makes overlays.
const VXLAN: &str = "vxlan";

/// A plugin of type vxlan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    /// Its path in the configuration: empty, or `plugins[0]`.
    pub at: String,
    /// `port`, or the one that is meant where none can be read.
    pub port: u16,
    /// `vni`.
    pub vni: Vni,
}

/// `vni` of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vni {
    /// It is there; nothing where it is no VNI.
    Written(Option<u32>),
    /// It is absent, or `null`.
    Absent(Gap),
}

/// Where a VNI belongs in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// What the member takes the place of; empty where it is new.
    place: Range<usize>,
    /// What stands before the number.
    lead: String,
}

/// The overlays of a configuration, in order; none where it cannot be read.
pub(super) fn overlays(text: &str) -> Vec<Overlay> {
    if text.len() > LONGEST {
        return Vec::new();
    }
    let Ok(whole) = serde_json::from_str::<Entries<'_>>(text) else { return Vec::new() };
    let plugins = member(&whole, "plugins").and_then(|value| serde_json::from_str::<Vec<&RawValue>>(value.get()).ok());
    match plugins {
        None => overlay(text, String::new(), &whole).into_iter().collect(),
        Some(plugins) => {
            let each = |(i, plugin): (usize, &&RawValue)| {
                let plugin = serde_json::from_str::<Entries<'_>>(plugin.get()).ok()?;
                overlay(text, format!("plugins[{i}]"), &plugin)
            };
            plugins.iter().enumerate().filter_map(each).collect()
        }
    }
}

/// Is there an overlay without a VNI?
pub(super) fn lacks_vni(text: &str) -> bool {
    overlays(text).iter().any(|overlay| matches!(overlay.vni, Vni::Absent(_)))
}

/// The text with a VNI in each of these gaps, which are those of the text, in its order.
pub(super) fn with_vnis(text: &str, vnis: &[(&Gap, u32)]) -> String {
    let mut written = text.to_owned();
    for (gap, vni) in vnis.iter().rev() {
        written.replace_range(gap.place.clone(), &format!("{}{vni}", gap.lead));
    }
    written
}

fn overlay(text: &str, at: String, plugin: &Entries<'_>) -> Option<Overlay> {
    let kind = member(plugin, "type")?;
    if serde_json::from_str::<String>(kind.get()).ok()? != VXLAN {
        return None;
    }
    let number = |value: &RawValue| serde_json::from_str::<u32>(value.get()).ok();
    let port =
        member(plugin, "port").and_then(number).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let vni = match member(plugin, "vni") {
        Some(vni) => Vni::Written(number(vni).filter(|vni| (1..=0xff_ffff).contains(vni))),
        None => Vni::Absent(gap(text, plugin, kind)?),
    };
    Some(Overlay { at, port: port.unwrap_or(VXLAN_PORT), vni })
}

/// The value of a key however it is spelled; of several the last one, and `null` is absent, as Go's decoder has it.
fn member<'a>(object: &Entries<'a>, key: &str) -> Option<&'a RawValue> {
    let mut values = object.0.iter().rev().filter(|(name, _)| is_spelling(name, key)).map(|(_, value)| *value);
    values.find(|value| value.get() != "null")
}

/// The place of `null`, where there is one, else the one behind `type`, in the manner in which `type` is written.
fn gap(text: &str, plugin: &Entries<'_>, kind: &RawValue) -> Option<Gap> {
    if let Some((_, null)) = plugin.0.iter().rev().find(|(name, _)| is_spelling(name, "vni")) {
        return Some(Gap { place: place(text, null)?, lead: String::new() });
    }
    let Range { start, end } = place(text, kind)?;
    let (key, space) = text.get(..start)?.rsplit_once(':')?;
    // No quote is in the key: it is `type`, with or without escapes.
    let (before, _) = key.trim_end().strip_suffix('"')?.rsplit_once('"')?;
    let indent = before.get(before.trim_end().len()..)?;
    let indent = match indent.rfind('\n') {
        Some(line) => indent.get(line..)?,
        None if indent.is_empty() && !space.is_empty() => " ",
        None => indent,
    };
    let space = if space.contains('\n') { "" } else { space };
    Some(Gap { place: end..end, lead: format!(",{indent}\"vni\":{space}") })
}

/// Where a value stands in the text from which it was read.
fn place(text: &str, value: &RawValue) -> Option<Range<usize>> {
    let start = value.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let place = start..start.checked_add(value.get().len())?;
    (text.get(place.clone())? == value.get()).then_some(place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The text with VNIs from 7 on.
    fn completed(text: &str) -> String {
        let overlays = overlays(text);
        let gaps = overlays.iter().filter_map(|overlay| match &overlay.vni {
            Vni::Absent(gap) => Some(gap),
            Vni::Written(_) => None,
        });
        let vnis: Vec<(&Gap, u32)> = gaps.zip(7..).collect();
        with_vnis(text, &vnis)
    }

    #[test]
    fn a_vni_is_written_in_the_manner_of_the_text_and_nothing_else_changes() {
        for (text, want) in [
            (r#"{"type":"vxlan"}"#, r#"{"type":"vxlan","vni":7}"#),
            (r#"{"type": "vxlan", "mtu": 1.40e3}"#, r#"{"type": "vxlan", "vni": 7, "mtu": 1.40e3}"#),
            (
                r#"{"x":12345678901234567890123, "type":"vxlan" }"#,
                r#"{"x":12345678901234567890123, "type":"vxlan", "vni":7 }"#,
            ),
            (
                "{\n  \"name\": \"a\",\n\n  \"type\" : \"vxlan\",\n  \"ipam\": {}\n}",
                "{\n  \"name\": \"a\",\n\n  \"type\" : \"vxlan\",\n  \"vni\": 7,\n  \"ipam\": {}\n}",
            ),
            ("{\r\n\t\"type\":\n\"vxlan\"}", "{\r\n\t\"type\":\n\"vxlan\",\n\t\"vni\":7}"),
            (r#"{"Type":"vxlan"}"#, r#"{"Type":"vxlan","vni":7}"#),
            (r#"{"t\u0079pe":"v\u0078lan"}"#, r#"{"t\u0079pe":"v\u0078lan","vni":7}"#),
            (r#"{"type":"vxlan","vni": null,"a":1}"#, r#"{"type":"vxlan","vni": 7,"a":1}"#),
            (r#"{"VNI":null,"type":"vxlan"}"#, r#"{"VNI":7,"type":"vxlan"}"#),
            (
                r#"{"name":"n","plugins":[{"type":"vxlan"},{"type":"tuning"},{"type":"vxlan","vni":5},{"type":"vxlan"}]}"#,
                r#"{"name":"n","plugins":[{"type":"vxlan","vni":7},{"type":"tuning"},{"type":"vxlan","vni":5},{"type":"vxlan","vni":8}]}"#,
            ),
        ] {
            assert_eq!(completed(text), want, "{text}");
        }
    }

    #[test]
    fn what_has_a_vni_is_no_overlay_or_cannot_be_read_stays() {
        for text in [
            r#"{"type":"vxlan","vni":4200}"#,
            r#"{"type":"vxlan","VNI":4200}"#,
            r#"{"type":"vxlan","vni":0}"#,
            r#"{"type":"vxlan","vni":"7"}"#,
            r#"{"type":"vxlan","vni":5,"vni":null}"#,
            r#"{"type":"macvlan"}"#,
            r#"{"type":"vxlan2"}"#,
            r#"{"type":7}"#,
            r#"{"plugins":[]}"#,
            r#"{"plugins":[7,"vxlan"]}"#,
            r#"{"delegate":{"type":"vxlan"}}"#,
            "vxlan",
            "[]",
            "{",
            "",
        ] {
            assert_eq!(completed(text), text);
        }
        let long = format!(r#"{{"type":"vxlan","x":"{}"}}"#, "x".repeat(LONGEST));
        assert_eq!(overlays(&long), []);
    }

    #[test]
    fn port_and_vni_are_those_that_the_plugin_reads() {
        let of = |text: &str| overlays(text).remove(0);
        assert_eq!(
            of(r#"{"type":"vxlan","vni":5,"port":8472}"#),
            Overlay { at: String::new(), port: 8472, vni: Vni::Written(Some(5)) }
        );
        for port in ["0", "65536", "\"1\"", "null"] {
            assert_eq!(
                of(&format!(r#"{{"type":"vxlan","vni":16777216,"port":{port}}}"#)),
                Overlay { at: String::new(), port: VXLAN_PORT, vni: Vni::Written(None) }
            );
        }
        assert_eq!(of(r#"{"plugins":[{"type":"bridge"},{"type":"vxlan","vni":5}]}"#).at, "plugins[1]");
    }

    proptest! {
        #[test]
        fn a_completed_text_says_the_same_and_the_vni(
            keys in proptest::collection::vec(("[a-z:\",\\\\{é]{0,6}", "[ -~é\n]{0,8}"), 0..4),
            at in 0usize..4, pretty: bool,
        ) {
            let mut members: Vec<(String, String)> = keys.into_iter().filter(|(key, _)| !["type", "vni", "plugins"].contains(&key.as_str())).collect();
            members.insert(at.min(members.len()), ("type".to_owned(), "vxlan".to_owned()));
            let object: serde_json::Map<String, Value> = members.into_iter().map(|(key, value)| (key, json!(value))).collect();
            let object = Value::Object(object);
            let text = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
            let mut want = object;
            want["vni"] = json!(7);
            let written = completed(&text);
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), want);
            prop_assert_eq!(completed(&written), written);
        }
    }
}
