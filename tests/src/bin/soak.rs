//! The soak as a program: puts itself on a stage, has mishaps, and says what
//! differs afterwards.
//!
//! ```text
//! cargo run -p cloison-tests --bin soak -- [--seconds N] [--seed N] [--threads N]
//! ```

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use cloison_escape::stage::{self, Enclosure, Place};
use cloison_tests::soak::{Settings, soak};

/// What the stage allows.
const SECONDS_MAX: u64 = 600;
const THREADS_MAX: u64 = 32;
const USAGE: &str = "usage: soak [--seconds 1..600] [--seed N] [--threads 1..32]";

fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match stage::enter() {
        Ok(Place::Outside) => {
            // The seed is drawn once, outside.
            let arguments = [
                ("--seconds", settings.seconds),
                ("--seed", settings.seed),
                ("--threads", settings.threads.into()),
            ];
            let arguments: Vec<OsString> = arguments
                .iter()
                .flat_map(|(name, value)| [OsString::from(name), value.to_string().into()])
                .collect();
            let code = Enclosure::default().run(Path::new("/proc/self/exe"), &arguments);
            told(code.map_err(|error| (error.exit_code(), error.to_string())))
        }
        Ok(Place::First(first)) => told(
            first
                .run()
                .map_err(|error| (error.exit_code(), error.to_string())),
        ),
        Ok(Place::Inside(_)) => {
            let soaked = soak(settings);
            println!("{soaked}");
            ExitCode::from(u8::from(!soaked.is_clean()))
        }
        Err(refusal) => told(Err((refusal.exit_code(), refusal.to_string()))),
    }
}

fn told(ended: Result<u8, (u8, String)>) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err((code, why)) => {
            eprintln!("{why}");
            ExitCode::from(code)
        }
    }
}

fn settings() -> Result<Settings, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut settings = Settings::with_seed(now.map_or(0, |now| now.as_secs()));
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} has no value"))?;
        let value: u64 = value.parse().map_err(|error| format!("{name}: {error}"))?;
        match name.as_str() {
            "--seconds" if (1..=SECONDS_MAX).contains(&value) => settings.seconds = value,
            "--seed" => settings.seed = value,
            "--threads" if (1..=THREADS_MAX).contains(&value) => {
                settings.threads = u32::try_from(value).unwrap_or(1);
            }
            _ => return Err(format!("{name} {value} cannot be")),
        }
    }
    Ok(settings)
}
