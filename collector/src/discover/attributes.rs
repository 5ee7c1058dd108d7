//! What every record of a source carries, kept small: there may be thousands of quiet sources.

use std::{fmt, sync::Arc};

/// The attributes that the sources of one kind have. Names and values that these have in common are
/// kept once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema(Arc<[Column]>);

#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: Box<str>,
    /// The value, if it is the same for all sources.
    common: Option<Box<str>>,
}

/// A source's attributes, in output order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    schema: Schema,
    /// The source's own values, one behind the other.
    values: Box<str>,
    /// Where they end, or [`ABSENT`].
    ends: Box<[u32]>,
}

/// The end of a value that the source does not have.
const ABSENT: u32 = u32::MAX;

impl Schema {
    /// Attributes of these names, in output order; of some the value is the same for all sources.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let column = |(name, common): (&str, Option<&str>)| Column {
            name: name.into(),
            common: common.map(Box::from),
        };
        Self(columns.into_iter().map(column).collect())
    }

    /// One source's attributes: the values of those that have none in common, in their order; those
    /// that the source does not have are left out.
    pub fn attributes(&self, values: &[Option<&str>]) -> Attributes {
        let mut packed = String::with_capacity(values.iter().flatten().map(|it| it.len()).sum());
        let mut end = |value: &Option<&str>| match value {
            Some(value) => {
                packed.push_str(value);
                packed.len() as u32
            }
            None => ABSENT,
        };
        let ends = values.iter().map(&mut end).collect();
        Attributes { schema: self.clone(), values: packed.into_boxed_str(), ends }
    }
}

impl Attributes {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (mut start, mut ends) = (0, self.ends.iter());
        self.schema.0.iter().filter_map(move |Column { name, common }| {
            if let Some(common) = common {
                return Some((&**name, &**common));
            }
            let end = *ends.next().filter(|end| **end != ABSENT)? as usize;
            let value = &self.values[start..end];
            start = end;
            Some((name, value))
        })
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|attribute| attribute.0 == name).map(|(_, value)| value)
    }
}

/// Attributes whose names no other source shares.
impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(attributes: I) -> Self {
        let (names, values): (Vec<N>, Vec<V>) = attributes.into_iter().unzip();
        let schema = Schema::new(names.iter().map(|name| (name.as_ref(), None)));
        schema.attributes(&values.iter().map(|value| Some(value.as_ref())).collect::<Vec<_>>())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_its_own_and_in_common_stand_in_the_schemas_order() {
        let schema =
            Schema::new([("a", None), ("node", Some("n1")), ("b", None), ("c", None), ("d", None)]);
        let one = schema.attributes(&[Some("1"), None, Some(""), Some("4")]);
        let all: Vec<_> = one.iter().collect();
        assert_eq!(all, [("a", "1"), ("node", "n1"), ("c", ""), ("d", "4")]);
        assert_eq!((one.get("d"), one.get("node")), (Some("4"), Some("n1")));
        assert_eq!((one.get("b"), one.get("x")), (None, None));
        assert_eq!(format!("{one:?}"), r#"{"a": "1", "node": "n1", "c": "", "d": "4"}"#);
        let other = schema.attributes(&[None; 4]);
        assert_eq!(other.iter().collect::<Vec<_>>(), [("node", "n1")]);
        assert!(Arc::ptr_eq(&one.schema.0, &other.schema.0) && one != other);
    }

    #[test]
    fn a_quiet_source_costs_little() {
        assert!(size_of::<Attributes>() <= 48);
        assert!(size_of::<crate::discover::Source>() <= 72);
    }

    #[test]
    fn pairs_are_kept_as_they_are() {
        let pairs = [("k", "v"), ("", "é"), ("k", "")];
        let attributes: Attributes = pairs.into_iter().collect();
        assert_eq!(attributes.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(attributes.get("k"), Some("v"));
        assert_eq!(Attributes::default().iter().count(), 0);
    }
}
