//! The fuzz targets have a lock file of their own, for they are no part of the workspace: what it names that
//! the workspace's names too is the same version, so what is fuzzed is what is shipped. And it names all that
//! the collector needs, or the targets could not be built with it.

use std::collections::{BTreeMap, BTreeSet};

use super::Files;

const LOCK: &str = "Cargo.lock";
const FUZZ: &str = "collector/fuzz/Cargo.lock";
const MANIFEST: &str = "collector/Cargo.toml";
/// What to do about all of it.
const TODO: &str = "run `cp Cargo.lock collector/fuzz/Cargo.lock`, then `cargo update --workspace \
                    --manifest-path collector/fuzz/Cargo.toml`";

pub(super) fn check(files: &Files, breaches: &mut Vec<String>) {
    let (Some(ours), Some(lock)) = (files.get(LOCK), files.get(FUZZ)) else { return };
    let (ours, fuzz) = (versions(ours), versions(lock));
    for (name, versions) in &fuzz {
        let known = ours.get(name);
        let mut others =
            versions.iter().filter(|version| known.is_some_and(|known| !known.contains(*version)));
        if let Some(other) = others.next() {
            breaches.push(format!("{FUZZ}: {name} {other} is not what {LOCK} has; {TODO}"));
        }
    }
    for name in dependencies(files.get(MANIFEST).unwrap_or_default()) {
        // Another package may need it too: that it is there says nothing of the collector.
        if !needs(lock, "collector").any(|needed| needed == name) {
            breaches.push(format!("{FUZZ}: {name}, of {MANIFEST}, is not in it; {TODO}"));
        }
    }
}

/// What a manifest's section of dependencies names.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0.trim()))
}

/// What a package of a lock file needs.
fn needs<'a>(lock: &'a str, package: &str) -> impl Iterator<Item = &'a str> {
    let is_it = |line: &&str| value(line, "name") == Some(package);
    let entry =
        lock.lines().skip_while(move |line| !is_it(line)).take_while(|line| !line.is_empty());
    let names = entry.filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
    // Of a package that has several versions the one is named too.
    names.filter_map(|name| name.split(' ').next())
}

/// The versions of each package that a lock file names.
fn versions(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = value(line, "name") {
            name = value;
        } else if let Some(version) = value(line, "version")
            && !name.is_empty()
        {
            found.entry(std::mem::take(&mut name)).or_default().insert(version);
        }
    }
    found
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::super::tests::breaches;

    #[test]
    fn another_version_than_the_workspaces_is_a_breach() {
        let lock = |packages: &[(&str, &str)]| -> String {
            let package = |(name, version): &(&str, &str)| {
                format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n")
            };
            format!("version = 4\n\n{}", packages.iter().map(package).collect::<String>())
        };
        let ours = lock(&[("bytes", "1.0.0"), ("rand", "0.8.0"), ("rand", "0.9.0")]);
        let same = lock(&[("bytes", "1.0.0"), ("rand", "0.9.0"), ("libfuzzer-sys", "0.4.0")]);
        assert_eq!(breaches(&[(super::LOCK, &ours), (super::FUZZ, &same)]), [""; 0]);
        let other = lock(&[("bytes", "1.0.1"), ("rand", "0.7.0")]);
        let found = breaches(&[(super::LOCK, &ours), (super::FUZZ, &other)]);
        assert_eq!(found.len(), 2, "{found:?}");
        let needs = "[dependencies]\nbytes = \"1\"\nnew = { version = \"2\" }\n\n[dev-dependencies]\nrand = \"0.8\"\n";
        let missing = |needed: &str| {
            let collector = "[[package]]\nname = \"collector\"\nversion = \"0.1.0\"\n";
            let fuzz = format!("{same}{collector}dependencies = [\n{needed}]\n\n");
            breaches(&[(super::LOCK, &ours), (super::FUZZ, &fuzz), (super::MANIFEST, needs)])
        };
        assert_eq!(missing(" \"bytes 1.0.0\",\n \"new\",\n"), [""; 0]);
        let new = missing(" \"bytes\",\n");
        assert!(new.len() == 1 && new[0].contains(": new, of"), "{new:?}");
        let bytes = missing(" \"new\",\n");
        assert!(bytes.len() == 1 && bytes[0].contains(": bytes, of"), "it is there for others");
        assert!(found[0].contains("bytes 1.0.1") && found[1].contains("rand 0.7.0"), "{found:?}");
    }
}
