//! From the YAML tree to the schema's types, with every error at its place.
//!
//! A serde deserializer over [`Node`]. What it adds to serde: an error carries line and column; an
//! entry that was refused is taken out of the tree and the rest looked at again, so that one run
//! reports everything; and a mapping can stand for an enum, `type` naming the variant, without the
//! buffering of serde's internally tagged enums, which would lose places. Judges shape only; what
//! values mean is `check`'s business.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{
    problem::{At, Problem},
    tree::{Key, Map, Node, Value},
};

/// The schema's one enum that a mapping stands for.
const TAGGED: &str = "Sink";
/// Problems reported of one text at most.
const MAX_PROBLEMS: usize = 30;

/// Reads `T` from the tree. Everything refused is added to `problems` and taken out of the tree;
/// `None` where not even the rest can be read.
pub fn read<'de, T: Deserialize<'de>>(root: &mut Node, problems: &mut Vec<Problem>) -> Option<T> {
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

/// Why a value was refused.
#[derive(Debug)]
pub struct Error {
    what: String,
    todo: String,
    at: Option<At>,
    /// The innermost entry or item that can be left out to read on.
    refused: Option<(At, Part)>,
    /// True if it only follows from an error reported before.
    follows: bool,
}

/// What stands at a place; a mapping in a list begins where its first key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Item,
}

impl Error {
    fn new(what: String, todo: String) -> Self {
        Self { what, todo, at: None, refused: None, follows: false }
    }

    /// Sets the place and what to leave out, unless a deeper level has done so.
    fn within(mut self, at: At, entry: (At, Part)) -> Self {
        self.at.get_or_insert(at);
        self.refused.get_or_insert(entry);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.todo)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // The schema's own types say what to do after a semicolon.
        let message = message.to_string();
        match message.split_once("; ") {
            Some((what, todo)) => Self::new(what.to_owned(), todo.to_owned()),
            None => Self::new(message, "see `everyline config default`".to_owned()),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`"), suggest(field, expected, "keys here"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{variant}`"), suggest(variant, expected, "choices"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(
            format!("the key `{field}` is missing"),
            "add it (`everyline config default` shows every key)".to_owned(),
        )
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {unexpected}"), "correct it".to_owned())
    }
}

/// The known word that `word` was most likely meant to be.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&word, name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The choice that is plainly meant: upper and lower case are the same, and so are `-` and `_`.
fn meant<'a>(word: &'a str, known: &'static [&'static str]) -> &'a str {
    let alike = |choice: &&&str| choice.eq_ignore_ascii_case(&word.replace('_', "-"));
    known.iter().find(alike).copied().unwrap_or(word)
}

/// An error about a whole mapping that begins with one of its keys stands there.
fn place_of(error: &Error, node: &Node) -> Option<At> {
    let Value::Map(map) = &node.value else { return None };
    let (name, _) = error.what.strip_prefix('`')?.split_once('`')?;
    map.get(name).map(|(key, _)| key.at)
}

fn suggest(word: &str, known: &[&str], what: &str) -> String {
    match nearest(word, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{what}: {}", known.join(", ")),
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

struct Items<'a>(std::slice::Iter<'a, Node>);

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

struct Entries<'a> {
    left: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
    skip: Option<&'static str>,
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

struct Variant<'a> {
    name: &'a str,
    of: Typed<'a>,
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

struct Content<'a>(Typed<'a>);

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
