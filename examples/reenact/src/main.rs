//! The incident in miniature: 21 tenants on one host, one of them hostile.
//!
//! One tenant's server starts a program that an intruder uploaded, with the
//! rights of root inside. It encrypts what it reaches and tries to reach the
//! other twenty in every way it knows. What is left is then measured from
//! outside. Everything happens on a stage of its own, on files made for it.

mod account;
mod client;
mod error;
mod ground;
mod key;
mod measure;
mod outcome;
mod play;
mod table;
mod tenancy;
mod tenants;
mod walls;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use cloison_escape::stage::{self, Enclosure, Limits, Place};

use error::ReenactError;

/// What was measured is not what is claimed.
const EXIT_NOT_AS_CLAIMED: u8 = 1;
/// The re-enactment could not be played: nothing was measured.
const EXIT_NOT_PLAYED: u8 = 125;
/// How long the stage may last, many times what is needed.
const WALL_CLOCK_S_MAX: u64 = 60;

/// Re-enact the incident: 21 tenants, one hostile, and what is left.
///
/// Needs root. Takes a few seconds, touches nothing of this machine, and
/// exits with 0 only if what was measured is what is claimed.
#[derive(Debug, Parser)]
#[command(name = "reenact", version)]
struct Options {
    /// The same attack on tenants that are ordinary processes of one user
    #[arg(long)]
    without_walls: bool,
    /// Which tenant turns hostile
    #[arg(long, value_name = "TENANT", default_value = "cleaning")]
    hostile: String,
    /// Print what was measured as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match place() {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(EXIT_NOT_PLAYED)
        }
    }
}

/// Goes on the stage, or plays there.
fn place() -> Result<ExitCode, ReenactError> {
    match stage::enter().map_err(ReenactError::Refused)? {
        Place::Outside => {
            // What is wrong with the options is said before there is a stage.
            hostile(&Options::parse())?;
            go_on_stage()
        }
        Place::First(first) => first.run().map(ExitCode::from).map_err(ReenactError::Stage),
        Place::Inside(_stage) => run(&Options::parse()),
    }
}

fn go_on_stage() -> Result<ExitCode, ReenactError> {
    let enclosure = Enclosure {
        limits: Limits {
            wall_clock_s_max: Some(WALL_CLOCK_S_MAX),
            ..Limits::default()
        },
        ..Enclosure::default()
    };
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let program = env::current_exe().map_err(ReenactError::Itself)?;
    let code = enclosure.run(&program, &arguments);
    code.map(ExitCode::from).map_err(ReenactError::Stage)
}

fn hostile(options: &Options) -> Result<&'static str, ReenactError> {
    tenants::NAMES
        .into_iter()
        .find(|name| *name == options.hostile)
        .ok_or_else(|| ReenactError::NoSuchTenant(options.hostile.clone()))
}

fn run(options: &Options) -> Result<ExitCode, ReenactError> {
    let hostile = hostile(options)?;
    let outcome = play::play(!options.without_walls, hostile, cloison_escape::ATTEMPT)?;
    let text = if options.json {
        let json = serde_json::to_string_pretty(&outcome.summary());
        json.map_err(|error| ReenactError::Output(error.into()))? + "\n"
    } else {
        table::text(&outcome)
    };
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(ReenactError::Output)?;
    Ok(if outcome.shortcomings().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_NOT_AS_CLAIMED)
    })
}

/// Prints an error and what caused it.
fn report(error: &ReenactError) {
    let mut line = format!("reenact: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    eprintln!("{line}");
}
