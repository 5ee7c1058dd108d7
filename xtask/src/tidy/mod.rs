//! `cargo xtask tidy`: repository law, also a test.
//!
//! Code and documents must agree where a machine can check it: metric names, configuration keys,
//! guarantees and the tests that enforce them; and every file keeps the house rules. What needs
//! judgement is left to reviewers.

mod documents;
mod graph;
mod locks;
mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print which module uses which: `text`, from the ground up, or `dot`, for Graphviz
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "text")]
    graph: Option<As>,
}

/// How the graph is printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum As {
    Text,
    Dot,
}

/// Prints every breach; an error if there is one.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    if let Some(how) = args.graph {
        let graph = graph::read(&Files::read(&root)?)?;
        match how {
            As::Text => print!("{}", graph.to_text()),
            As::Dot => print!("{}", graph.to_dot()),
        }
    }
    let breaches = check(&root)?;
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 if args.graph.is_some() => {}
        0 => println!("Tidy."),
        count => bail!("{count} breaches of repository law."),
    }
    Ok(())
}

/// Every breach in the repository at `root`.
fn check(root: &Path) -> Result<Vec<String>> {
    let files = Files::read(root)?;
    let mut breaches = Vec::new();
    sources::check(&files, &mut breaches);
    documents::check(&files, &mut breaches);
    locks::check(&files, &mut breaches);
    graph::check(&files, &mut breaches);
    breaches.sort();
    Ok(breaches)
}

/// The repository's text files, paths relative to its root.
#[derive(Debug)]
struct Files(Vec<(PathBuf, String)>);

impl Files {
    fn read(root: &Path) -> Result<Self> {
        let (mut found, mut dirs) = (Vec::new(), vec![root.to_path_buf()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).with_context(|| format!("Listing {}", dir.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // In a linked worktree `.git` is a file.
                if name == "target" || name == ".git" {
                    continue;
                }
                if path.is_dir() {
                    dirs.push(path);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                    found.push((relative, text));
                }
            }
        }
        found.sort();
        Ok(Self(found))
    }

    fn get(&self, path: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(known, _)| known.as_path().cmp(Path::new(path)));
        index.ok().map(|index| self.0[index].1.as_str())
    }

    fn rust(&self) -> impl Iterator<Item = (&Path, &str)> {
        let rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        self.0.iter().filter(move |(path, _)| rust(path)).map(|(path, text)| (&**path, &**text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_law() {
        let breaches = check(&workspace::root()).unwrap();
        assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
    }

    /// A repository of these files only; what is required and not given is left out of the answer.
    pub(super) fn breaches(files: &[(&str, &str)]) -> Vec<String> {
        let mut files: Vec<_> = files.iter().map(|&(p, t)| (p.into(), t.to_owned())).collect();
        files.sort();
        let (files, mut breaches) = (Files(files), Vec::new());
        sources::check(&files, &mut breaches);
        documents::check(&files, &mut breaches);
        locks::check(&files, &mut breaches);
        graph::check(&files, &mut breaches);
        breaches.retain(|breach| !breach.contains("is missing"));
        breaches
    }
}
