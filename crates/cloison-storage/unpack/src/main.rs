//! Unpacks an archive from its standard input into a directory: what runs inside a
//! sandbox of the tenant whose archive it is.
//!
//! `cloison-unpack DIRECTORY [OPTIONS]`. The directory is empty; it is the
//! operator's word and links in it are followed. The options are those of
//! [`cloison_storage::unpack::Options`] as JSON. One line of JSON comes out: what
//! the archive became, or why it was refused.
//!
//! | exit code | |
//! | --- | --- |
//! | 0 | unpacked whole |
//! | 1 | the archive is refused, too large or broken |
//! | 2 | a call or the reading failed |
//! | 64 | it was called wrongly |
//!
//! Inside there may be no file of the host's: with
//! `RUSTFLAGS=-Ctarget-feature=+crt-static` and a `--target` it is one static file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use cloison_storage::unpack::{Error, Options, Unpacked, unpack};
use serde::Serialize;

/// Unpacked whole.
const WHOLE: u8 = 0;
/// The archive's fault.
const REFUSED: u8 = 1;
/// Something else's.
const FAILED: u8 = 2;
/// The caller's.
///
/// # Source
/// sysexits.h, `EX_USAGE`
const USAGE: u8 = 64;

/// What is said at the end.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Said {
    Unpacked(Unpacked),
    Refused(String),
    Failed(String),
    Usage(String),
}

fn main() -> ExitCode {
    let (said, code) = run(std::env::args_os().skip(1));
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer(&mut out, &said)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(FAILED),
    }
}

fn run(mut arguments: impl Iterator<Item = OsString>) -> (Said, u8) {
    let (Some(directory), options, None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        let usage = "cloison-unpack DIRECTORY [OPTIONS]".to_owned();
        return (Said::Usage(usage), USAGE);
    };
    let options = options.map_or_else(|| Ok(Options::default()), read);
    let options = match options {
        Ok(options) => options,
        Err(error) => return (Said::Usage(error), USAGE),
    };
    let directory = match File::open(&directory) {
        Ok(directory) => directory,
        Err(error) => {
            return (
                Said::Failed(format!("opening the directory: {error}")),
                FAILED,
            );
        }
    };
    match unpack(io::stdin().lock(), directory.as_fd(), &options) {
        Ok(unpacked) => (Said::Unpacked(unpacked), WHOLE),
        Err(error @ (Error::Read { .. } | Error::Call { .. })) => {
            (Said::Failed(chain(&error)), FAILED)
        }
        Err(error) => (Said::Refused(chain(&error)), REFUSED),
    }
}

fn read(options: OsString) -> Result<Options, String> {
    let options = options.into_string().map_err(|_| "options are UTF-8")?;
    serde_json::from_str(&options).map_err(|error| error.to_string())
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
