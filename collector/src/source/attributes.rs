//! What every record of a source carries, kept small: there may be thousands of quiet sources.

use std::{path::Path, sync::Arc};

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

/// A source's attributes, in output order. Most of what is known of a source its path tells: values
/// that stand in it are kept as places there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    schema: Schema,
    /// The source's own values that its path does not hold, one behind the other.
    values: Box<str>,
    spans: Box<[Span]>,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// In `values`; with [`IN_PATH`], in the source's path; [`ABSENT`].
    start: u32,
    len: u32,
}

const IN_PATH: u32 = 1 << 31;
/// Of a value that the source does not have.
const ABSENT: Span = Span { start: u32::MAX, len: 0 };

impl Schema {
    /// Attributes of these names, in output order; of some the value is the same for all sources.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let column = |(name, common): (&str, Option<&str>)| Column {
            name: name.into(),
            common: common.map(Box::from),
        };
        Self(columns.into_iter().map(column).collect())
    }

    /// The attributes of the source at `path`: the values of those that have none in common, in their
    /// order; those that the source does not have are left out.
    pub fn attributes(&self, path: &Path, values: &[Option<&str>]) -> Attributes {
        let path = path.to_str().unwrap_or_default();
        let mut own = String::new();
        let mut span = |value: &Option<&str>| {
            let Some(value) = value else { return ABSENT };
            let start = match path.find(value) {
                Some(at) => at as u32 | IN_PATH,
                None => {
                    own.push_str(value);
                    (own.len() - value.len()) as u32
                }
            };
            Span { start, len: value.len() as u32 }
        };
        let spans = values.iter().map(&mut span).collect();
        Attributes { schema: self.clone(), values: own.into_boxed_str(), spans }
    }
}

impl Attributes {
    /// Names and values; `path`: the source's.
    pub fn iter<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a str, &'a str)> {
        let path = path.to_str().unwrap_or_default();
        let mut spans = self.spans.iter();
        self.schema.0.iter().filter_map(move |Column { name, common }| {
            if let Some(common) = common {
                return Some((&**name, &**common));
            }
            let Span { start, len } = *spans.next().filter(|span| **span != ABSENT)?;
            let text = if start & IN_PATH == 0 { &self.values } else { path };
            let start = (start & !IN_PATH) as usize;
            Some((name, &text[start..start + len as usize]))
        })
    }
}

/// Attributes whose names no other source shares.
impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(attributes: I) -> Self {
        let (names, values): (Vec<N>, Vec<V>) = attributes.into_iter().unzip();
        let schema = Schema::new(names.iter().map(|name| (name.as_ref(), None)));
        let values: Vec<_> = values.iter().map(|value| Some(value.as_ref())).collect();
        schema.attributes(Path::new(""), &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_its_own_and_in_common_stand_in_the_schemas_order() {
        let schema =
            Schema::new([("a", None), ("node", Some("n1")), ("b", None), ("c", None), ("d", None)]);
        let path = Path::new("/x");
        let one = schema.attributes(path, &[Some("1"), None, Some(""), Some("4")]);
        let all: Vec<_> = one.iter(path).collect();
        assert_eq!(all, [("a", "1"), ("node", "n1"), ("c", ""), ("d", "4")]);
        let other = schema.attributes(path, &[None; 4]);
        assert_eq!(other.iter(path).collect::<Vec<_>>(), [("node", "n1")]);
        assert!(Arc::ptr_eq(&one.schema.0, &other.schema.0) && one != other);
    }

    #[test]
    fn what_the_path_tells_is_kept_there() {
        let schema = Schema::new(["ns", "pod", "image", "file"].map(|name| (name, None)));
        let path = Path::new("/host/var/log/pods/shop_web_0d7e/app/0.log");
        let (image, file) = ("nginx:é", "/var/log/pods/shop_web_0d7e/app/0.log");
        let values = ["shop", "web", image, file].map(Some);
        let attributes = schema.attributes(path, &values);
        assert_eq!(&*attributes.values, image);
        let read: Vec<_> = attributes.iter(path).map(|(_, value)| Some(value)).collect();
        assert_eq!(read, values);
        // A path that is no text holds nothing.
        let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/shop/\xff");
        let path = Path::new(bytes);
        let attributes = schema.attributes(path, &values);
        let read: Vec<_> = attributes.iter(path).map(|(_, value)| Some(value)).collect();
        assert_eq!(read, values);
    }

    #[test]
    fn a_quiet_source_costs_little() {
        assert!(size_of::<Attributes>() <= 48);
        assert!(size_of::<crate::source::Source>() <= 72);
    }

    #[test]
    fn pairs_are_kept_as_they_are() {
        let pairs = [("k", "v"), ("", "é"), ("k", "")];
        let attributes: Attributes = pairs.into_iter().collect();
        let path = Path::new("/v/é");
        assert_eq!(attributes.iter(path).collect::<Vec<_>>(), pairs);
        assert_eq!(Attributes::default().iter(path).count(), 0);
    }
}
