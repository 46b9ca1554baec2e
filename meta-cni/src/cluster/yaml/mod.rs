//! YAML, from a parser's events to values and back. The plugin needs no more of YAML than a manifest has, so it carries no
//! deserializer for types.

mod read;
mod write;

pub use self::read::read;
pub use self::write::write;
