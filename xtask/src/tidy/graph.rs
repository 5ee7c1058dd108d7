//! Which module may use which: one table, and every `use` that goes against it.
//!
//! The table ([`table`]) lists the agent's modules from the ground up; a module may use those that its line names,
//! which all stand above it in the table, so there can be no circle. Inside a module the same holds between
//! the parts that lie side by side in it: they may form no circle. Tests may use whatever they like.

mod table;
mod uses;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::Files;
use table::ALLOWED;
use uses::{Graph, Module, Place, is_root};

/// Where the agent's modules lie.
const ROOT: &str = "collector/src/";
/// Where the tasks' lie: they may form no circle either.
const TASKS: &str = "xtask/src/";

/// Every use that the table does not allow, and every circle.
pub(super) fn check(files: &Files, breaches: &mut Vec<String>) {
    let graph = Graph::read(files, ROOT, breaches);
    graph.check_table(breaches);
    graph.check_circles(breaches);
    Graph::read(files, TASKS, breaches).check_circles(breaches);
}

/// The agent's graph as it is.
///
/// # Errors
/// A source file that is no Rust.
pub(super) fn read(files: &Files) -> anyhow::Result<Graph> {
    let mut breaches = Vec::new();
    let graph = Graph::read(files, ROOT, &mut breaches);
    anyhow::ensure!(breaches.is_empty(), "{}", breaches.join("\n"));
    Ok(graph)
}

impl Graph {
    fn check_table(&self, breaches: &mut Vec<String>) {
        for ((from, to), place) in &self.uses {
            let (Some(from), Some(to)) = (from.first(), to.first()) else { continue };
            if from == to || is_root(from) {
                continue;
            }
            let allowed = ALLOWED.iter().find(|(module, _)| module == from);
            let Place { path, line } = place;
            match allowed {
                None => breaches.push(format!("{path}: `{from}` is not in the table of modules")),
                Some((_, allowed)) if !allowed.contains(&&**to) => breaches.push(format!(
                    "{path}:{line}: `{from}` may not use `{to}` (the table of modules says what it may)"
                )),
                Some(_) => {}
            }
        }
    }

    /// In every module: the parts that use each other in a circle.
    fn check_circles(&self, breaches: &mut Vec<String>) {
        let mut rooms: BTreeMap<Module, BTreeMap<(String, String), &Place>> = BTreeMap::new();
        for ((from, to), place) in &self.uses {
            let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
            if let (Some(one), Some(other)) = (from.get(common), to.get(common))
                && !(common == 0 && is_root(one))
            {
                let room = rooms.entry(from[..common].to_vec()).or_default();
                room.entry((one.clone(), other.clone())).or_insert(place);
            }
        }
        for (room, edges) in rooms {
            for circle in circles(&edges.keys().cloned().collect()) {
                let name = if room.is_empty() { "the crate".into() } else { room.join("::") };
                breaches
                    .push(format!("in {name}: {} use each other in a circle", circle.join(", ")));
            }
        }
    }

    /// Modules and what each uses, as text.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (module, used) in self.edges() {
            let used: Vec<_> = used.iter().map(String::as_str).collect();
            let used = if used.is_empty() { "nothing".to_owned() } else { used.join(", ") };
            _ = writeln!(text, "{module}: {used}");
        }
        text
    }

    /// The same in Graphviz's language.
    pub(super) fn to_dot(&self) -> String {
        let mut text = "digraph modules {\n".to_owned();
        for (module, used) in self.edges() {
            for used in used {
                _ = writeln!(text, "    {module} -> {used};");
            }
        }
        text + "}\n"
    }

    /// In the table's order.
    fn edges(&self) -> Vec<(&'static str, BTreeSet<String>)> {
        let of = |module: &str| {
            let uses =
                self.uses.keys().filter(|(from, _)| from.first().is_some_and(|it| it == module));
            let used = uses.filter_map(|(_, to)| to.first()).filter(|to| *to != module);
            used.cloned().collect()
        };
        ALLOWED.iter().map(|(module, _)| (*module, of(module))).collect()
    }
}

/// Modules that use each other in a circle: each group once.
fn circles(edges: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = open.pop() {
            for (_, to) in edges.iter().filter(|(one, _)| *one == at) {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let nodes: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> =
        nodes.into_iter().map(|node| (node, reached(node))).collect();
    let mut groups = BTreeSet::new();
    for (node, seen) in &reach {
        if seen.contains(*node) {
            let both = |it: &String| reach.get(it).is_some_and(|back| back.contains(*node));
            groups.insert(seen.iter().filter(|it| both(it)).cloned().collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::tests::breaches;

    fn of(path: &str, text: &str) -> Vec<String> {
        let found = breaches(&[(path, text), ("collector/src/read/mod.rs", "//! R.\n")]);
        found.into_iter().filter(|it| it.contains("may not") || it.contains("circle")).collect()
    }

    #[test]
    fn a_back_edge_is_refused_wherever_it_stands() {
        let path = "collector/src/ledger/mod.rs";
        for text in [
            "//! L.\nuse crate::read::pump;\n",
            "//! L.\nuse crate::{\n    read::{cursor::Cursor, tail},\n};\n",
            "//! L.\nfn f() {\n    crate::read::go();\n}\n",
            "//! L.\nfn f(x: &crate::read::Tail) {}\n",
            "//! L.\nfn f() {\n    println!(\"{}\", crate::read::LIMIT);\n}\n",
            "//! L.\nmod inside {\n    use super::super::read::pump;\n}\n",
            "//! L.\nimpl A {\n    fn f() -> super::read::X {\n        todo!()\n    }\n}\n",
            "//! L.\npub use crate::read as other;\n",
        ] {
            let found = of(path, text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("`ledger` may not use `read`"), "{found:?}");
        }
    }

    #[test]
    fn tests_and_what_the_table_names_may_be_used() {
        for (path, text) in [
            (
                "collector/src/ledger/mod.rs",
                "//! L.\n#[cfg(test)]\nmod tests {\n    use crate::read::pump;\n}\n",
            ),
            ("collector/src/ledger/mod.rs", "//! L.\n#[cfg(test)]\nuse crate::read::pump;\n"),
            ("collector/src/registry/mod.rs", "//! R.\nuse crate::read::pump;\n"),
            (
                "collector/src/ledger/mod.rs",
                "//! L.\n// crate::read is not used\nconst A: &str = \"crate::read\";\n",
            ),
        ] {
            assert_eq!(of(path, text), Vec::<String>::new(), "{text}");
        }
        let files = [
            ("collector/src/ledger/mod.rs", "//! L.\n#[cfg(test)]\nmod testing;\n"),
            ("collector/src/ledger/testing.rs", "//! T.\nuse crate::read::pump;\n"),
            ("collector/src/read/mod.rs", "//! R.\n"),
        ];
        assert!(!breaches(&files).iter().any(|it| it.contains("may not")));
    }

    #[test]
    fn parts_of_a_module_may_form_no_circle() {
        let files = [
            ("collector/src/read/mod.rs", "//! R.\nmod a;\nmod b;\nmod c;\n"),
            ("collector/src/read/a.rs", "//! A.\nuse super::b::B;\n"),
            ("collector/src/read/b.rs", "//! B.\nuse crate::read::c;\n"),
            ("collector/src/read/c.rs", "//! C.\nuse super::a::A;\n"),
        ];
        let found = breaches(&files);
        assert!(found.iter().any(|it| it.contains("in read: a, b, c use each other")), "{found:?}");
        let found = breaches(&files[..3]);
        assert!(!found.iter().any(|it| it.contains("circle")), "{found:?}");
    }
}
