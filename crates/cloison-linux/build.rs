//! Builds the static program (spawner and init) with the rustc that builds
//! everything else.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    for source in ["program", "src"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let (Some(rustc), Some(out)) = (env::var_os("RUSTC"), env::var_os("OUT_DIR")) else {
        eprintln!("run by cargo, which sets RUSTC and OUT_DIR");
        return ExitCode::FAILURE;
    };
    if env::var("TARGET").as_deref() != Ok("x86_64-unknown-linux-gnu") {
        eprintln!("Cloison builds for x86_64-unknown-linux-gnu only");
        return ExitCode::FAILURE;
    }
    let program = PathBuf::from(out).join("program");
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "cloison_linux"])
        .args(["--crate-type", "bin", "-C", "opt-level=3"])
        .args(["-C", "panic=abort", "-C", "overflow-checks=off"])
        .args(["-C", "debug-assertions=off", "-C", "codegen-units=1"])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "force-unwind-tables=no",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nodefaultlibs",
        ])
        .args(["-C", "link-arg=-static", "-C", "link-arg=-Wl,--gc-sections"])
        .args([
            "-C",
            "link-arg=-Wl,--build-id=none",
            "-C",
            "link-arg=-Wl,-z,noexecstack",
        ])
        .arg("-o")
        .arg(&program)
        .arg("program/main.rs")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("rustc ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot run rustc: {error}");
            ExitCode::FAILURE
        }
    }
}
