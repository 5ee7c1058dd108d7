//! From the YAML tree to the schema's types, with every error at its place.
//!
//! A serde deserializer over [`Node`]. What it adds to serde: an error carries line and column; an
//! entry that was refused is taken out of the tree and the rest looked at again, so that one run
//! reports everything; and a mapping can stand for an enum, `type` naming the variant, without the
//! buffering of serde's internally tagged enums, which would lose places. Judges shape only; what
//! values mean is `check`'s business.

mod access;
mod error;

use serde::{
    Deserialize,
    de::{self, Visitor},
    forward_to_deserialize_any,
};

use super::{
    problem::{At, Problem},
    tree::{Map, Node, Value},
};
use access::{Entries, Items, Variant};
pub(super) use error::nearest;
use error::{Error, Part, meant};

/// The schema's one enum that a mapping stands for.
const TAGGED: &str = "Sink";
/// Problems reported of one text at most.
const MAX_PROBLEMS: usize = 30;

/// Reads `T` from the tree. Everything refused is added to `problems` and taken out of the tree;
/// `None` where not even the rest can be read.
pub(super) fn read<'de, T: Deserialize<'de>>(
    root: &mut Node,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    while problems.len() < MAX_PROBLEMS {
        let error = match T::deserialize(Typed { node: root, named: None }) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let Error { what, todo, at, refused, follows } = error;
        if !follows {
            problems.push(Problem { at, what, todo });
        }
        match refused {
            Some(place) if remove(root, place) => {}
            _ => return None,
        }
    }
    None
}

/// Takes the entry or item at `place` out of the tree, wherever an alias repeats it.
fn remove(node: &mut Node, place: (At, Part)) -> bool {
    match &mut node.value {
        Value::Scalar { .. } => false,
        Value::List(items) => {
            let before = items.len();
            items.retain(|item| (item.at, Part::Item) != place);
            let found = items.len() < before;
            items.iter_mut().fold(found, |found, item| remove(item, place) | found)
        }
        Value::Map(map) => {
            let refused: Vec<_> =
                map.entries.extract_if(.., |(key, _)| (key.at, Part::Key) == place).collect();
            let found = !refused.is_empty();
            map.refused.extend(refused.into_iter().map(|(key, _)| key.name));
            map.entries.iter_mut().fold(found, |found, (_, node)| remove(node, place) | found)
        }
    }
}

/// A node to be read; `named`: where the key before it stands.
struct Typed<'a> {
    node: &'a Node,
    named: Option<At>,
}

impl<'a> Typed<'a> {
    fn refuse(&self, expected: &str, todo: &str) -> Error {
        let found = match &self.node.value {
            _ if self.node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } if text.chars().count() > 60 => "a longer text".to_owned(),
            Value::Scalar { text, .. } => format!("`{}`", text.escape_debug()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        };
        let mut error = Error::new(format!("expected {expected}, found {found}"), todo.to_owned());
        error.at = Some(self.node.at);
        error
    }

    fn plain(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    fn text(&self) -> Result<&'a str, Error> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => Err(self.refuse("a value", "write one after the colon, or leave the key out")),
        }
    }

    fn number<T: std::str::FromStr>(&self, range: &str) -> Result<T, Error> {
        let number = self.plain().and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.refuse("a whole number", &format!("write one {range}")))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $range:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.number($range)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Typed<'_> {
    type Error = Error;

    numbers! {
        deserialize_u8 visit_u8 "from 0 to 255"
        deserialize_u16 visit_u16 "from 0 to 65535"
        deserialize_u32 visit_u32 "from 0 to 4294967295"
        deserialize_u64 visit_u64 "from 0"
        deserialize_i32 visit_i32 "without a point"
        deserialize_i64 visit_i64 "without a point"
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar { text, .. } => visitor.visit_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.plain() {
            Some("true" | "True" | "TRUE") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE") => visitor.visit_bool(false),
            _ => Err(self.refuse("true or false", "write one of the two, unquoted")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            // Everything under the key is commented out.
            _ if self.node.is_null() => visitor.visit_seq(Items([].iter())),
            _ => {
                Err(self.refuse("a list", "write `- item` lines below the key, or `[item, item]`"))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let map = match &self.node.value {
            Value::Map(map) => map,
            _ if self.node.is_null() => {
                return visitor.visit_map(Entries { left: [].iter(), value: None, skip: None });
            }
            _ => return Err(self.refuse("a mapping", "write `key: value` lines below the key")),
        };
        visitor.visit_map(Entries { left: map.entries.iter(), value: None, skip: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { node, named } = self;
        self.deserialize_map(visitor).map_err(|error| after_struct(error, node, named, fields))
    }

    /// A text names a variant; a mapping's `type` does, the other keys being its content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != TAGGED {
            let text = self.text()?;
            return visitor.visit_enum(Variant { name: meant(text, variants), of: self });
        }
        let empty = Map::default();
        let map = match &self.node.value {
            Value::Map(map) => map,
            _ if self.node.is_null() => &empty,
            _ => return Err(self.refuse("a mapping", "write `type: …` below the name")),
        };
        if let Some((key, node)) = map.get("type") {
            // `null` is a sink's type too.
            let Value::Scalar { text: name, .. } = &node.value else {
                let error = Typed { node, named: None }.refuse("one word", "name the type");
                return Err(error.within(node.at, (key.at, Part::Key)));
            };
            return visitor.visit_enum(Variant { name: meant(name, variants), of: self });
        }
        let mut error = Error::new(
            "the key `type` is missing".to_owned(),
            format!("add `type:` and one of {}", variants.join(", ")),
        );
        error.at = Some(self.named.unwrap_or(self.node.at));
        error.follows = map.refused.iter().any(|name| name == "type");
        Err(error)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// Errors that a struct raises after its last key (a key is missing) stand at the struct's name.
fn after_struct(mut error: Error, node: &Node, named: Option<At>, fields: &[&str]) -> Error {
    if error.at.is_none() {
        error.at = Some(named.unwrap_or(node.at));
        if let Value::Map(map) = &node.value {
            // Its value was refused, or it was misspelt: that has been said.
            error.follows |= map.refused.iter().any(|name| {
                nearest(name, fields)
                    .is_some_and(|field| error.what.contains(&format!("`{field}`")))
            });
        }
    }
    error
}
