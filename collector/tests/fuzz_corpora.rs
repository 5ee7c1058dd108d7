//! The fuzz targets' seeds, replayed without a fuzzer (feature `fuzzing`): what a target holds the collector
//! to is held, and what a fuzzer once found stays mended.
#![cfg(feature = "fuzzing")]

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate uses them")]
mod targets;

use std::{fs, path::Path};

#[test]
fn every_seed_of_every_target_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let mut seeds: Vec<_> =
            fs::read_dir(corpora.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            println!("{}", seed.display());
            run(&fs::read(seed).unwrap());
        }
        fs::remove_dir_all(targets::scratch(name)).ok();
    }
}

/// A target without a binary would never be fuzzed.
#[test]
fn every_target_has_a_binary() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let binaries = manifest.lines().filter(|line| line.starts_with("path = \"fuzz_targets/"));
    assert_eq!(binaries.count(), targets::TARGETS.len());
    for (name, _) in targets::TARGETS {
        let main = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(main.contains(&format!("collector_fuzz::{name}::run(data)")), "{name}: {main}");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
    }
}
