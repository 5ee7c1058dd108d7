//! The manifest as it is delivered, made fit for a node on which much is printed.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// The manifest as it is delivered, but with room for all that is printed here, and with further `sinks`.
pub(super) fn manifest(sinks: &str) -> Result<String> {
    let path = workspace::root().join("deploy/kubernetes/everyline.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    let bound = "        max_bytes: 1GiB\n";
    ensure!(
        text.contains(bound),
        "The manifest's archive has another bound than is expected here."
    );
    let text = text.replace(bound, "        max_bytes: 256GiB\n");
    let after = "        max_age: 7d\n";
    Ok(text.replace(after, &format!("{after}{sinks}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_gets_a_sink_more_and_stays_one() {
        let plain = manifest("").unwrap();
        let more = manifest("      dead:\n        type: null\n").unwrap();
        assert_eq!(more.lines().count(), plain.lines().count() + 2);
        assert!(plain.contains("max_bytes: 256GiB"));
    }
}
