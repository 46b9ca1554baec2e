mod admission;
mod limits;
mod lists;
mod networks;
mod reserved;

use serde_json::Value;

use crate::cni::object::Object;
use crate::dialect::objects::{ForeignRef, Kind, Objects};
use crate::names::ObjectName;

fn shop() -> ObjectName {
    "shop".parse().unwrap()
}

fn object(value: &Value) -> Object {
    Object::parse(value.to_string().as_bytes()).unwrap()
}

fn reference(kind: Kind, name: &str) -> ForeignRef {
    ForeignRef::within(&shop(), kind, name.parse().unwrap())
}

fn objects<const N: usize>(all: [(Kind, &str, Value); N]) -> Objects {
    all.into_iter().map(|(kind, name, spec)| (reference(kind, name), spec.to_string())).collect()
}
