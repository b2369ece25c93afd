//! Compiles the program that the probes run inside a sandbox.
//!
//! By rustc alone, not as a dependency: it must be static whatever the target
//! of the workspace, optimised in every profile, and it is embedded as bytes.

use std::path::PathBuf;
use std::process::Command;
use std::{env, io};

const SOURCES: &str = "attempt/src";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={SOURCES}");
    let output = PathBuf::from(variable("OUT_DIR")?).join("attempt");
    let status = Command::new(variable("RUSTC")?)
        .args(["--edition", "2024", "--crate-name", "attempt", "-O"])
        .args(["-C", "target-feature=+crt-static", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "--cap-lints", "warn"])
        .args(["--target", &variable("TARGET")?])
        .arg(format!("{SOURCES}/main.rs"))
        .arg("-o")
        .arg(&output)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("rustc: {status}")))
    }
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}
