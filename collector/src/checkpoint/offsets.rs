//! One file's offsets by sink name: a sorted list, exactly as large as it is. There is one for every
//! file known, mostly with one or two sinks in it, where a tree's node would have room for eleven.

use std::{fmt, ops::Index, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::Offset;

/// Offsets by sink name. The names are shared by all files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offsets(Box<[(Arc<str>, Offset)]>);

impl Offsets {
    /// A sink's offset.
    pub fn get(&self, sink: &str) -> Option<&Offset> {
        place(&self.0, sink).ok().map(|at| &self.0[at].1)
    }

    /// A sink's offset, to be changed.
    pub fn get_mut(&mut self, sink: &str) -> Option<&mut Offset> {
        place(&self.0, sink).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether the sink has one.
    pub fn contains_key(&self, sink: &str) -> bool {
        place(&self.0, sink).is_ok()
    }

    /// Adds or replaces a sink's offset.
    pub fn insert(&mut self, sink: Arc<str>, offset: Offset) {
        if let Some(known) = self.get_mut(&sink) {
            *known = offset;
        } else {
            let mut list = std::mem::take(&mut self.0).into_vec();
            list.reserve_exact(1);
            put(&mut list, sink, offset);
            self.0 = list.into_boxed_slice();
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Offset)> {
        self.0.iter().map(|(sink, offset)| (sink, offset))
    }

    /// The sinks' names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(sink, _)| sink)
    }

    /// The offsets, by name.
    pub fn values(&self) -> impl Iterator<Item = &Offset> {
        self.0.iter().map(|(_, offset)| offset)
    }

    /// The names, to be replaced by equal ones that are shared.
    pub(super) fn names_mut(&mut self) -> impl Iterator<Item = &mut Arc<str>> {
        self.0.iter_mut().map(|(sink, _)| sink)
    }
}

fn place(list: &[(Arc<str>, Offset)], sink: &str) -> Result<usize, usize> {
    list.binary_search_by(|(known, _)| (**known).cmp(sink))
}

fn put(list: &mut Vec<(Arc<str>, Offset)>, sink: Arc<str>, offset: Offset) {
    match place(list, &sink) {
        Ok(at) => list[at].1 = offset,
        Err(at) => list.insert(at, (sink, offset)),
    }
}

impl Index<&str> for Offsets {
    type Output = Offset;

    fn index(&self, sink: &str) -> &Offset {
        self.get(sink).expect("a sink with an offset")
    }
}

/// Of several offsets of one sink the last counts.
impl FromIterator<(Arc<str>, Offset)> for Offsets {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Offset)>>(offsets: I) -> Self {
        let mut list = Vec::new();
        for (sink, offset) in offsets {
            put(&mut list, sink, offset);
        }
        Self(list.into_boxed_slice())
    }
}

impl Serialize for Offsets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(sink, offset)| (&**sink, offset)))
    }
}

impl<'de> Deserialize<'de> for Offsets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Offsets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("offsets by sink name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Offsets, A::Error> {
                let mut list = Vec::new();
                while let Some((sink, offset)) = map.next_entry::<String, Offset>()? {
                    put(&mut list, sink.into(), offset);
                }
                Ok(Offsets(list.into_boxed_slice()))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn offset(settled: u64) -> Offset {
        Offset { settled, resume: settled / 2, dropped: settled % 3, lost: 0, ..Offset::default() }
    }

    proptest! {
        #[test]
        fn behaves_and_reads_like_a_map(
            begin in prop::collection::vec(("[a-d]{0,2}", any::<u64>()), 0..6),
            more in prop::collection::vec(("[a-d]{0,2}", any::<u64>()), 0..6),
        ) {
            let mut offsets: Offsets =
                begin.iter().map(|(sink, at)| (Arc::from(sink.as_str()), offset(*at))).collect();
            let mut map: BTreeMap<String, Offset> =
                begin.iter().map(|(sink, at)| (sink.clone(), offset(*at))).collect();
            for (sink, at) in more {
                prop_assert_eq!(offsets.contains_key(&sink), map.contains_key(&sink));
                prop_assert_eq!(offsets.get_mut(&sink), map.get_mut(&sink));
                offsets.insert(sink.as_str().into(), offset(at));
                map.insert(sink.clone(), offset(at));
                prop_assert_eq!(offsets[&sink], offset(at));
            }
            let listed: Vec<_> = offsets.iter().map(|(sink, at)| (sink.to_string(), *at)).collect();
            prop_assert_eq!(listed, map.clone().into_iter().collect::<Vec<_>>());
            let json = serde_json::to_string(&offsets).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Offsets>(&json).unwrap(), offsets);
        }
    }

    #[test]
    fn of_a_name_that_is_there_twice_the_last_counts() {
        let json = r#"{"b":{"settled":1,"resume":1},"a":{"settled":2,"resume":2,"new":[0]},
            "b":{"settled":3,"resume":3}}"#;
        let offsets: Offsets = serde_json::from_str(json).unwrap();
        let map: BTreeMap<String, Offset> = serde_json::from_str(json).unwrap();
        assert_eq!(offsets.keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(offsets.values().eq(map.values()));
        serde_json::from_str::<Offsets>("[]").unwrap_err();
    }
}
