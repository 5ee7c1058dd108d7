//! Who uses whom: read from the sources, wherever a path stands. Tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, Macro, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::tidy::Files;

/// A module's path below the crate, its names from the outside in.
pub(super) type Module = Vec<String>;

/// A use of a module by another one: where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) line: usize,
}

/// Who uses whom, by file.
#[derive(Debug, Default)]
pub(in crate::tidy) struct Graph {
    pub(super) uses: BTreeMap<(Module, Module), Place>,
}

impl Graph {
    /// Reads the sources below a directory.
    pub(super) fn read(files: &Files, root: &str, breaches: &mut Vec<String>) -> Self {
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
}

/// The library's and the program's own file name all modules.
pub(super) fn is_root(module: &str) -> bool {
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
