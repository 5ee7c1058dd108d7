//! A container image without a registry: static programs in a tar file that `ctr images import` takes
//! (Docker's archive layout).

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// What an image holds and does.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) tag: &'a str,
    /// Programs, and where they are in the image.
    pub(super) programs: &'a [(&'a Path, &'a str)],
    /// Names in `bin` that are links to `busybox`.
    pub(super) applets: &'a [&'a str],
    pub(super) entrypoint: &'a [&'a str],
    pub(super) command: &'a [&'a str],
}

/// Writes the image's archive into the empty directory `dir`.
pub(super) fn build(dir: &Path, image: &Image<'_>) -> Result<PathBuf> {
    let root = dir.join("rootfs");
    for name in ["bin", "tmp", "etc", "lib", "lib64", "usr/lib"] {
        fs::create_dir_all(root.join(name))?;
    }
    for (from, to) in image.programs {
        let copied = fs::copy(from, root.join(to));
        copied.with_context(|| format!("Copying {}", from.display()))?;
    }
    for applet in image.applets {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let layer = dir.join("layer.tar");
    tar(&root, &layer, &["."])?;
    let digest = sha256(&layer)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/bin"], "Entrypoint": image.entrypoint, "Cmd": image.command,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [image.tag], "Layers": ["layer.tar"]}
    ]);
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("image.tar");
    tar(dir, &archive, &["manifest.json", "config.json", "layer.tar"])?;
    Ok(archive)
}

fn tar(from: &Path, to: &Path, what: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(from);
    let status = command.arg("-cf").arg(to).args(what).status().context("Starting tar")?;
    ensure!(status.success(), "tar failed ({status}).");
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output().context("Starting sha256sum")?;
    let text = String::from_utf8(output.stdout)?;
    let digest = text.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(digest.to_owned())
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
