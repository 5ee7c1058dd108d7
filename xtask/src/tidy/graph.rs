//! Which module may use which: one table, and every `use` that goes against it.
//!
//! The table lists the agent's modules from the ground up; a module may use those that its line names,
//! which all stand above it in the table, so there can be no circle. Inside a module the same holds between
//! the parts that lie side by side in it: they may form no circle. Tests may use whatever they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, Macro, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::Files;

/// Where the agent's modules lie.
const ROOT: &str = "collector/src/";
/// Where the tasks' lie: they may form no circle either.
const TASKS: &str = "xtask/src/";

/// Modules from the ground up, and what each may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("causes", &[]),
    ("descriptors", &[]),
    ("held_back", &[]),
    ("identity", &[]),
    ("config", &[]),
    ("ownership", &[]),
    ("privileges", &[]),
    ("reason", &[]),
    ("shown", &[]),
    ("terminal", &[]),
    ("record", &["identity"]),
    ("source", &["config"]),
    ("zone", &["record"]),
    ("messages", &["held_back", "reason"]),
    ("metrics", &["held_back", "reason"]),
    ("checkpoint", &["identity", "ownership"]),
    ("ledger", &["checkpoint", "identity", "reason", "source"]),
    ("decode", &["config", "identity", "record", "source"]),
    ("discover", &["config", "descriptors", "identity", "ownership", "source"]),
    (
        "watch",
        &["causes", "config", "descriptors", "identity", "metrics", "ownership", "privileges"],
    ),
    ("batch", &["config", "identity", "ledger", "reason", "record", "shown", "source"]),
    (
        "deliver",
        &[
            "batch",
            "causes",
            "checkpoint",
            "config",
            "messages",
            "metrics",
            "ownership",
            "reason",
            "shown",
            "terminal",
            "zone",
        ],
    ),
    (
        "archive",
        &[
            "batch",
            "checkpoint",
            "config",
            "deliver",
            "messages",
            "ownership",
            "record",
            "shown",
            "source",
            "zone",
        ],
    ),
    (
        "read",
        &[
            "batch",
            "decode",
            "descriptors",
            "held_back",
            "identity",
            "ledger",
            "messages",
            "metrics",
            "reason",
            "record",
            "source",
            "watch",
        ],
    ),
    (
        "settle",
        &[
            "batch",
            "checkpoint",
            "identity",
            "ledger",
            "messages",
            "metrics",
            "read",
            "reason",
            "watch",
        ],
    ),
    (
        "registry",
        &[
            "batch",
            "checkpoint",
            "config",
            "descriptors",
            "discover",
            "held_back",
            "identity",
            "ledger",
            "messages",
            "metrics",
            "read",
            "reason",
            "settle",
            "source",
            "watch",
        ],
    ),
    ("admin", &["config", "held_back", "ledger", "metrics"]),
    (
        "supervisor",
        &[
            "admin",
            "archive",
            "batch",
            "checkpoint",
            "config",
            "decode",
            "deliver",
            "descriptors",
            "discover",
            "held_back",
            "identity",
            "ledger",
            "metrics",
            "read",
            "registry",
            "settle",
            "watch",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "archive",
            "causes",
            "checkpoint",
            "config",
            "descriptors",
            "discover",
            "identity",
            "ledger",
            "ownership",
            "privileges",
            "reason",
            "shown",
            "supervisor",
            "terminal",
            "watch",
            "zone",
        ],
    ),
];

/// A module's path below the crate, its names from the outside in.
type Module = Vec<String>;

/// A use of a module by another one: where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: String,
    line: usize,
}

/// Who uses whom, by file.
#[derive(Debug, Default)]
pub(super) struct Graph {
    uses: BTreeMap<(Module, Module), Place>,
}

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
    /// Reads the sources below a directory.
    fn read(files: &Files, root: &str, breaches: &mut Vec<String>) -> Self {
        let mut parsed = BTreeMap::new();
        for (path, text) in files.rust() {
            let Some(inside) = path.to_str().and_then(|path| path.strip_prefix(root)) else {
                continue;
            };
            match syn::parse_file(text) {
                Ok(file) => _ = parsed.insert(module_of(inside), (path, file)),
                Err(error) => breaches.push(format!("{}: {error}", path.display())),
            }
        }
        let mut tests = Vec::new();
        for (module, (_, file)) in &parsed {
            tests.extend(modules_of_tests(module, &file.items));
        }
        parsed.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let known: BTreeSet<Module> = parsed.keys().cloned().collect();
        let mut graph = Self::default();
        for (module, (path, file)) in &parsed {
            let mut reader =
                Reader { graph: &mut graph, known: &known, file: module, path, inner: Vec::new() };
            reader.visit_file(file);
        }
        graph
    }

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

/// The library's and the program's own file name all modules.
fn is_root(module: &str) -> bool {
    module == "main" || module == "lib"
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module_of(path: &str) -> Module {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// Modules that a file declares for tests only.
fn modules_of_tests(module: &Module, items: &[Item]) -> Vec<Module> {
    let mut tests = Vec::new();
    for item in items {
        if let Item::Mod(it) = item
            && it.content.is_none()
            && is_for_tests(&it.attrs)
        {
            let mut test = if is_root(&module[0]) { Vec::new() } else { module.clone() };
            test.push(it.ident.to_string());
            tests.push(test);
        }
    }
    tests
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        // What fuzz targets call is in no release.
        let is_test = |text: &str| {
            text == "test" || text.starts_with("all (test") || text == "feature = \"fuzzing\""
        };
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| is_test(&list.tokens.to_string()))
    })
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

/// Finds what one file uses.
struct Reader<'a> {
    graph: &'a mut Graph,
    known: &'a BTreeSet<Module>,
    file: &'a Module,
    path: &'a Path,
    /// Modules inside the file.
    inner: Vec<String>,
}

impl Reader<'_> {
    fn is_module(&self, module: &[String]) -> bool {
        self.known.contains(module)
    }

    /// A path that begins at the crate, or further up.
    fn uses(&mut self, names: &[String], line: usize) {
        let mut at: Module = match names.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => {
                let inside = self.file.iter().chain(&self.inner).cloned();
                let mut at: Module = inside.filter(|name| !is_root(name)).collect();
                at.pop();
                at
            }
            _ => return,
        };
        for name in &names[1..] {
            match &**name {
                "super" => _ = at.pop(),
                _ => at.push(name.clone()),
            }
        }
        while !at.is_empty() && !self.is_module(&at) {
            at.pop();
        }
        let inside: Vec<String> = self.file.iter().chain(&self.inner).cloned().collect();
        if at.is_empty() || inside.starts_with(&at) {
            return;
        }
        let place = Place { path: self.path.display().to_string(), line };
        self.graph.uses.entry((self.file.clone(), at)).or_insert(place);
    }

    fn uses_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.uses_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|it| self.uses_tree(before, it)),
            UseTree::Name(_) | UseTree::Rename(_) | UseTree::Glob(_) => {
                let name = match tree {
                    UseTree::Name(it) => Some(it.ident.to_string()),
                    UseTree::Rename(it) => Some(it.ident.to_string()),
                    _ => None,
                };
                let names: Vec<_> = before.iter().cloned().chain(name).collect();
                self.uses(&names, tree.span().start().line);
            }
        }
    }

    /// Paths in what is given to a macro.
    fn uses_tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        let mut line = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if name == "crate" || name == "super" && names.is_empty() {
                        names.clear();
                        line = ident.span().start().line;
                        names.push(name);
                    } else if names.last().is_some_and(|last| last == ":") {
                        names.pop();
                        names.push(name);
                    } else {
                        names.clear();
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !names.is_empty() => {
                    if names.last().is_none_or(|last| last != ":") {
                        names.push(":".to_owned());
                    }
                    continue;
                }
                TokenTree::Group(group) => {
                    self.uses_tokens(group.stream());
                    names.clear();
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => names.clear(),
            }
            if names.len() > 1 {
                self.uses(&names.clone(), line);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(it) => &it.attrs,
            Item::Enum(it) => &it.attrs,
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Mod(it) => &it.attrs,
            Item::Static(it) => &it.attrs,
            Item::Struct(it) => &it.attrs,
            Item::Trait(it) => &it.attrs,
            Item::Type(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        match item {
            Item::Use(it) => self.uses_tree(&mut Vec::new(), &it.tree),
            Item::Mod(it) if it.content.is_some() => {
                self.inner.push(it.ident.to_string());
                visit::visit_item(self, item);
                self.inner.pop();
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, it: &'ast syn::ImplItemFn) {
        if !is_for_tests(&it.attrs) {
            visit::visit_impl_item_fn(self, it);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.uses(&names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast Macro) {
        self.uses_tokens(it.tokens.clone());
        visit::visit_macro(self, it);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::breaches;

    #[test]
    fn the_table_leads_downwards_only() {
        for (at, (module, allowed)) in ALLOWED.iter().enumerate() {
            for used in *allowed {
                let below = ALLOWED[..at].iter().any(|(below, _)| below == used);
                assert!(below, "`{module}` uses `{used}`, which does not stand above it");
            }
        }
    }

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
