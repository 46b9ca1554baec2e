//! Network configurations: one plugin, or a list of them (CNI SPEC 1.1.0, section 1).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::object::Object;
use super::result::CniResult;
use super::spelling::{LIST, OF_RUNTIME, PLUGIN, is_spelling};
use super::version::{Version, parse_numbers};
use crate::finding::{Allowed, Finding};
use crate::names::{NetworkName, PluginType};
use crate::rule::Rule;

/// A network configuration. A single-plugin configuration is a list of one (C9).
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConf {
    /// Name of the network; absent in many NADs, where the definition's name is injected (R7).
    pub name: Option<NetworkName>,
    /// The version that is spoken with the plugins, chosen from `cniVersion` and `cniVersions` (C7).
    pub version: Version,
    /// `disableCheck`: CHECK succeeds without a call.
    pub disable_check: bool,
    /// `disableGC`: GC succeeds without a call.
    pub disable_gc: bool,
    /// `loadOnlyInlinedPlugins`: the sibling directory of a file is ignored (C6).
    pub load_only_inlined: bool,
    /// The plugins in order. Empty only when `plugins` was absent; see [`NetworkConf::require_plugins`].
    pub plugins: Vec<PluginConf>,
}

/// The configuration of one plugin. As JSON it is its own document, byte for byte, but for the spelling of `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Object", into = "Object")]
pub struct PluginConf {
    /// `type`: which plugin.
    pub kind: PluginType,
    /// The capabilities that it declares as true.
    pub capabilities: Vec<String>,
    /// Every key as received. What is read of a program's configuration here or elsewhere, is read by
    /// [`PLUGIN`]: the program may take `Type` for `type`.
    pub object: Object,
}

/// What a runtime adds to one plugin's configuration before it calls the plugin (C11-C15).
#[derive(Clone, Debug, Default)]
pub struct Injection<'a> {
    /// Result of the plugin before (ADD), or of the whole ADD (CHECK, DEL).
    pub prev_result: Option<&'a CniResult>,
    /// Everything that the runtime could supply; the plugin gets the capabilities that it declares.
    pub runtime_config: Option<&'a Object>,
    /// GC: the attachments that are still valid.
    pub valid_attachments: Option<&'a RawValue>,
}

impl NetworkConf {
    /// Parses a configuration or a list. Findings carry the path from the top of the text.
    ///
    /// ```
    /// use attachments::cni::conf::NetworkConf;
    ///
    /// let conf = NetworkConf::parse(br#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan"}, {"type": "tuning"}]}"#)?;
    /// assert_eq!(conf.plugins.len(), 2);
    /// let refused = NetworkConf::parse(br#"{"name": "lan", "plugins": "macvlan"}"#).unwrap_err();
    /// assert!(refused.to_string().starts_with("plugins: got \"macvlan\", want "));
    /// # Ok::<(), attachments::finding::Finding>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let object = Object::parse(bytes)
            .map_err(|e| Finding::new("", format_args!("invalid JSON ({e})"), "a CNI configuration: a JSON object"))?;
        Self::from_object(object)
    }

    /// The same, from a document that is parsed already.
    pub fn from_object(object: Object) -> Result<Self, Finding> {
        let read = LIST.read(&object)?;
        let name = read.parsed("name", NetworkName::ALLOWED).map_err(|e| e.of(Rule::NetworkName))?;
        let version = select_version(&read)?;
        let disable_check = lenient_flag(&read, "disableCheck")?;
        let disable_gc = lenient_flag(&read, "disableGC")?;
        let load_only_inlined = lenient_flag(&read, "loadOnlyInlinedPlugins")?;
        let listed = read.get("plugins").is_some();
        let plugins = if listed {
            parse_list(&read)?
        } else if read.get("type").is_some() {
            vec![PluginConf::from_object(object)?]
        } else if name.is_some() && !load_only_inlined {
            Vec::new()
        } else {
            return Err(Finding::missing("type", "a plugin type, or a list `plugins`").of(Rule::NoType));
        };
        Ok(Self { name, version, disable_check, disable_gc, load_only_inlined, plugins })
    }

    /// A network without a plugin cannot be attached (C5).
    pub fn require_plugins(&self) -> Result<(), Finding> {
        if self.plugins.is_empty() {
            return Err(Finding::missing("plugins", "at least one plugin").of(Rule::NoPlugins));
        }
        Ok(())
    }

    /// True when some plugin of the chain declares the capability (R24).
    pub fn declares(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.declares(capability))
    }
}

impl TryFrom<Object> for PluginConf {
    type Error = Finding;

    /// Reads what a record holds: what nobody refused when it was made does not keep it from being undone.
    fn try_from(object: Object) -> Result<Self, Finding> {
        let (kind, capabilities) = match PLUGIN.read(&object) {
            Ok(read) => head(&read, PluginType::found)?,
            Err(_) => head(&object, PluginType::found)?,
        };
        Ok(Self { kind, capabilities, object })
    }
}

impl From<PluginConf> for Object {
    fn from(plugin: PluginConf) -> Self {
        plugin.object
    }
}

impl PluginConf {
    /// Parses one plugin's configuration. Two spellings of a key that any plugin may have are refused.
    pub fn from_object(mut object: Object) -> Result<Self, Finding> {
        let (kind, capabilities) = head(&*PLUGIN.read(&object)?, str::parse)?;
        // A record is read by this name.
        object.respell("type");
        Ok(Self { kind, capabilities, object })
    }

    /// True when the plugin declares the capability as true.
    pub fn declares(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    /// The document that the plugin reads: its own keys untouched, the runtime's keys set, everything that only a
    /// runtime may say removed first (C8, C11-C15). Fails only where a result cannot be said in `version`.
    pub fn request(&self, name: &NetworkName, version: Version, injection: &Injection<'_>) -> Result<Object, Finding> {
        let mut object = self.object.clone();
        object.retain(|key| !is_of_runtime(key) && !is_spelling(key, "capabilities") && !is_other_spelling(key));
        object.set("cniVersion", &version.as_str());
        object.set("name", name);
        if let Some(offered) = injection.runtime_config {
            let mut given = offered.clone();
            given.retain(|capability| self.declares(capability));
            if !given.is_empty() {
                object.set("runtimeConfig", &given);
            }
        }
        if let Some(result) = injection.prev_result {
            object.set("prevResult", &result.encode(version)?);
        }
        if let Some(valid) = injection.valid_attachments {
            object.set("cni.dev/valid-attachments", &valid);
            // libcni sends the set under both names; plugins in the field read either.
            object.set("cni.dev/attachments", &valid);
        }
        Ok(object)
    }
}

/// Is it a key of which only the runtime may speak? In any case: a Go plugin would read `RuntimeConfig` as its word.
pub fn is_of_runtime(key: &str) -> bool {
    const PREFIX: &[u8] = b"cni.dev/";
    // No other letter folds into one of these.
    OF_RUNTIME.iter().any(|known| is_spelling(key, known))
        || key.as_bytes().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Of what is set for every plugin, another spelling would be a second word beside it.
fn is_other_spelling(key: &str) -> bool {
    ["name", "cniVersion"].iter().any(|known| key != *known && is_spelling(key, known))
}

/// `type`, and the capabilities that are declared as true.
fn head(
    object: &Object,
    kind: impl Fn(&str) -> Result<PluginType, Finding>,
) -> Result<(PluginType, Vec<String>), Finding> {
    let kind = match object.text("type")? {
        Some(text) => kind(&text).map_err(|e| e.under("type"))?,
        None => return Err(Finding::missing("type", PluginType::ALLOWED).of(Rule::NoType)),
    };
    let declared = object.object("capabilities")?.unwrap_or_default();
    let mut capabilities = Vec::new();
    for (capability, value) in declared.iter() {
        match value.get() {
            "true" => capabilities.push(capability.to_owned()),
            "false" => {}
            other => return Err(Finding::unread(format!("capabilities.{capability}"), other, Allowed::BOOLEAN)),
        }
    }
    Ok((kind, capabilities))
}

fn parse_list(object: &Object) -> Result<Vec<PluginConf>, Finding> {
    let plugins = object.objects("plugins")?;
    if plugins.is_empty() {
        return Err(Finding::new("plugins", "[]", "at least one plugin").of(Rule::NoPlugins));
    }
    let each = |(i, plugin)| PluginConf::from_object(plugin).map_err(|e| e.under(&format!("plugins[{i}]")));
    plugins.into_iter().enumerate().map(each).collect()
}

/// `cniVersion` alone is taken as it is; with `cniVersions` the highest that we speak of both is chosen (C7).
fn select_version(object: &Object) -> Result<Version, Finding> {
    let single = object.decode::<String>("cniVersion", Version::ALLOWED)?;
    let Some(offered) = object.decode::<Vec<String>>("cniVersions", Allowed::list("a list of version strings"))? else {
        return single.unwrap_or_default().parse();
    };
    let mut best: Option<Version> = None;
    let from_list = offered.iter().enumerate().map(|(i, text)| (format!("cniVersions[{i}]"), text));
    let from_single = single.iter().map(|text| ("cniVersion".to_owned(), text));
    for (path, text) in from_list.chain(from_single) {
        if parse_numbers(text).is_none() {
            return Err(Finding::new(path, format_args!("{text:?}"), "a version of up to three numbers"));
        }
        best = best.max(text.parse().ok());
    }
    best.ok_or_else(|| Finding::new("cniVersions", offered.join(", "), Version::ALLOWED))
}

/// libcni reads these three booleans also as strings in any case (C1).
fn lenient_flag(object: &Object, key: &str) -> Result<bool, Finding> {
    let Some(value) = object.get(key) else { return Ok(false) };
    match value.get().trim_matches('"').to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Finding::unread(key, value.get(), Allowed::BOOLEAN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkConf, Finding> {
        NetworkConf::parse(text.as_bytes())
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let conf = parse(r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","x":1}"#).unwrap();
        assert_eq!(conf.plugins.len(), 1);
        assert_eq!(conf.version, Version::V1_0_0);
    }

    #[test]
    fn refusals_name_the_field() {
        assert_eq!(refusal(r#"{"name":"n","plugins":[]}"#), "plugins: got [], want at least one plugin");
        assert_eq!(refusal(r#"{"plugins":[{"type":"a"},{}]}"#).split(':').next(), Some("plugins[1].type"));
        assert!(refusal(r#"{"type":"../sh"}"#).starts_with("type: got \"../sh\""));
        assert!(refusal(r#"{"name":"a b","type":"x"}"#).starts_with("name: got \"a b\""));
        assert!(refusal(r#"{"cniVersion":7,"type":"x"}"#).starts_with("cniVersion: got 7"));
        assert!(refusal(r#"{"type":"x","capabilities":{"mac":1}}"#).starts_with("capabilities.mac: got 1"));
        assert!(refusal(r#"{"type":"x","disableGC":"perhaps"}"#).starts_with("disableGC: got \"perhaps\""));
        assert!(refusal(r#"{"type":"x""#).contains("invalid JSON"));
        assert!(refusal("{}").starts_with("type: missing"));
    }

    #[test]
    fn the_highest_offered_version_is_chosen() {
        let version = |text: &str| parse(text).map(|conf| conf.version);
        let offer = |list: &str| format!(r#"{{"cniVersion":"0.4.0","cniVersions":{list},"type":"x"}}"#);
        assert_eq!(version(&offer(r#"["1.0.0","9.0.0"]"#)), Ok(Version::V1_0_0));
        assert_eq!(version(&offer("[]")), Ok(Version::V0_4_0));
        assert!(version(&offer(r#"["1.x"]"#)).is_err());
        assert!(version(r#"{"cniVersions":["9.0.0"],"type":"x"}"#).is_err());
        assert!(version(r#"{"cniVersion":"9.0.0","type":"x"}"#).is_err());
        assert_eq!(version(r#"{"type":"x"}"#), Ok(Version::V0_1_0));
    }

    #[test]
    fn plugins_may_be_absent_until_they_are_needed() {
        let conf = parse(r#"{"name":"n"}"#).unwrap();
        assert!(conf.require_plugins().is_err());
        assert!(parse(r#"{"name":"n","loadOnlyInlinedPlugins":"True"}"#).is_err());
    }

    #[test]
    fn a_request_keeps_unknown_keys_and_owns_the_reserved_ones() {
        let conf = parse(
            r#"{"type":"x","NAME":"inner","cniVersion":"0.1.0","big":12345678901234567890,"capabilities":{"mac":true,"ips":false},
                "RunTimeConfig":{"evil":2},"PREVRE\u017fULT":{},"CNI.dev/x":1,"args":{"cni":{"a":1}}}"#,
        )
        .unwrap();
        let offered = Object::parse(br#"{"mac":"02:00:00:00:00:01","ips":["10.0.0.1/24"],"other":1}"#).unwrap();
        let injection = Injection { runtime_config: Some(&offered), ..Injection::default() };
        let name = "outer".parse().unwrap();
        let request = conf.plugins[0].request(&name, Version::V1_1_0, &injection).unwrap();
        assert_eq!(
            request.to_json(),
            r#"{"type":"x","cniVersion":"1.1.0","big":12345678901234567890,"args":{"cni":{"a":1}},"name":"outer","runtimeConfig":{"mac":"02:00:00:00:00:01"}}"#
        );
    }

    #[test]
    fn keys_are_read_in_any_case_and_a_program_gets_them_as_they_are() {
        let conf = parse(
            r#"{"CNIVersion":"0.4.0","Name":"n","DisableGC":true,"Plugins":[{"TYPE":"x","Capabilities":{"ips":true},"IPAM":{"Type":"y"}}]}"#,
        )
        .unwrap();
        assert_eq!((conf.version, conf.name, conf.disable_gc), (Version::V0_4_0, "n".parse().ok(), true));
        let plugin = &conf.plugins[0];
        assert!(plugin.kind.as_str() == "x" && plugin.declares("ips"));
        assert_eq!(plugin.object.to_json(), r#"{"type":"x","Capabilities":{"ips":true},"IPAM":{"Type":"y"}}"#);
        let single = parse(r#"{"Type":"x","NAME":"n"}"#).unwrap();
        assert_eq!((single.plugins[0].kind.as_str(), single.name), ("x", "n".parse().ok()));
    }

    #[test]
    fn two_spellings_are_refused_and_yet_read_from_a_record() {
        assert!(
            refusal(r#"{"name":"mine","NAME":"cbr0","type":"x"}"#).starts_with("NAME: got \"NAME\" beside \"name\"")
        );
        assert!(refusal(r#"{"name":"n","plugins":[],"Plugins":[]}"#).starts_with("Plugins: got"));
        let plugin = |keys: &str| format!(r#"{{"name":"n","plugins":[{{"type":"x"}},{{"type":"y",{keys}}}]}}"#);
        for keys in [r#""TYPE":"z""#, r#""ipam":{"type":"a","Type":"b"}"#, r#""delegate":{},"Delegate":{}"#] {
            assert!(refusal(&plugin(keys)).starts_with("plugins[1]."), "{keys}");
        }
        let recorded: PluginConf = serde_json::from_str(r#"{"TYPE":"z","type":"a b","NAME":"m","name":"n"}"#).unwrap();
        assert_eq!(recorded.kind.as_str(), "a b");
    }
}
