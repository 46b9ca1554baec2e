//! Hardware addresses: which one a pod asked for, and a random one where it asked for none.
//!
//! Every Ethernet link in a pod gets its address from us, never from the kernel: the record of an attachment identifies a
//! link by it.

use attachments::cni::object::Object;
use attachments::finding::Finding;
use attachments::names::Mac;

pub(super) use crate::random::mac as random;

const ALLOWED: &str = "a unicast MAC address of six bytes, as 02:00:5e:10:00:01";

/// The address in `key` of a configuration.
pub(super) fn configured(conf: &Object, key: &str) -> std::result::Result<Option<Mac>, Finding> {
    match conf.text(key)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => parse(&text).map(Some).ok_or_else(|| Finding::new(key, format_args!("{text:?}"), ALLOWED)),
    }
}

/// `runtimeConfig.mac`, the value of the capability `mac`.
pub(super) fn from_runtime(conf: &Object) -> std::result::Result<Option<Mac>, Finding> {
    let Some(runtime) = conf.object("runtimeConfig")? else { return Ok(None) };
    configured(&runtime, "mac").map_err(|e| e.under("runtimeConfig"))
}

/// `args.cni.mac`, where older runtimes put it.
pub(super) fn from_args(conf: &Object) -> std::result::Result<Option<Mac>, Finding> {
    let Some(args) = conf.object("args")? else { return Ok(None) };
    let Some(cni) = args.object("cni").map_err(|e| e.under("args"))? else { return Ok(None) };
    configured(&cni, "mac").map_err(|e| e.under("args.cni"))
}

/// `MAC` of CNI_ARGS; the last one counts.
pub(super) fn from_environment(args: &str) -> std::result::Result<Option<Mac>, Finding> {
    let value = args.split(';').filter_map(|pair| pair.split_once('=')).rev().find(|(key, _)| *key == "MAC");
    match value {
        None | Some((_, "")) => Ok(None),
        Some((_, text)) => {
            parse(text).map(Some).ok_or_else(|| Finding::new("CNI_ARGS MAC", format_args!("{text:?}"), ALLOWED))
        }
    }
}

/// The kernel takes no group address and no zero for a link.
fn parse(text: &str) -> Option<Mac> {
    text.parse().ok().filter(|mac: &Mac| mac.is_station())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_source_is_read_and_named_when_it_is_wrong() {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(configured(&conf(r#"{"mac":"02:00:00:00:00:01"}"#), "mac"), Ok(mac));
        assert_eq!(from_runtime(&conf(r#"{"runtimeConfig":{"mac":"0200.0000.0001"}}"#)), Ok(mac));
        assert_eq!(from_args(&conf(r#"{"args":{"cni":{"mac":"02-00-00-00-00-01"}}}"#)), Ok(mac));
        assert_eq!(from_environment("IgnoreUnknown=1;MAC=02:00:00:00:00:01"), Ok(mac));
        for none in ["{}", r#"{"runtimeConfig":{}}"#, r#"{"runtimeConfig":{"mac":""}}"#] {
            assert_eq!(from_runtime(&conf(none)), Ok(None), "{none}");
        }
        assert_eq!(from_environment("K=v;MAC="), Ok(None));
        let wrong = from_args(&conf(r#"{"args":{"cni":{"mac":"01:00:5e:00:00:01"}}}"#)).unwrap_err();
        assert!(wrong.to_string().starts_with(r#"args.cni.mac: got "01:00:5e:00:00:01", want a unicast"#), "{wrong}");
        assert!(from_runtime(&conf(r#"{"runtimeConfig":{"mac":7}}"#)).is_err());
        assert!(from_environment("MAC=00:00:00:00:00:00").is_err());
    }

    #[test]
    fn random_addresses_are_local_and_unicast() {
        let (a, b) = (random().unwrap(), random().unwrap());
        assert_eq!(a.0[0] & 3, 2);
        assert_ne!(a, b);
    }
}
