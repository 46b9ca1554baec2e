//! Keys in other spellings: the one place that knows which keys are the same.
//!
//! Go's decoder matches a key in any case, by Unicode's simple folding (`VLANID`, and `ſ` for `s`), so what works with the
//! reference plugins is read here too. What is read must be what was checked: a [`Known`] gives an object in which every key
//! that some reader knows is spelled as that reader spells it, and an object that has one key in two spellings is refused,
//! for readers differ in which of them counts. An object whose keys are spelled right is neither copied nor rebuilt.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::object::{Entries, Object, fold};
use super::plain;
use super::result::Dns;
use crate::finding::Finding;
use crate::rule::Rule;

/// Deeper nesting than any reader's; beyond it a search would cost a tenant nothing and us the stack.
const DEEPEST: usize = 32;

/// The keys that are known in an object.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Lists of keys; the last one is what is the reader's own.
    pub keys: &'a [&'a [&'static str]],
    /// What is known in the objects that a key holds, in lists of any depth too.
    pub inside: &'a [(&'static str, &'a Known<'a>)],
    /// The reader of the object ignores every other key.
    pub only: bool,
}

/// A key that is not as its reader spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// Path of the key as it is written.
    pub path: String,
    /// The key as it is written; for what cannot be read, the text.
    pub key: String,
    /// What is wrong.
    pub kind: SlipKind,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlipKind {
    /// It is read as this one.
    Other(&'static str),
    /// The object has this key before, spelled differently.
    Twice {
        /// As its reader spells it.
        meant: &'static str,
        /// The spelling that came before.
        before: String,
    },
    /// The object cannot be searched: nesting without end, or a string that is no Unicode.
    Unreadable,
}

/// Keys of the top of a list; `lockedArgs` is ours, read from a definition.
pub const OF_LIST: [&str; 9] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "plugins",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "lockedArgs",
];

/// Keys that every plugin's configuration may have, beside those of a list.
pub const OF_PLUGIN: [&str; 2] = ["args", "capabilities"];

/// Keys of which only the runtime may speak; they are taken out before a plugin sees them.
pub const OF_RUNTIME: [&str; 2] = ["runtimeConfig", "prevResult"];

/// Keys that most plugins share, whatever else they read, and those by which one plugin calls another.
const USUAL: [&str; 7] = ["ipam", "dns", "master", "mode", "mtu", "delegate", "delegates"];

/// Keys that most IPAM programs share.
const USUAL_IPAM: [&str; 8] = ["type", "subnet", "ranges", "range", "routes", "gateway", "dataDir", "resolvConf"];

/// What runtimes have to give; the value of each in `capabilities` says whether the plugin takes it.
const CAPABILITY: [&str; 10] = [
    "portMappings",
    "ipRanges",
    "bandwidth",
    "dns",
    "mac",
    "ips",
    "infinibandGUID",
    "deviceID",
    "aliases",
    "CNIDeviceInfoFile",
];

/// The top of a list.
pub static LIST: Known<'static> = Known { keys: &[&OF_LIST], inside: &[], only: false };

/// The configuration of any plugin, built in or a program: what the protocol knows, and what nearly every plugin reads.
pub static PLUGIN: Known<'static> = Known {
    keys: &[&OF_LIST, &OF_PLUGIN, &OF_RUNTIME, &USUAL],
    inside: &[
        ("ipam", &IPAM),
        ("dns", &DNS),
        ("args", &ARGS),
        ("capabilities", &CAPABILITIES),
        ("delegate", &PLUGIN),
        ("delegates", &PLUGIN),
    ],
    only: false,
};

/// The `ipam` section of a program.
pub static IPAM: Known<'static> = Known { keys: &[&USUAL_IPAM], inside: &[("dns", &DNS)], only: false };

/// `dns`.
pub static DNS: Known<'static> = Known { keys: &[&Dns::KEYS], inside: &[], only: true };

/// `args`, whose inside belongs to the plugin.
pub static ARGS: Known<'static> = Known { keys: &[&["cni"]], inside: &[], only: false };

/// `capabilities`.
pub static CAPABILITIES: Known<'static> = Known { keys: &[&CAPABILITY], inside: &[], only: false };

impl<'a> Known<'a> {
    /// An object with these keys and nothing known inside of them.
    pub const fn of(keys: &'a [&'a [&'static str]]) -> Self {
        Self { keys, inside: &[], only: true }
    }

    /// The object with every known key spelled as here, or nothing where every key is so already. Each other spelling is
    /// shown to `see`; of two spellings the last counts.
    pub fn respell(&self, object: &Object, see: &mut dyn FnMut(Slip)) -> Option<Object> {
        if self.is_plain(object) {
            return None;
        }
        let mut respelling = Respelling { see, changed: false };
        let respelled = respelling.object(self, "", object.iter(), DEEPEST);
        respelling.changed.then_some(respelled)
    }

    /// The same for a reader to whom other spellings are welcome, and two of one key are not.
    pub fn read<'o>(&self, object: &'o Object) -> Result<Cow<'o, Object>, Finding> {
        let mut refusal = None;
        let respelled = self.respell(object, &mut |slip| {
            if refusal.is_none() {
                refusal = slip.refusal();
            }
        });
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(respelled.map_or(Cow::Borrowed(object), Cow::Owned)),
        }
    }

    /// Is every known key spelled as here? May say no where it is; allocates nothing.
    pub fn is_plain(&self, object: &Object) -> bool {
        object.iter().all(|(key, value)| match self.meant(key) {
            Some(meant) if meant != key => false,
            Some(meant) => self.within(meant).is_none_or(|known| plain::is_plain(known, value)),
            None => true,
        })
    }

    /// The known key that a key stands for.
    pub fn meant(&self, key: &str) -> Option<&'static str> {
        let all = self.keys.iter().copied().flatten().copied();
        all.clone().find(|known| *known == key).or_else(|| all.clone().find(|known| is_spelling(key, known)))
    }

    /// What is known inside of a key's value.
    pub fn within(&self, key: &str) -> Option<&'a Known<'a>> {
        self.inside.iter().find(|(name, _)| *name == key).map(|(_, known)| *known)
    }
}

impl Slip {
    /// The same slip seen from an enclosing document.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        let Finding { path, .. } = Finding::missing(self.path, "").under(prefix);
        Self { path, ..self }
    }

    /// What no reader may be left alone with.
    pub fn refusal(&self) -> Option<Finding> {
        match &self.kind {
            SlipKind::Other(_) => None,
            SlipKind::Twice { meant, before } => {
                let value = format!("{:?} beside {before:?}", self.key);
                let allowed = format!("one of them, spelled {meant:?}");
                Some(Finding::new(self.path.as_str(), value, allowed).of(Rule::KeySpelling))
            }
            SlipKind::Unreadable => {
                let allowed = format!("JSON whose strings are Unicode, of at most {DEEPEST} levels");
                Some(Finding::new(self.path.as_str(), &self.key, allowed))
            }
        }
    }
}

/// Does Go's decoder take one for the other? `known` is ASCII; only two other letters fold into ASCII.
pub fn is_spelling(key: &str, known: &str) -> bool {
    if key.len() == known.len() {
        return key.eq_ignore_ascii_case(known);
    }
    // LATIN SMALL LETTER LONG S has two bytes, KELVIN SIGN three.
    key.len() > known.len() && key.len() <= 3 * known.len() && key.chars().map(ascii).eq(known.chars().map(ascii))
}

fn ascii(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

/// An object whose keys nobody here knows has none of them in two spellings.
pub fn one_of_each(object: &Object) -> Result<(), Finding> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (key, _) in object.iter() {
        if let Some(before) = seen.insert(fold(key), key) {
            let value = format!("{key:?} beside {before:?}");
            return Err(Finding::new(key, value, "one of them").of(Rule::KeySpelling));
        }
    }
    Ok(())
}

struct Respelling<'s> {
    see: &'s mut dyn FnMut(Slip),
    /// Some key was spelled otherwise.
    changed: bool,
}

impl Respelling<'_> {
    fn object<'e>(
        &mut self,
        known: &Known<'_>,
        at: &str,
        entries: impl Iterator<Item = (&'e str, &'e RawValue)>,
        depth: usize,
    ) -> Object {
        let mut seen: HashMap<&'static str, &str> = HashMap::new();
        let mut respelled: Vec<(String, Box<RawValue>)> = Vec::new();
        for (key, value) in entries {
            let Some(meant) = known.meant(key) else {
                respelled.push((key.to_owned(), value.to_owned()));
                continue;
            };
            let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
            let before = seen.insert(meant, key).filter(|before| *before != key);
            let kind = match before {
                Some(before) => Some(SlipKind::Twice { meant, before: before.to_owned() }),
                None => (meant != key).then_some(SlipKind::Other(meant)),
            };
            if let Some(kind) = kind {
                self.slip(path.clone(), key, kind);
            }
            let inside = known.within(meant).and_then(|known| self.value(known, &path, value, depth));
            respelled.push((meant.to_owned(), inside.unwrap_or_else(|| value.to_owned())));
        }
        respelled.into_iter().collect()
    }

    /// The value where something in it has changed.
    fn value(&mut self, known: &Known<'_>, at: &str, value: &RawValue, depth: usize) -> Option<Box<RawValue>> {
        if plain::is_plain(known, value) {
            return None;
        }
        let text = value.get();
        let outer = std::mem::take(&mut self.changed);
        let respelled = match (text.as_bytes().first(), depth.checked_sub(1)) {
            (Some(b'{'), Some(depth)) => serde_json::from_str(text).ok().map(|Entries(entries)| {
                let entries = entries.iter().map(|(key, value)| (key.as_str(), *value));
                self.object(known, at, entries, depth).to_json()
            }),
            (Some(b'['), Some(depth)) => serde_json::from_str(text).ok().map(|elements: Vec<&RawValue>| {
                let each = |(i, value): (usize, &&RawValue)| {
                    let inside = self.value(known, &format!("{at}[{i}]"), value, depth);
                    inside.map_or_else(|| value.get().to_owned(), |inside| inside.get().to_owned())
                };
                let elements: Vec<String> = elements.iter().enumerate().map(each).collect();
                format!("[{}]", elements.join(","))
            }),
            (Some(b'{' | b'['), None) => None,
            // A value that holds no object is its reader's matter.
            _ => Some(String::new()),
        };
        let changed = std::mem::replace(&mut self.changed, outer);
        let Some(respelled) = respelled else {
            self.slip(at.to_owned(), text, SlipKind::Unreadable);
            return None;
        };
        self.changed |= changed;
        if changed { RawValue::from_string(respelled).ok() } else { None }
    }

    fn slip(&mut self, path: String, key: &str, kind: SlipKind) {
        self.changed |= kind != SlipKind::Unreadable;
        (self.see)(Slip { path, key: key.to_owned(), kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    fn respelled(known: &Known<'_>, text: &str) -> (String, Vec<String>) {
        let object = object(text);
        let mut slips = Vec::new();
        let respelled = known.respell(&object, &mut |slip| slips.push(format!("{} {:?}", slip.path, slip.kind)));
        (respelled.unwrap_or(object).to_json(), slips)
    }

    static RANGES: Known<'static> = Known::of(&[&["subnet", "rangeStart"]]);
    static SECTION: Known<'static> = Known { keys: &[&["type", "ranges"]], inside: &[("ranges", &RANGES)], only: true };
    static TOP: Known<'static> =
        Known { keys: &[&["vlanId", "task", "ipam"]], inside: &[("ipam", &SECTION)], only: true };

    #[test]
    fn what_is_spelled_right_is_not_touched() {
        for text in [
            "{}",
            r#"{"vlanId":1,"other":{"TYPE":1},"ipam":{"type":"x","ranges":[[{"subnet":"y","Unknown":{"Subnet":1}}],7,null]}}"#,
            r#"{"ipam":"text","vlanId":1,"vlanid ":2}"#,
        ] {
            assert!(TOP.respell(&object(text), &mut |slip| panic!("{slip:?}")).is_none(), "{text}");
        }
        assert!(TOP.is_plain(&object(r#"{"vlanId":1,"ipam":{"ranges":[[{"subnet":1.5}]]}}"#)));
    }

    #[test]
    fn keys_are_read_in_any_case_at_any_depth_and_values_keep_their_bytes() {
        let text = "{\"VLANID\":1.50,\"Other\":1,\"ta\u{17f}\u{212a}\":2,\"ipam\":{\"Ranges\":[[{\"SUBNET\":\"\\u0061\", \"x\" : 1e400}]]}}";
        let (json, slips) = respelled(&TOP, text);
        assert_eq!(json, r#"{"vlanId":1.50,"Other":1,"task":2,"ipam":{"ranges":[[{"subnet":"\u0061","x":1e400}]]}}"#);
        let want = [
            "VLANID Other(\"vlanId\")",
            "ta\u{17f}\u{212a} Other(\"task\")",
            "ipam.Ranges Other(\"ranges\")",
            "ipam.Ranges[0][0].SUBNET Other(\"subnet\")",
        ];
        assert_eq!(slips, want);
    }

    #[test]
    fn letters_that_go_tells_apart_are_other_keys() {
        for other in ["vlanid2", "vlan_id", "ta\u{df}", "VLAN\u{131}D", "vl\u{e4}nId"] {
            assert_eq!(TOP.meant(other), None, "{other}");
        }
        assert!(is_spelling("\u{17f}\u{212a}", "Sk") && !is_spelling("", "s") && !is_spelling("sk", "\u{17f}"));
    }

    #[test]
    fn two_spellings_are_refused_wherever_they_are() {
        let refusal = |text: &str| TOP.read(&object(text)).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"vlanId":1,"VLANID":2}"#),
            r#"VLANID: got "VLANID" beside "vlanId", want one of them, spelled "vlanId""#
        );
        assert!(refusal(r#"{"VLANID":1,"vlanId":2}"#).starts_with(r#"vlanId: got "vlanId" beside "VLANID""#));
        assert!(refusal(r#"{"VLANID":1,"vlanid":2}"#).starts_with(r#"vlanid: got "vlanid" beside "VLANID""#));
        let deep = r#"{"ipam":{"ranges":[[{}],[{"subnet":1,"Subnet":2}]]}}"#;
        assert!(refusal(deep).starts_with("ipam.ranges[1][0].Subnet: got"), "{}", refusal(deep));
        assert!(TOP.read(&object(r#"{"ipam":{"type":1,"type":2}}"#)).is_ok(), "one spelling twice: the last counts");
        assert!(TOP.read(&object(r#"{"x":{"type":1,"TYPE":2}}"#)).is_ok(), "nobody's keys");
        assert_eq!(respelled(&TOP, r#"{"vlanId":1,"VLANID":2,"x":3}"#).0, r#"{"vlanId":2,"x":3}"#);
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        let nested = format!(r#"{{"ipam":{{"ranges":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(TOP.read(&object(&nested)).unwrap_err().to_string().contains("at most 32 levels"));
        assert!(TOP.read(&object(r#"{"ipam":{"\ud800":1,"type":1,"TYPE":2}}"#)).is_err());
        assert!(TOP.read(&object(r#"{"other":{"\ud800":1}}"#)).is_ok());
    }

    #[test]
    fn keys_of_nobody_are_compared_by_folding_too() {
        assert_eq!(one_of_each(&object(r#"{"ips":1,"mac":2}"#)), Ok(()));
        let refusal = one_of_each(&object(r#"{"ips":1,"IPS":2}"#)).unwrap_err().to_string();
        assert_eq!(refusal, r#"IPS: got "IPS" beside "ips", want one of them"#);
    }

    #[test]
    fn plugins_that_call_plugins_are_known_inside() {
        let refusal = |text: &str| PLUGIN.read(&object(text)).unwrap_err().path;
        assert_eq!(refusal(r#"{"type":"x","delegate":{"type":"a","Type":"b"}}"#), "delegate.Type");
        let deep = r#"{"delegates":[{"delegate":{"ipam":{"type":"a","TYPE":"b"}}}]}"#;
        assert_eq!(refusal(deep), "delegates[0].delegate.ipam.TYPE");
        assert_eq!(refusal(r#"{"capabilities":{"ips":true,"IPs":false}}"#), "capabilities.IPs");
    }
}
