//! `everyline doctor --unpin`: removes what an agent left at work in the kernel.
//!
//! Not while an agent runs: it would go on with maps that the next one does not find.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;

use crate::{
    checkpoint::StateLock,
    cli::{print, status::Output},
    config::Config,
    watch::{self, Pinned},
};

pub(super) fn run(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let dir = &config.state_dir;
    // Without a state directory no agent runs, and none is made for this.
    let lock = dir.exists().then(|| StateLock::acquire(dir)).transpose();
    let _held = match lock {
        Ok(lock) => lock,
        Err(error) => {
            eprintln!("Nothing was unpinned. {error}");
            return Ok(ExitCode::from(error.exit_code()));
        }
    };
    let pin_dir = config.watch.kernel.pin_dir.display();
    let removed = watch::unpin(config).with_context(|| {
        format!("Unpinning in {pin_dir} failed; do it as the user that the agent runs as (root)")
    })?;
    print(&match output {
        Output::Text => text(config, removed.as_ref()),
        Output::Json => serde_json::json!({ "removed": removed }).to_string() + "\n",
    })
}

fn text(config: &Config, removed: Option<&Pinned>) -> String {
    let (state, pin_dir) = (config.state_dir.display(), config.watch.kernel.pin_dir.display());
    let Some(Pinned { directory, names, hooks: _ }) = removed else {
        return format!("Nothing was pinned in {pin_dir} for the state directory {state}.\n");
    };
    let mut text = String::new();
    for name in names {
        let _infallible = writeln!(text, "{name}");
    }
    let _infallible = writeln!(
        text,
        "Removed {} pins for the state directory {state}, and {} with them.",
        names.len(),
        directory.display(),
    );
    text
}
