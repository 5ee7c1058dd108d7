//! Values that only a template would fill in: `${VAR}`, `$VAR`, `$(VAR)`, `{{ … }}`.
//!
//! Nothing is substituted here. Taken as it stands, such a value would be a directory, a name or an
//! attribute that nobody meant, so it is refused.

use crate::config::{
    problem::Problem,
    tree::{Node, Value},
};

const ADVICE: &str = "write the value itself, or have the file filled in before (envsubst, Helm); \
                    node_name is taken from the environment's NODE_NAME where it is left out";

/// The key under which the console's lines are described, with names in braces.
const TEMPLATE: &str = "template";

/// Adds every such key and value below `node` to `problems`.
pub(super) fn refuse(node: &Node, problems: &mut Vec<Problem>) {
    match &node.value {
        Value::Scalar { text, .. } => {
            if let Some(variable) = find(text) {
                problems.push(Problem { at: Some(node.at), ..problem(variable) });
            }
        }
        Value::List(items) => items.iter().for_each(|item| refuse(item, problems)),
        Value::Map(map) => {
            for (key, node) in &map.entries {
                if let Some(variable) = find(&key.name) {
                    problems.push(Problem { at: Some(key.at), ..problem(variable) });
                }
                // There braces have a meaning of their own, and what has none is refused by it.
                if key.name != TEMPLATE {
                    refuse(node, problems);
                }
            }
        }
    }
}

fn problem(variable: &str) -> Problem {
    let shown: String = variable.chars().take(60).collect();
    let what = format!("`{}` is taken as it stands: nothing is substituted", shown.escape_debug());
    Problem::new(what, ADVICE)
}

/// The first variable in a text. A name without braces is one only where nothing else stands there: `$5`
/// and `a$b` are texts.
fn find(text: &str) -> Option<&str> {
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(name) = text.strip_prefix('$')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(named)
    {
        return Some(text);
    }
    [("${", "}"), ("$(", ")"), ("{{", "}}")].into_iter().find_map(|(begin, end)| {
        let (at, _) = text.match_indices(begin).find(|(at, _)| {
            // A glob's braces hold no name of a variable.
            begin == "{{"
                || text[at + begin.len()..]
                    .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        })?;
        let length = text[at..].find(end)?;
        Some(&text[at..at + length + end.len()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_and_nothing_else() {
        for (text, found) in [
            ("${HOME}/state", "${HOME}"),
            ("https://${HOST:-localhost}/", "${HOST:-localhost}"),
            ("a $(NODE_NAME)", "$(NODE_NAME)"),
            ("{{ .Values.url }}", "{{ .Values.url }}"),
            ("${_X}", "${_X}"),
            ("$NODE_NAME", "$NODE_NAME"),
        ] {
            assert_eq!(find(text), Some(found));
        }
        for text in
            ["$5", "a$b", "${}", "/var/{a,b}/$1", "cost: 3$", "${1}", "$HOME/x", "/a/{b,{c,d}}/*"]
        {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
