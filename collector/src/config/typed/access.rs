//! What is inside a node: a list's items, a mapping's entries, the variant that `type` names.

use serde::{
    de::{self, DeserializeSeed, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use super::{
    Typed, after_struct,
    error::{Error, Part},
};
use crate::config::{
    problem::At,
    tree::{Key, Node, Value},
};

pub(super) struct Items<'a>(pub(super) std::slice::Iter<'a, Node>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(Typed { node, named: None })
            .map(Some)
            .map_err(|error| error.within(node.at, (node.at, Part::Item)))
    }
}

pub(super) struct Entries<'a> {
    pub(super) left: std::slice::Iter<'a, (Key, Node)>,
    pub(super) value: Option<(&'a Key, &'a Node)>,
    pub(super) skip: Option<&'static str>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let skip = self.skip;
        let Some((key, node)) = self.left.find(|(key, _)| Some(key.name.as_str()) != skip) else {
            return Ok(None);
        };
        self.value = Some((key, node));
        seed.deserialize(key.name.as_str().into_deserializer())
            .map(Some)
            .map_err(|error: Error| error.within(key.at, (key.at, Part::Key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Typed { node, named: Some(key.at) }).map_err(|error| {
            let at = place_of(&error, node).unwrap_or(node.at);
            error.within(at, (key.at, Part::Key))
        })
    }
}

pub(super) struct Variant<'a> {
    pub(super) name: &'a str,
    pub(super) of: Typed<'a>,
}

impl<'a, 'de> de::EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let Self { name, of } = self;
        let variant = seed.deserialize(name.into_deserializer());
        let variant = variant.map_err(|mut error: Error| {
            // A mapping's `type` stands elsewhere than the mapping.
            if let Value::Map(map) = &of.node.value
                && let Some((_, node)) = map.get("type")
            {
                error.at = Some(node.at);
            }
            error
        })?;
        Ok((variant, Content(of)))
    }
}

pub(super) struct Content<'a>(Typed<'a>);

impl<'de> de::VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match &self.0.node.value {
            Value::Scalar { .. } => Ok(()),
            _ => Err(self.0.refuse("one word", "write the value after the colon")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match &self.0.node.value {
            Value::Map(_) => seed.deserialize(Tagged(self.0)),
            _ => Err(self.0.refuse("a mapping with `type`", "write `type: …` below the name")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(self.0.refuse("a mapping", "write `key: value` lines"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_struct(Tagged(self.0), "", fields, visitor)
    }
}

/// A mapping without its `type`.
struct Tagged<'a>(Typed<'a>);

impl<'de> de::Deserializer<'de> for Tagged<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.node.value {
            Value::Map(map) => visitor.visit_map(Entries {
                left: map.entries.iter(),
                value: None,
                skip: Some("type"),
            }),
            _ => Err(self.0.refuse("a mapping", "write `key: value` lines")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Typed { node, named } = self.0;
        self.deserialize_any(visitor).map_err(|error| after_struct(error, node, named, fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// An error about a whole mapping that begins with one of its keys stands there.
fn place_of(error: &Error, node: &Node) -> Option<At> {
    let Value::Map(map) = &node.value else { return None };
    let (name, _) = error.what.strip_prefix('`')?.split_once('`')?;
    map.get(name).map(|(key, _)| key.at)
}
