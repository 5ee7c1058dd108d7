//! What is in the archive in the end, held against what was printed and what the audit states.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    node::Node,
    parts::Parts,
    told::Told,
    verdict::{Line, Table},
    workload::pods,
};
use crate::e2e::number;

/// What came of every pod, and the oracle's whole report.
pub(super) fn lines(node: &Node<'_>, parts: &Parts, told: &Told) -> Result<(Vec<Line>, Value)> {
    let truth = node.settings.path("varlib/truth");
    let pods = pods();
    let printed = pods.iter().map(|pod| pod.printed(&truth)).collect::<Result<Vec<_>>>()?;
    let writers: Vec<_> = pods.iter().zip(&printed).map(|(pod, p)| pod.expected(p)).collect();
    let manifest = node.settings.path("conf/manifest.json");
    let text = json!({"format": "cri", "seed": 0, "writers": writers}).to_string();
    fs::write(&manifest, text)?;
    let archive = node.settings.path("varlib/everyline/archive");
    let mut search = Command::new(&parts.everyline);
    search.args(["search", "-o", "json", "--pod", "app-*", "--archive-dir"]).arg(archive);
    let mut search = search.stdout(Stdio::piped()).spawn().context("Starting everyline")?;
    let records = search.stdout.take().context("everyline search has no output")?;
    let mut oracle = Command::new(&parts.oracle);
    oracle.args(["verify", "--each", "--ndjson", "/dev/stdin", "--manifest"]).arg(&manifest);
    let output = oracle.stdin(records).output().context("Starting the oracle")?;
    let status = search.wait()?;
    ensure!(status.success(), "everyline search failed ({status}).");
    let errors = || String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).with_context(errors)?;
    let (arrived, said) = (Table::by_writer(&report), told.lost());
    let lines = pods.iter().zip(&printed).map(|(pod, printed)| {
        let arrived = arrived.get(&u64::from(pod.writer)).copied();
        Line::of(*pod, printed, arrived, said.get(&pod.name()).copied().unwrap_or(0))
    });
    let lines = lines.collect::<Result<_>>()?;
    Ok((lines, report))
}

/// Prints everything; an error if something is not as it has to be.
pub(super) fn judge(table: &Table, report: &Value, audit: &Value) -> Result<()> {
    print!("{table}");
    let stated = stated(audit);
    let (least, most) = (table.least_lost(), table.most_lost());
    let at_least = audit["at_least"] == true;
    let or_more = if at_least { "at least " } else { "" };
    println!("    lost: {least} to {most} bytes; the audit states {or_more}{stated}");
    println!("    audit: {audit}");
    println!(
        "    {} records, doubled {} by number, {} with another uid; out of order {}, damaged {}, \
         with wrong metadata {}",
        report["records"],
        report["doubled"],
        report["uid_changed"],
        report["reordered"],
        report["damaged"],
        report["wrong_metadata"],
    );
    let unstated = least.saturating_sub(stated);
    ensure!(
        unstated == 0 || at_least,
        "At least {unstated} bytes were lost that the audit does not state."
    );
    for field in ["doubled", "damaged", "wrong_metadata", "unreadable"] {
        let count = number(report, field);
        ensure!(count == 0, "{count} records are {field}.\n{:#}", report["examples"]);
    }
    Ok(())
}

/// Bytes that an audit states as lost to the archive.
fn stated(audit: &Value) -> u64 {
    audit["sinks"]["local"]["lost"].as_u64().unwrap_or(0)
}
