//! What would have been accepted in place of a value.

use std::borrow::Cow;
use std::fmt;

use ipnet::IpNet;

type Words = Cow<'static, str>;

/// What would have been accepted. [`Allowed`] prints as the words that follow "want"; of a conflict, those that follow the field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// Anything that these words describe: `a veth`.
    Words(Words),
    /// The same, where admission has words of its own for it, which also say what to do.
    Told {
        /// The words that follow "want".
        want: Words,
        /// The whole text of admission.
        told: Words,
    },
    /// A value of this JSON type.
    Typed(JsonType, Words),
    /// An integer from the one to the other.
    Integer(u64, u64),
    /// One of these words.
    OneOf(Vec<&'static str>),
    /// An address of this subnet.
    AddressIn(IpNet),
    /// The value as it is, if it were not for another one.
    Conflict(Conflict),
}

/// Why a value that is right by itself cannot stay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// This other field excludes it.
    With(Words),
    /// Another field would have to be like that.
    Requires {
        /// The other field.
        field: Words,
        /// How it would have to be: `set`, `a path`.
        state: Words,
    },
    /// It has addresses in common with this.
    Overlaps(String),
}

/// The types of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonType {
    /// `{}`
    Object,
    /// `[]`
    Array,
    /// `""`
    String,
    /// `0`
    Number,
    /// `true` and `false`
    Boolean,
    /// `null`
    Null,
}

impl Allowed {
    /// A string of any content.
    pub const STRING: Self = Self::Typed(JsonType::String, Cow::Borrowed("a string"));
    /// A boolean.
    pub const BOOLEAN: Self = Self::Typed(JsonType::Boolean, Cow::Borrowed("true or false"));
    /// An integer of any size.
    pub const INTEGER: Self = Self::Typed(JsonType::Number, Cow::Borrowed("an integer"));
    /// An object.
    pub const OBJECT: Self = Self::Typed(JsonType::Object, Cow::Borrowed("a JSON object"));
    /// A list of strings.
    pub const STRINGS: Self = Self::list("a list of strings");

    /// A list, in words.
    pub const fn list(words: &'static str) -> Self {
        Self::Typed(JsonType::Array, Cow::Borrowed(words))
    }

    /// A number, in words.
    pub const fn number(words: &'static str) -> Self {
        Self::Typed(JsonType::Number, Cow::Borrowed(words))
    }

    /// The words that follow "want", and the whole text of admission.
    pub const fn told(want: &'static str, told: &'static str) -> Self {
        Self::Told { want: Cow::Borrowed(want), told: Cow::Borrowed(told) }
    }

    /// The other field excludes this one.
    pub const fn without(field: &'static str) -> Self {
        Self::Conflict(Conflict::With(Cow::Borrowed(field)))
    }

    /// The other field would have to be like that.
    pub const fn requires(field: &'static str, state: &'static str) -> Self {
        Self::Conflict(Conflict::Requires { field: Cow::Borrowed(field), state: Cow::Borrowed(state) })
    }

    /// It shares addresses with this.
    pub fn apart_from(other: impl fmt::Display) -> Self {
        Self::Conflict(Conflict::Overlaps(other.to_string()))
    }

    /// The JSON type that it asks for, where it asks for one.
    pub const fn json_type(&self) -> Option<JsonType> {
        match self {
            Self::Typed(kind, _) => Some(*kind),
            Self::Integer(..) => Some(JsonType::Number),
            Self::Words(_) | Self::Told { .. } | Self::OneOf(_) | Self::AddressIn(_) | Self::Conflict(_) => None,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(want) | Self::Told { want, .. } | Self::Typed(_, want) => f.write_str(want),
            Self::Integer(least, most) => write!(f, "an integer from {least} to {most}"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::AddressIn(subnet) => write!(f, "an address in {subnet}"),
            Self::Conflict(conflict) => conflict.fmt(f),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::With(field) => write!(f, "cannot be combined with {field}"),
            Self::Requires { field, state } => write!(f, "requires {field} to be {state}"),
            Self::Overlaps(other) => write!(f, "overlaps {other}"),
        }
    }
}

impl From<&'static str> for Allowed {
    fn from(words: &'static str) -> Self {
        Self::Words(Cow::Borrowed(words))
    }
}

impl From<String> for Allowed {
    fn from(words: String) -> Self {
        Self::Words(Cow::Owned(words))
    }
}

impl JsonType {
    /// The type of a JSON text.
    pub fn of(text: &str) -> Self {
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }
}
