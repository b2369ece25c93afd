//! Fewer calls are reachable under profile `app` than under Docker's default,
//! found by trying each number.
//!
//! Rules over arguments are left out on both sides: a number counts as
//! reachable if any arguments pass. That favours Docker's profile, which has
//! rules for two calls, over ours, which has more.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod docker;
mod trial;

use std::collections::BTreeSet;
use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use cloison_sandbox::seccomp::{self, Profile, Verdict};
use cloison_tests::{Case, Outcome, REPORT};
use trial::{NUMBERS_END, Side};

/// What newer kernels pass by every filter.
const UNFILTERED: [&str; 2] = ["uretprobe", "uprobe"];

const CASES: &[Case] = &[
    Case::new(
        "docker_conditions_are_read_as_dockerd_reads_them",
        docker::conditions,
    ),
    Case::new(
        "docker_profile_that_allows_by_default_is_refused",
        docker::allowing_by_default,
    ),
    Case::new(
        "docker_profile_reaches_a_runtime_whole",
        docker::for_a_runtime,
    ),
    Case::new("kernel_version_ends_where_digits_end", docker::versions),
    Case::new("app_reaches_fewer_calls_than_docker_default", fewer_calls).lasting_s(300),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Some((first, rest)) = words.split_first()
        && first == trial::ARGUMENT
    {
        if let Err(error) = trial::become_attempt(rest) {
            eprintln!("{error}");
        }
        return ExitCode::FAILURE;
    }
    cloison_tests::main(CASES)
}

fn fewer_calls() -> Outcome {
    let docker = Path::new(cloison_tests::docker::DEFAULT);
    if !docker.exists() {
        return Outcome::Skipped("Docker's default profile is not here: run .ci/fetch".to_owned());
    }
    match compare(docker) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn compare(profile: &Path) -> Result<Outcome, Box<dyn Error>> {
    let attempt = Path::new("/tmp/attempt");
    fs::write(attempt, cloison_escape::ATTEMPT)?;
    fs::set_permissions(attempt, fs::Permissions::from_mode(0o755))?;
    let side = Side::Docker(profile.to_owned());
    let (ours, docker) = thread::scope(|scope| {
        let docker = scope.spawn(|| trial::reached(&side, attempt));
        (trial::reached(&Side::Ours, attempt), docker.join())
    });
    fs::remove_file(attempt)?;
    let ours = ours?;
    let docker = docker.map_err(|_| "the second thread ended")??;
    say(&format!(
        "reachable of {NUMBERS_END} numbers: {} under app, {} under Docker's default",
        ours.len(),
        docker.len()
    ));
    say(&format!(
        "under app only: {}",
        names(ours.difference(&docker))
    ));
    say(&format!(
        "under Docker's default only: {}",
        names(docker.difference(&ours))
    ));
    as_written("app", &ours, &allowed_by_app())?;
    as_written(
        "Docker's default",
        &docker,
        &trial::docker_numbers(profile)?,
    )?;
    Ok(if ours.len() < docker.len() {
        Outcome::Passed
    } else {
        Outcome::Failed("app reaches no fewer calls than Docker's default".to_owned())
    })
}

fn allowed_by_app() -> BTreeSet<u32> {
    let profile = Profile::app();
    (0..NUMBERS_END)
        .filter(|number| profile.verdict(*number) == Verdict::Allow)
        .collect()
}

/// A trial that finds other numbers than the profile lists has measured
/// something else than the profile.
fn as_written(whose: &str, reached: &BTreeSet<u32>, written: &BTreeSet<u32>) -> Result<(), String> {
    let differing: Vec<u32> = reached
        .symmetric_difference(written)
        .copied()
        .filter(|number| {
            !seccomp::call_name(*number).is_some_and(|name| UNFILTERED.contains(&name))
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let names = names(differing.iter());
    Err(format!("{whose}: tried and written differ in {names}"))
}

fn names<'a>(numbers: impl Iterator<Item = &'a u32>) -> String {
    let names: Vec<String> = numbers
        .map(|number| seccomp::call_name(*number).map_or(number.to_string(), str::to_owned))
        .collect();
    format!("{} ({})", names.len(), names.join(" "))
}

/// Says something that the runner shows also of a case that passed.
fn say(text: &str) {
    println!("{REPORT}{text}");
}
