//! Finds the object with the eBPF programs, which `cargo xtask build` makes, and has it embedded.
//!
//! Without it the agent is built all the same, and says at run time that it has no kernel watch.
//! Nothing is compiled here: making BPF takes a compiler that not everybody has.
//!
//! Also notes what the agent is built for and by what, for `everyline --version --verbose`.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=EVERYLINE_BPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let object = match env::var_os("EVERYLINE_BPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => {
            let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
            let object = manifest.join("../target/bpf/everyline.bpf.o");
            if !object.exists() {
                // Empty: none. Cargo would run this at every build to see whether it came.
                let _read_only = object.parent().map(fs::create_dir_all);
                let _read_only = fs::write(&object, []);
            }
            object
        }
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_default();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("everyline.bpf.o");
    if let Err(error) = fs::write(&out, bytes) {
        println!("cargo::error=Writing {} failed: {error}", out.display());
    }
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=EVERYLINE_TARGET={target}");
    println!("cargo::rustc-env=EVERYLINE_RUSTC={}", compiler());
}

/// The compiler's name and version.
fn compiler() -> String {
    let asked = Command::new(env::var_os("RUSTC").unwrap_or_default()).arg("--version").output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
