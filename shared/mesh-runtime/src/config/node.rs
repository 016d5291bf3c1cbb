//! A configuration as a tree. Text of the environment becomes what its field wants: a number, a truth,
//! a list by commas; values of a file keep their type.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// From the environment.
    Text(String),
    /// From a file: null, a truth, a number, a text.
    Scalar(Value),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => Self::Table(
                fields
                    .into_iter()
                    .map(|(key, value)| (key, Self::from(value)))
                    .collect(),
            ),
            scalar => Self::Scalar(scalar),
        }
    }
}

impl Node {
    /// Puts `node` at `path`, making tables on the way; what was there before is replaced.
    pub(super) fn put(&mut self, path: &[String], node: Node) {
        let Some((key, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self, Self::Table(_)) {
            *self = Self::Table(BTreeMap::new());
        }
        if let Self::Table(fields) = self {
            fields
                .entry(key.clone())
                .or_insert_with(|| Self::Table(BTreeMap::new()))
                .put(rest, node);
        }
    }

    /// Takes a key out of a table; false where there is none.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        match self {
            Self::Table(fields) => fields.remove(key).is_some(),
            _ => false,
        }
    }
}

/// What is wrong with a value; the path to it is known outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    /// Never quotes the value: it may be a secret in the wrong place.
    Value(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Self::Value(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Value(format!("must be {expected}"))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Value(format!("must be {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey {
            key: field.to_owned(),
            known: expected,
        }
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Fault> {
    text.trim().parse().map_err(|_| Fault::Value(format!("must be {what}")))
}

/// JSON in the environment, for lists of tables and the like.
fn json(text: &str) -> Result<Node, Fault> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| Fault::Value(format!("is no valid JSON: {error}")))?;
    Ok(value.into())
}

macro_rules! from_text {
    ($($method:ident, $visit:ident, $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self {
                Node::Text(text) => visitor.$visit(parsed::<$type>(text, $what)?),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) => visitor.visit_string(text),
            Self::Scalar(Value::String(text)) => visitor.visit_string(text),
            Self::Scalar(scalar) => scalar
                .deserialize_any(visitor)
                .map_err(|error| Fault::Value(error.to_string())),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Table(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter())),
        }
    }

    from_text! {
        deserialize_i8, visit_i64, i64, "a whole number";
        deserialize_i16, visit_i64, i64, "a whole number";
        deserialize_i32, visit_i64, i64, "a whole number";
        deserialize_i64, visit_i64, i64, "a whole number";
        deserialize_u8, visit_u64, u64, "a whole number, not negative";
        deserialize_u16, visit_u64, u64, "a whole number, not negative";
        deserialize_u32, visit_u64, u64, "a whole number, not negative";
        deserialize_u64, visit_u64, u64, "a whole number, not negative";
        deserialize_f32, visit_f64, f64, "a number";
        deserialize_f64, visit_f64, f64, "a number";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self {
            Self::Text(text) => visitor.visit_bool(super::parse_bool(text).map_err(Fault::Value)?),
            _ => self.deserialize_any(visitor),
        }
    }

    /// An empty text of the environment is `None`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self {
            Self::Scalar(Value::Null) => visitor.visit_none(),
            Self::Text(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self {
            Self::Text(text) if text.trim_start().starts_with('[') => json(text)?.deserialize_any(visitor),
            Self::Text(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let items: Vec<_> = items.map(|item| Self::Text(item.to_owned())).collect();
                Self::List(items).deserialize_any(visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self {
            Self::Text(text) if text.trim_start().starts_with('{') => json(text)?.deserialize_any(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) | Self::Scalar(Value::String(text)) => {
                let variant: de::value::StringDeserializer<Fault> = text.into_deserializer();
                variant.deserialize_enum(name, variants, visitor)
            }
            Self::Table(fields) => {
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(fields.into_iter())))
            }
            _ => Err(Fault::Value(format!("must be one of {}", variants.join(", ")))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// Only an unknown key is ever ignored, and none is.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::Value("is no known key".to_owned()))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}
