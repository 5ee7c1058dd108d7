//! YAML as a tree in which every key and value knows where it stands.
//!
//! Built from the YAML library's events and bounded in size, depth and the growth that aliases
//! bring. Refuses what would be read differently from how it looks: duplicate keys, merge keys,
//! tags, several documents. Knows nothing of the configuration's schema.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::{At, Problem};

/// Bytes of text accepted.
const MAX_TEXT: usize = 1 << 20;
/// Nodes accepted, aliases counted with all that they stand for.
const MAX_NODES: usize = 50_000;
/// Levels of nesting accepted.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where its first character is; an empty value stands where its key does.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text; `plain` if it was not quoted, so that it may also be a number, a bool or null.
    Scalar {
        /// After unescaping.
        text: String,
        /// Not quoted.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A mapping, in the text's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Map {
    /// Keys and values; keys are unique.
    pub entries: Vec<(Key, Node)>,
    /// Keys whose values were refused and taken out, so that the rest can be looked at.
    pub refused: Vec<String>,
}

/// A mapping's key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its text.
    pub name: String,
    /// Where it stands.
    pub at: At,
}

impl Map {
    /// The entry of this name.
    pub(super) fn get(&self, name: &str) -> Option<&(Key, Node)> {
        self.entries.iter().find(|(key, _)| key.name == name)
    }
}

impl Node {
    /// Whether nothing stands there (`key:` or `key: null`).
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Where the last step of `path` stands that is there at all: the value (`key`: its key).
    pub(super) fn locate(&self, path: &[String], key: bool) -> Option<At> {
        let Some((step, rest)) = path.split_first() else { return Some(self.at) };
        match &self.value {
            Value::Map(map) => {
                let (found, node) = map.get(step)?;
                if key && rest.is_empty() {
                    return Some(found.at);
                }
                // Where the path ends early, its last key names the place better than its value.
                node.locate(rest, key).or(Some(found.at))
            }
            Value::List(items) => {
                let item = step.parse().ok().and_then(|index: usize| items.get(index))?;
                item.locate(rest, key).or(Some(item.at))
            }
            Value::Scalar { .. } => None,
        }
    }

    /// Whether the text has a value at `path`.
    pub(super) fn contains(&self, path: &[String]) -> bool {
        let Some((step, rest)) = path.split_first() else { return true };
        match &self.value {
            Value::Map(map) => map.get(step).is_some_and(|(_, node)| node.contains(rest)),
            Value::List(items) => {
                let item = step.parse().ok().and_then(|index: usize| items.get(index));
                item.is_some_and(|item| item.contains(rest))
            }
            Value::Scalar { .. } => false,
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(map) => map.entries.iter().map(|(_, node)| 1 + node.count()).sum(),
        }
    }
}

/// Reads one YAML document. `Err` where the text cannot be read on; problems that leave the rest
/// readable are added to `problems`.
pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    if text.len() > MAX_TEXT {
        return Err(Problem::new(
            format!("{} bytes are more than a configuration may have ({MAX_TEXT})", text.len()),
            "check that this is the right file",
        ));
    }
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { parser, anchors: HashMap::new(), nodes: 0, problems };
    loop {
        match reader.next()? {
            None => return Ok(nothing(At { line: 1, column: 1, length: 1 })),
            Some((Event::DocumentStart(..), _)) => break,
            Some(_) => {}
        }
    }
    let root = reader.node(0)?;
    while let Some((event, span)) = reader.next()? {
        if matches!(event, Event::DocumentStart(..)) {
            return Err(
                Problem::new("a second YAML document begins", "keep one document").at(place(&span))
            );
        }
    }
    Ok(root)
}

struct Reader<'a, 'p> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Reader<'a, '_> {
    /// The next event that is data.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Problem> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => return Err(not_yaml(&error)),
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Problem> {
        let (event, span) = self.next()?.ok_or_else(|| ended(None))?;
        self.node_from(event, &span, depth)
    }

    fn node_from(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Problem> {
        let at = place(span);
        if depth > MAX_DEPTH {
            return Err(Problem::new(
                format!("more than {MAX_DEPTH} levels of nesting"),
                "a configuration needs far fewer",
            )
            .at(at));
        }
        self.add(1, at)?;
        let (value, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (Value::Scalar { text: text.into_owned(), plain }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => {
                (Value::List(self.list(depth + 1)?), anchor, tag)
            }
            Event::MappingStart(_, anchor, tag) => (Value::Map(self.map(depth + 1)?), anchor, tag),
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return Err(ended(Some(at))),
        };
        if let Some(tag) = tag {
            let what = format!("the tag `{}` is not supported", tag.original());
            self.problems.push(Problem::new(what, "leave it out").at(at));
        }
        let node = Node { at, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<Node, Problem> {
        let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
            Problem::new("the alias stands inside what it names", "write the value out").at(at)
        })?;
        self.add(node.count(), at)?;
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()?.ok_or_else(|| ended(None))? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node_from(event, &span, depth)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map, Problem> {
        let mut map = Map::default();
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let key = match self.next()?.ok_or_else(|| ended(None))? {
                (Event::MappingEnd, _) => return Ok(map),
                (event, span) => self.node_from(event, &span, depth)?,
            };
            let at = key.at;
            let Value::Scalar { text: name, .. } = key.value else {
                return Err(Problem::new(
                    "a list or mapping stands as a key",
                    "write `key: value`",
                )
                .at(at));
            };
            let mut node = self.node(depth)?;
            if node.is_null() {
                node.at = at;
            }
            if name == "<<" {
                let problem =
                    Problem::new("merge keys (`<<`) are not supported", "repeat the keys");
                self.problems.push(problem.at(at));
            } else if let Some(line) = seen.get(&name) {
                let what = format!("`{name}` is given twice, first on line {line}");
                self.problems.push(Problem::new(what, "keep one of them").at(at));
            } else {
                seen.insert(name.clone(), at.line);
                map.entries.push((Key { name, at }, node));
            }
        }
    }

    fn add(&mut self, nodes: usize, at: At) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let what = format!("more than {MAX_NODES} values, counting what aliases stand for");
            return Err(Problem::new(what, "write out what you need without aliases").at(at));
        }
        Ok(())
    }
}

fn nothing(at: At) -> Node {
    Node { at, value: Value::Scalar { text: String::new(), plain: true } }
}

fn not_yaml(error: &ScanError) -> Problem {
    Problem::new(
        format!("not YAML: {}", error.info()),
        "check indentation (spaces, no tabs), colons and quotes here and on the line before",
    )
    .at(point(error.marker()))
}

fn ended(at: Option<At>) -> Problem {
    Problem { at, ..Problem::new("the YAML ends in the middle", "complete it") }
}

fn point(marker: &Marker) -> At {
    At { line: marker.line().max(1), column: marker.col() + 1, length: 1 }
}

fn place(span: &Span) -> At {
    let length = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col()).max(1)
    } else {
        1
    };
    At { length, ..point(&span.start) }
}
